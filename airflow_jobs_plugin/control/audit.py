"""Who did what to a job: entries of Airflow's audit log. Never the definition, which may hold secrets."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session


def note(session: Session, event: str, job_id: str, by: str, run_id: str | None = None, **extra: Any) -> None:
    """Write an entry with the transaction that does what it says."""
    from airflow.models.log import Log

    entry = Log(event=event, owner=by, owner_display_name=by, extra=json.dumps(extra) if extra else None)
    entry.dag_id = job_id
    entry.run_id = run_id
    session.add(entry)
