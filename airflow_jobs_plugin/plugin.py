"""What Airflow registers."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_jobs_plugin import listener
from airflow_jobs_plugin.api.paused import PausedJobs
from timetables.job import JobTimetable


class _Apps:
    """The REST API and the pages, made when the API server asks for them: other components are spared their imports."""

    _made: list[dict[str, Any]] | None = None

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        if self._made is None:
            from airflow_jobs_plugin.api.app import MOUNT, create_app
            from airflow_jobs_plugin.ui import app as pages

            # The first that a path fits takes it, and that of the pages is below that of the REST API.
            self._made = [
                {"name": "jobs tab", "app": pages.create_app(), "url_prefix": pages.MOUNT},
                {"name": "jobs", "app": create_app(), "url_prefix": MOUNT},
            ]
        return self._made


class _Views:
    """Where Airflow's UI shows the pages; made when it asks, since that depends on the configuration."""

    _made: list[dict[str, Any]] | None = None

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        if self._made is None:
            from airflow_jobs_plugin import settings
            from airflow_jobs_plugin.ui.shell import external_views

            self._made = external_views(settings.base_path())
        return self._made


class JobsPlugin(AirflowPlugin):
    """The jobs plugin."""

    name = "airflow_jobs"
    listeners = [listener]
    timetables = [JobTimetable]
    fastapi_apps = _Apps()
    external_views = _Views()
    fastapi_root_middlewares = [{"name": "paused jobs", "middleware": PausedJobs, "args": [], "kwargs": {}}]
