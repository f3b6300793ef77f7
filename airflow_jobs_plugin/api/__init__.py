"""What Airflow's API server is given: routes of its own, and a guard in front of Airflow's."""
