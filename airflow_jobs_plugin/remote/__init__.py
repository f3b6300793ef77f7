"""The command line over the REST API: jobs of an Airflow anywhere. Imports no Airflow."""
