"""Who did what to a job: entries of Airflow's audit log, and lines of the component's. Never the definition, which may
hold secrets."""

from __future__ import annotations

import json
from typing import Any

import structlog
from sqlalchemy import event as events
from sqlalchemy.orm import Session

log = structlog.get_logger(__name__)


def note(session: Session, event: str, job_id: str, by: str, run_id: str | None = None, **extra: Any) -> None:
    """Write an entry with the transaction that does what it says, and a line when it is done: of a transaction that is
    tried again, one. To be called last, since the end of a savepoint would count as the transaction's."""
    from airflow.models.log import Log

    entry = Log(event=event, owner=by, owner_display_name=by, extra=json.dumps(extra) if extra else None)
    entry.dag_id = job_id
    entry.run_id = run_id
    session.add(entry)
    which = {"job_id": job_id, **({"run_id": run_id} if run_id is not None else {})}
    events.listen(session, "after_commit", lambda _: log.info(event, **which, by=by, **extra), once=True)
