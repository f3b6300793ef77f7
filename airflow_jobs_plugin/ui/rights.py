"""What of a page its reader gets to see. The operations ask for the same rights again, whatever a page has offered."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from airflow_jobs_plugin.service.callers import Caller, Right

#: The rights that buttons and parts of pages need, by what templates call them.
NAMED: dict[str, Right] = {
    "read": ("GET", None),
    "edit": ("PUT", None),
    "delete": ("DELETE", None),
    "trigger": ("POST", "RUN"),
    "see_runs": ("GET", "RUN"),
    "change_runs": ("PUT", "RUN"),
    "see_items": ("GET", "TASK_INSTANCE"),
    "see_results": ("GET", "XCOM"),
}


def of_jobs(me: Caller, session: Session, job_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """The names of what the caller may do to each of some jobs."""
    found = me.rights(session, job_ids, NAMED.values())
    return {job_id: frozenset(name for name, right in NAMED.items() if right in has) for job_id, has in found.items()}


def of_job(me: Caller, session: Session, job_id: str) -> frozenset[str]:
    """The same of one job."""
    return of_jobs(me, session, [job_id])[job_id]


__all__ = ["NAMED", "of_job", "of_jobs"]
