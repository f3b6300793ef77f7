"""The results of a run that has ended are delivered once more: closing runs again, and no item does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.jobs import get_job
from airflow_jobs_plugin.control.marks import JUDGED, mark
from airflow_jobs_plugin.control.runs import RunView, get_run
from airflow_jobs_plugin.errors import ConflictError
from airflow_jobs_plugin.run.items import SINK
from airflow_jobs_plugin.run.notes import REDELIVER, memory_key


def redeliver(session: Session, job_id: str, run_id: str) -> None:
    """Have a run close again, with the sink as the job has it now and everything else as it was.

    What had failed goes out under the id that it had, so that a receiver that got it after all can tell; of a run that
    delivers item by item, only what is still owed. What had been delivered goes out as a new message.

    :raises NotFoundError: there is no such job or run
    :raises ConflictError: the job is paused (``job-paused``) or has no sink (``no-sink``); the run has not ended
        (``run-active``), was terminated (``run-terminated``), or never had a list (``nothing-to-deliver``)
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.state import DagRunState

    job = get_job(session, job_id)
    run: Any = session.scalar(
        select(DagRun).where(DagRun.dag_id == job_id, DagRun.run_id == run_id).with_for_update(of=DagRun)
    )
    view = get_run(session, job_id, run_id)
    if view.status in ("TERMINATED", "CANCELED"):
        raise ConflictError("run-terminated", f"the run {run_id!r} was terminated; nothing of it is delivered")
    if run.state not in (DagRunState.SUCCESS, DagRunState.FAILED):
        raise ConflictError("run-active", f"the run {run_id!r} has not ended; its results are delivered when it closes")
    if view.counts.total is None:
        raise ConflictError("nothing-to-deliver", f"the plan of {run_id!r} failed, so there are no results")
    if job.outline.sink is None:
        raise ConflictError("no-sink", f"the job {job_id!r} has no sink; give it one first")
    if job.paused:
        raise ConflictError("job-paused", f"the job {job_id!r} is paused; resume it first")
    closing = session.scalars(
        select(TaskInstance)
        .where(TaskInstance.dag_id == job_id, TaskInstance.run_id == run_id, TaskInstance.task_id == SINK)
        .with_for_update(of=TaskInstance)
    ).all()
    before = _noted(session, run) or _told(view)
    # As it goes back to, should somebody end the redelivery.
    judged = {"state": run.state, "endDate": run.end_date and run.end_date.isoformat(), "report": view.report}
    clear_task_instances(list(closing), session, dag_run_state=False)
    # Clearing by hand counts; the run's start stays what it was, since none of its items runs again.
    run.clear_number += 1
    run._state = DagRunState.RUNNING
    run.end_date = run.last_scheduling_decision = None
    delivered = (before.get("done") or {}).get("status") == "delivered"
    asked: dict[str, Any] = {
        "clearNumber": run.clear_number,
        "again": delivered or bool(before.get("again")),
        # Items do not run again, so the judgement stands, whatever the definition tolerates by now.
        "status": view.report.get("status"),
        "judged": judged,
    }
    if not delivered:
        asked |= {"message": before.get("message"), "sent": before.get("sent", ""), "begin": before.get("begin", 0)}
    row = _row(session, run, REDELIVER)
    row.value, row.updated_at, row.expires_at = json.dumps(asked), datetime.now(UTC), None
    session.add(row)
    session.flush()


def under_way(session: Session, run: Any) -> dict[str, Any] | None:
    """What a run that is closing anew was judged before; None if it closes for the first time, or not at all."""
    asked: dict[str, Any] = json.loads(_row(session, run, REDELIVER).value or "{}")
    return asked.get("judged") if asked.get("clearNumber") == run.clear_number else None


def give_up(session: Session, run: Any, judged: dict[str, Any]) -> None:
    """Have a run be what it was judged before its redelivery, once its tasks have ended.

    What the redelivery has sent stays noted, and the next one goes on from there.
    """
    from airflow.utils.state import DagRunState

    run.set_state(DagRunState(judged["state"]))
    if judged["endDate"]:
        run.end_date = datetime.fromisoformat(judged["endDate"])
    # Not into the XCom where closing leaves its report: the process that was ended learns of it with its next
    # heartbeat, and may leave another one there until then.
    mark(session, run, JUDGED, {"report": judged["report"]})


def _noted(session: Session, run: Any) -> dict[str, Any]:
    """What the last closing remembers; of one that never began, what it was asked to do."""
    found: dict[str, Any] = json.loads(_row(session, run, memory_key(run.clear_number)).value or "{}")
    asked: dict[str, Any] = {} if found else json.loads(_row(session, run, REDELIVER).value or "{}")
    return asked if asked.get("clearNumber") == run.clear_number else found


def _told(view: RunView) -> dict[str, Any]:
    """What there is to know where Airflow forgets: it does of tasks that succeed, with ``[state_store]
    clear_on_success``, and did of all after a month while notes were kept for its default time."""
    return {"done": view.delivery, "message": (view.delivery or {}).get("id")}


def _row(session: Session, run: Any, key: str) -> Any:
    """What the closing task keeps under a key, or a row for it that is new."""
    from airflow.models.task_state_store import TaskStateStoreModel as Store

    place = {"dag_run_id": run.id, "task_id": SINK, "map_index": -1, "key": key}
    found = session.scalar(select(Store).filter_by(**place))
    return found or Store(dag_id=run.dag_id, run_id=run.run_id, value="", **place)
