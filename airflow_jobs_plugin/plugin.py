"""What Airflow registers."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_jobs_plugin import preload


class JobsPlugin(AirflowPlugin):
    """The jobs plugin."""

    name = "airflow_jobs"
    listeners = [preload]
