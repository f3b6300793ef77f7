"""Every job file below jobs/ becomes an Airflow DAG of its own."""

from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
