"""What the plugin does when a component of Airflow starts, and when a task has not."""

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
    _prepare()
    preload()


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    """Called by the scheduler with what its executor has lost; in task processes too, which have their own word."""
    if type(task_instance).__module__ != "airflow.models.taskinstance":
        return
    from airflow_jobs_plugin.control.starts import forgive

    forgive(task_instance)


def _prepare() -> None:
    from airflow_jobs_plugin.control import next_runs, stats, tokens
    from airflow_jobs_plugin.control.transactions import transact

    try:
        stats.initialize()
    except Exception:
        log.warning("Could not count what was missed while no scheduler ran", exc_info=True)
    for what, work in (
        ("look for runs that were missed", next_runs.forget_missed),
        ("make the key of run tokens", tokens.ensure_key),
    ):
        try:
            transact(work)
        except Exception:
            log.warning("Could not %s", what, exc_info=True)
