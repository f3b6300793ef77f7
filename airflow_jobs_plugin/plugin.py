"""What Airflow registers."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_jobs_plugin import listener
from airflow_jobs_plugin.api.paused import PausedJobs
from timetables.job import JobTimetable


class _Apps:
    """The REST API, made when the API server asks for it: the other components are spared its imports."""

    _made: list[dict[str, Any]] | None = None

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        if self._made is None:
            from airflow_jobs_plugin.api.app import MOUNT, create_app

            self._made = [{"name": "jobs", "app": create_app(), "url_prefix": MOUNT}]
        return self._made


class JobsPlugin(AirflowPlugin):
    """The jobs plugin."""

    name = "airflow_jobs"
    listeners = [listener]
    timetables = [JobTimetable]
    fastapi_apps = _Apps()
    fastapi_root_middlewares = [{"name": "paused jobs", "middleware": PausedJobs, "args": [], "kwargs": {}}]
