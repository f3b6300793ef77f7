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


#: Those that a row of the list of jobs needs.
LISTED = ("edit", "delete", "trigger", "see_runs")


def of_jobs(me: Caller, session: Session, job_ids: Iterable[str], names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Which of some named rights the caller has on each of some jobs."""
    wanted = {name: NAMED[name] for name in names}
    found = me.rights(session, job_ids, wanted.values())
    return {job_id: frozenset(name for name, right in wanted.items() if right in has) for job_id, has in found.items()}


def of_job(me: Caller, session: Session, job_id: str) -> frozenset[str]:
    """All that the caller may do to one job."""
    return of_jobs(me, session, [job_id], NAMED)[job_id]


__all__ = ["LISTED", "NAMED", "of_job", "of_jobs"]
