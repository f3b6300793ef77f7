"""``python -m airflow_jobs_plugin``."""

from airflow_jobs_plugin.cli import run

run()
