"""Jobs that were deleted stay deleted."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import buckets
from airflow_jobs_plugin.store import variables

log = logging.getLogger(__name__)

#: For so long a parse that began before a job was deleted may still bring its DAG back.
REMEMBER_DELETED = timedelta(minutes=15)


def before_dag_write(connection: Any, dag: Any) -> None:
    """Called with a ``DagModel`` before it is written, in any process.

    A parse that began before a job was deleted still knows it and brings its DAG back, until the next parse. It comes
    back stale, as a DAG that is gone, and paused: nothing starts.
    """
    back = not dag.is_stale and inspect(dag).attrs.is_stale.history.has_changes()
    if not back or not variables.is_job_id(dag.dag_id):
        return
    with Session(bind=connection) as session:
        bucket = buckets.read(session, dag.dag_id).bucket
    when = bucket.deleted.get(dag.dag_id)
    if when is not None and datetime.fromisoformat(when) > datetime.now(UTC) - REMEMBER_DELETED:
        log.info("The job %s was deleted; a parse that began before has brought its DAG back, as stale", dag.dag_id)
        dag.is_stale = dag.is_paused = True
