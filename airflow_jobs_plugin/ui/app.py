"""The pages as one app, which Airflow's API server mounts below the REST API's path."""

from __future__ import annotations

from fastapi import FastAPI

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.ui import assets, editing, errors, items, job, jobs, run, run_changes, shell
from airflow_jobs_plugin.ui.links import MOUNT
from airflow_jobs_plugin.ui.security import Guarded


def create_app() -> FastAPI:
    """The app. It describes itself nowhere: its pages are for people."""
    app = FastAPI(title="Jobs tab", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    for part in (assets, jobs, editing, job, run, run_changes, items, shell):
        app.include_router(part.router)
    app.add_middleware(Guarded)
    errors.install(app)
    return app


__all__ = ["MOUNT", "create_app"]
