"""Ending runs before their time: calls in flight are canceled, what waits never starts, nothing is delivered.

One transaction locks the run, then its instances, as the scheduler does. Setting only the run, or the instances one
by one, lets others start meanwhile.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import redelivery
from airflow_jobs_plugin.control.marks import TERMINATED, mark
from airflow_jobs_plugin.errors import NotFoundError


def unfinished_runs(session: Session, job_id: str) -> list[str]:
    """The ids of a job's runs that have not ended."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState

    states = [DagRunState.QUEUED, DagRunState.RUNNING]
    return list(session.scalars(select(DagRun.run_id).where(DagRun.dag_id == job_id, DagRun._state.in_(states))))


def terminate(
    session: Session, job_id: str, run_id: str, *, by: str, why: str | None = None
) -> Literal["run", "redelivery"] | None:
    """End a run now; returns None, having changed nothing, if it had ended. Raises ``NotFoundError``.

    Of a run that had ended, and is being delivered anew, that alone is ended: it is what it was judged before.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import DagRunState, State, TaskInstanceState

    run = session.scalar(
        select(DagRun).where(DagRun.dag_id == job_id, DagRun.run_id == run_id).with_for_update(of=DagRun)
    )
    if run is None:
        raise NotFoundError("run-not-found", f"the job {job_id!r} has no run {run_id!r}")
    if run.state not in (DagRunState.QUEUED, DagRunState.RUNNING):
        return None
    judged = redelivery.under_way(session, run)
    skipped = TaskInstanceState.SKIPPED
    now = datetime.now(UTC)
    # A task that runs learns from its next heartbeat that it no longer does; what is queued is refused when it tries
    # to start.
    session.execute(
        update(TaskInstance)
        .where(
            TaskInstance.dag_id == job_id,
            TaskInstance.run_id == run_id,
            TaskInstance.state.is_(None) | TaskInstance.state.not_in(list(State.finished)),
        )
        .values(
            state=TaskInstanceState(judged["state"]) if judged else skipped,
            start_date=func.coalesce(TaskInstance.start_date, now),
            end_date=now,
        )
        .execution_options(synchronize_session=False)
    )
    if judged is not None:
        redelivery.give_up(session, run, judged)
        session.flush()
        return "redelivery"
    mark(session, run, TERMINATED, {"by": by, "at": now.isoformat(), "why": why, "started": run.start_date is not None})
    run.set_state(DagRunState.FAILED)
    session.flush()
    return "run"


def terminate_all(session: Session, job_id: str, run_ids: list[str], *, by: str, why: str) -> None:
    """``terminate`` for several runs of a job."""
    for run_id in run_ids:
        terminate(session, job_id, run_id, by=by, why=why)
