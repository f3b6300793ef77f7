"""What the plugin does when a component of Airflow starts."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from airflow_jobs_plugin.preload import preload

log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Called with the component's job, and in every task process with a marker, which is of no interest here."""
    if type(component).__name__ != "Job":
        return
    _forget_missed_runs()
    preload()


def _forget_missed_runs() -> None:
    from airflow.utils.session import create_session

    from airflow_jobs_plugin.control import next_runs

    try:
        with create_session() as session:
            next_runs.forget_missed(session)
    except Exception:
        log.warning("Could not look for runs that were missed", exc_info=True)
