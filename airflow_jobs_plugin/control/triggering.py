"""Runs started by hand, or by a program."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control.jobs import get_job
from airflow_jobs_plugin.errors import ConflictError, DefinitionError
from airflow_jobs_plugin.run.items import OVERRIDE, override_of, too_many


def trigger(
    session: Session,
    job_id: str,
    *,
    by: str,
    payload: list[Any] | None = None,
    note: str | None = None,
    key: str | None = None,
) -> tuple[str, bool]:
    """Start a run now; returns its id, and whether it is new.

    :param payload: replaces the job's own list for this run
    :param key: an idempotency key: a second call with it answers as the first one did
    :raises NotFoundError: no such job
    :raises ConflictError: the job is paused or not ready; or the key was used with another payload
    :raises DefinitionError: the payload is wrong
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    view = get_job(session, job_id)
    conf = {} if payload is None else {OVERRIDE: payload}
    if key is not None:
        run_id = _run_id_of(job_id, key)
        known = session.scalar(select(DagRun).where(DagRun.dag_id == job_id, DagRun.run_id == run_id))
        if known is not None:
            if (known.conf or {}) != conf:
                raise ConflictError(
                    "idempotency-key-reused", "this Idempotency-Key was used with another payload; choose another key"
                )
            return run_id, False
    else:
        run_id = f"manual__{datetime.now(UTC).isoformat()}_{uuid.uuid4().hex[:8]}"
    if not view.registered:
        raise ConflictError("job-not-ready", f"Airflow does not know {job_id!r} yet; try again in some seconds")
    items = override_of(view.job, conf)
    if items is not None:
        size = view.job.configuration.items_per_task
        if problem := too_many(len(items), size, settings.max_map_length()):
            raise DefinitionError(problem)
    # Whoever pauses the job waits for this transaction, or this one for theirs.
    paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == job_id).with_for_update(read=True))
    if paused:
        raise ConflictError("job-paused", f"the job {job_id!r} is paused; resume it first")
    _create(session, job_id, run_id, conf, by, note)
    return run_id, True


def _run_id_of(job_id: str, key: str) -> str:
    """The same for the same key, so that the database itself refuses a second run."""
    return f"manual__{hashlib.sha256(json.dumps([job_id, key]).encode()).hexdigest()[:32]}"


def _create(session: Session, job_id: str, run_id: str, conf: dict[str, Any], by: str, note: str | None) -> None:
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    serialized = SerializedDagModel.get(job_id, session=session)
    if serialized is None:
        raise ConflictError("job-not-ready", f"Airflow does not know {job_id!r} yet; try again in some seconds")
    run = serialized.dag.create_dagrun(
        run_id=run_id,
        run_after=datetime.now(UTC),
        conf=conf,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.REST_API,
        triggering_user_name=by,
        state=DagRunState.QUEUED,
        session=session,
    )
    if note:
        run.note = (note, by)
    session.flush()
