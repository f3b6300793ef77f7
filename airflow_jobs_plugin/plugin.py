"""What Airflow registers."""

from __future__ import annotations

import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_jobs_plugin import listener
from timetables.job import JobTimetable


class JobsPlugin(AirflowPlugin):
    """The jobs plugin."""

    name = "airflow_jobs"
    listeners = [listener]
    timetables = [JobTimetable]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Called once in every process. Only Airflow's own components have a database session."""
        if os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "server":
            from airflow_jobs_plugin.control import next_runs

            next_runs.install()
