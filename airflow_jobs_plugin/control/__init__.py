"""Everything done to jobs and runs through Airflow's database. The only room that touches Airflow's models."""
