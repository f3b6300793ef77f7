"""Runs of a job as those who look at them see them: status and counts, at any moment, in one query."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, String, and_, case, cast, exists, func, literal, select
from sqlalchemy.orm import Session, aliased

from airflow_jobs_plugin.control.batches import RUNNING, counts_of, sizes_row
from airflow_jobs_plugin.control.marks import JUDGED, OWNER, TERMINATED, read_mark
from airflow_jobs_plugin.errors import NotFoundError
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN, SINK
from airflow_jobs_plugin.run.tokens import microseconds

Status = Literal["PENDING", "PAUSING", "PAUSED", "SUCCESS", "COMPLETED", "FAILURE", "TERMINATED", "CANCELED"]
STATUSES: tuple[Status, ...] = (
    "PENDING", "PAUSING", "PAUSED", "SUCCESS", "COMPLETED", "FAILURE", "TERMINATED", "CANCELED",
)  # fmt: skip
SORTS = ("createdAt", "startTime", "endTime")

#: What a task instance's state means for an item. None and what is not named here: pending.
ITEM_STATES: dict[str, str] = {
    "running": "running",
    "restarting": "running",
    "up_for_retry": "retrying",
    "success": "succeeded",
    "failed": "failed",
    "upstream_failed": "failed",
    "skipped": "canceled",
}
#: What Airflow leaves of items that a run had before it was cleared as a whole: none of the run's any more.
GONE = "removed"
KINDS = ("pending", "running", "retrying", "succeeded", "failed", "canceled")


@dataclass(frozen=True)
class ItemCounts:
    """Items of a run by what has become of them. ``total`` is None before the plan has fixed the list."""

    total: int | None
    pending: int = 0
    running: int = 0
    retrying: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0


@dataclass(frozen=True)
class RunView:
    """A run for those who look at it."""

    id: str
    job_id: str
    status: Status
    manual: bool
    created_at: datetime
    updated_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    counts: ItemCounts
    note: str | None
    triggered_by: str | None
    terminated: dict[str, Any] | None
    """``{"by", "at", "why"}`` of a run that was terminated."""
    delivery: dict[str, Any] | None
    """What became of the delivery, as the sink reported it."""
    report: dict[str, Any]
    """The whole report of the closing task; empty where there is none (yet)."""
    version: Any
    """Of the DAG, when the run was created."""


def get_run(session: Session, job_id: str, run_id: str) -> RunView:
    """One run. Raises ``NotFoundError``."""
    from airflow.models.dagrun import DagRun

    found = session.execute(_runs([job_id], select(DagRun.id).where(DagRun.dag_id == job_id, DagRun.run_id == run_id)))
    row = found.first()
    if row is None:
        raise NotFoundError("run-not-found", f"the job {job_id!r} has no run {run_id!r}")
    return _views(session, [row])[0]


def latest_runs(session: Session, job_ids: Sequence[str]) -> dict[str, RunView]:
    """The newest run of each of some jobs, by job; jobs without a run are left out."""
    from airflow.models.dagrun import DagRun

    if not job_ids:
        return {}
    # Of equal times the one that was made last.
    order = (DagRun.run_after.desc(), DagRun.id.desc())
    place = func.row_number().over(partition_by=DagRun.dag_id, order_by=order).label("place")
    placed = select(DagRun.id, place).where(DagRun.dag_id.in_(job_ids)).subquery("placed")
    rows = session.execute(_runs(job_ids, select(placed.c.id).where(placed.c.place == 1))).all()
    return {view.job_id: view for view in _views(session, rows)}


def run_after(session: Session, job_id: str, run_id: str) -> int | None:
    """By which a run is told from an earlier one of the same id, as run tokens carry it; None if there is no run."""
    from airflow.models.dagrun import DagRun

    found = session.scalar(select(DagRun.run_after).where(DagRun.dag_id == job_id, DagRun.run_id == run_id))
    return None if found is None else microseconds(found)


def list_runs(
    session: Session,
    job_id: str,
    *,
    limit: int,
    offset: int = 0,
    sort: str = "createdAt",
    descending: bool = True,
    status: Status | None = None,
    manual: bool | None = None,
) -> tuple[list[RunView], int]:
    """A page of a job's runs, and how many match in all."""
    from airflow.models.dagrun import DagRun

    column: Any = {"startTime": DagRun.start_date, "endTime": DagRun.end_date}.get(sort, DagRun.created_at)
    order = (column.is_(None), column.desc() if descending else column.asc(), DagRun.id.desc())
    wanted = select(DagRun.id).where(DagRun.dag_id == job_id)
    if manual is not None:
        wanted = wanted.where(DagRun.run_type == "manual" if manual else DagRun.run_type != "manual")
    if status is not None:
        wanted = wanted.where(_has_status(status))
    page = wanted.order_by(*order).limit(limit).offset(offset)
    total = select(func.count()).select_from(wanted.subquery("wanted"))
    rows = session.execute(_runs([job_id], page, total).order_by(*order)).all()
    if rows:
        return _views(session, rows), rows[0].total_runs
    return [], (session.scalar(total) or 0) if offset else 0


def _has_status(status: Status) -> Any:
    """The condition on ``DagRun`` that ``_status`` and ``_counts`` come to."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel as Store
    from airflow.models.taskinstance import TaskInstance

    def any_item(*kinds: str) -> Any:
        return exists().where(
            TaskInstance.dag_id == DagRun.dag_id,
            TaskInstance.run_id == DagRun.run_id,
            TaskInstance.task_id == PAYLOAD,
            TaskInstance.state.in_([state for state, kind in ITEM_STATES.items() if kind in kinds]),
        )

    def marked(pattern: str) -> Any:
        return exists().where(
            *_mark_of(Store, DagRun, TERMINATED),
            # As ``marks.mark`` writes it: quotes in what people wrote are escaped, so nothing else reads like this.
            Store.value.like(literal(pattern) + cast(DagRun.clear_number, String) + literal("}")),
        )

    if status in ("PENDING", "PAUSING", "PAUSED"):
        paused = exists().where(DagModel.dag_id == DagRun.dag_id, DagModel.is_paused.is_(True))
        condition = ~paused
        if status != "PENDING":
            condition = and_(paused, any_item("running") if status == "PAUSING" else ~any_item("running"))
        return and_(DagRun._state.in_(["queued", "running"]), condition)
    if status in ("SUCCESS", "COMPLETED"):
        bad = any_item("failed", "canceled")
        return and_(DagRun._state == "success", ~bad if status == "SUCCESS" else bad)
    if status == "FAILURE":
        return and_(DagRun._state == "failed", ~marked('%"clearNumber": '))
    started = "true" if status == "TERMINATED" else "false"
    return and_(DagRun._state == "failed", marked(f'%"started": {started}, "clearNumber": '))


def _mark_of(store: Any, run: Any, key: str) -> tuple[Any, ...]:
    """The row of a mark: that a run was terminated, or what it was judged before a redelivery that was ended."""
    return store.dag_run_id == run.id, store.task_id == OWNER, store.map_index == -1, store.key == key


def _runs(job_ids: Sequence[str], page: Select[Any], total: Select[Any] | None = None) -> Any:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun, DagRunNote
    from airflow.models.task_state_store import TaskStateStoreModel as Store
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskmap import TaskMap
    from airflow.models.xcom import XComModel

    sizes, judged = aliased(Store), aliased(Store)
    ids = page.subquery("page")
    kinds = {kind: [state for state, k in ITEM_STATES.items() if k == kind] for kind in KINDS}
    item: Any = and_(TaskInstance.map_index >= 0, TaskInstance.state.is_(None) | (TaskInstance.state != GONE))
    named = list(ITEM_STATES)

    def count(kind: str) -> Any:
        is_kind: Any = TaskInstance.state.in_(kinds[kind])
        if kind == "pending":
            is_kind = TaskInstance.state.is_(None) | TaskInstance.state.not_in(named)
        return func.sum(case((item & is_kind, 1), else_=0)).label(kind)

    counted = (
        select(
            TaskInstance.dag_id.label("of_job"),
            TaskInstance.run_id.label("of_run"),
            func.sum(case((item, 1), else_=0)).label("expanded"),
            func.sum(case((TaskInstance.state.in_(RUNNING), 1), else_=0)).label("active"),
            # Before the list is expanded there is one instance, for all.
            func.max(case((TaskInstance.map_index < 0, TaskInstance.state))).label("together"),
            *(count(kind) for kind in KINDS),
        )
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(TaskInstance.dag_id.in_(job_ids), TaskInstance.task_id == PAYLOAD, DagRun.id.in_(select(ids.c.id)))
        .group_by(TaskInstance.dag_id, TaskInstance.run_id)
        .subquery("counted")
    )
    counted_runs: Any = literal(1) if total is None else total.scalar_subquery()
    return (
        select(
            DagRun.id,
            DagRun.run_id,
            DagRun.dag_id,
            DagRun._state.label("state"),
            DagRun.run_type,
            DagRun.created_at,
            DagRun.updated_at,
            DagRun.queued_at,
            DagRun.run_after,
            DagRun.start_date,
            DagRun.end_date,
            DagRun.clear_number,
            DagRun.triggering_user_name,
            DagRun.created_dag_version_id,
            DagModel.is_paused,
            DagRunNote.content.label("note"),
            Store.value.label("terminated"),
            judged.value.label("judged"),
            sizes.value.label("sizes"),
            XComModel.value.label("report"),
            TaskMap.length.label("planned"),
            counted_runs.label("total_runs"),
            *(column for column in counted.c if column.key not in ("of_job", "of_run")),
        )
        .join(ids, ids.c.id == DagRun.id)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .outerjoin(counted, (counted.c.of_job == DagRun.dag_id) & (counted.c.of_run == DagRun.run_id))
        .outerjoin(DagRunNote, DagRunNote.dag_run_id == DagRun.id)
        .outerjoin(Store, and_(*_mark_of(Store, DagRun, TERMINATED)))
        .outerjoin(judged, and_(*_mark_of(judged, DagRun, JUDGED)))
        .outerjoin(sizes, and_(*sizes_row(sizes, DagRun)))
        .outerjoin(
            XComModel,
            (XComModel.dag_run_id == DagRun.id)
            & (XComModel.task_id == SINK)
            & (XComModel.map_index == -1)
            & (XComModel.key == "return_value"),
        )
        .outerjoin(
            TaskMap,
            (TaskMap.dag_id == DagRun.dag_id)
            & (TaskMap.run_id == DagRun.run_id)
            & (TaskMap.task_id == PLAN)
            & (TaskMap.map_index == -1),
        )
    )


def _views(session: Session, rows: Sequence[Any]) -> list[RunView]:
    batched = {row.id: row.sizes for row in rows if row.sizes is not None}
    counts = counts_of(session, batched) if batched else {}
    return [_view(row, _batched(row, counts[row.id]) if row.id in counts else _counts(row)) for row in rows]


def _batched(row: Any, counts: Counter[str]) -> ItemCounts:
    return ItemCounts(sum(json.loads(row.sizes)["sizes"]) if row.planned is not None else None, **counts)


def _view(row: Any, counts: ItemCounts) -> RunView:
    terminated = read_mark(row.terminated, row.clear_number) if row.state == "failed" else None
    judged = read_mark(row.judged, row.clear_number)
    report = judged["report"] if judged is not None else _report(row.report)
    return RunView(
        id=row.run_id,
        job_id=row.dag_id,
        status=_status(row, counts, terminated),
        manual=row.run_type == "manual",
        created_at=row.created_at or row.queued_at or row.run_after,
        updated_at=row.updated_at or row.created_at or row.run_after,
        start_time=row.start_date,
        end_time=row.end_date,
        counts=counts,
        note=row.note,
        triggered_by=row.triggering_user_name,
        terminated=terminated,
        delivery=_delivery(row.state, report),
        report=report,
        version=row.created_dag_version_id,
    )


def _delivery(state: str, report: dict[str, Any]) -> dict[str, Any] | None:
    """Of a run that has ended; or of one whose delivery has failed so far and is tried again."""
    found: dict[str, Any] | None = report.get("delivery")
    retrying = found is not None and found.get("status") == "retrying"
    if found is None or state not in ("success", "failed"):
        return found if retrying else None
    # Somebody ended it while it waited for its next try.
    ended = {name: value for name, value in found.items() if name != "nextTry"}
    return {**ended, "status": "failed"} if retrying else found


def _counts(row: Any) -> ItemCounts:
    if row.expanded:
        return ItemCounts(int(row.expanded), **{kind: int(getattr(row, kind)) for kind in KINDS})
    if row.planned is None:
        return ItemCounts(None)
    return ItemCounts(row.planned, **{ITEM_STATES.get(row.together or "", "pending"): row.planned})


def _status(row: Any, counts: ItemCounts, terminated: dict[str, Any] | None) -> Status:
    if row.state in ("queued", "running"):
        if not row.is_paused:
            return "PENDING"
        return "PAUSING" if row.active else "PAUSED"
    if row.state == "success":
        return "SUCCESS" if not counts.failed and not counts.canceled else "COMPLETED"
    if terminated is not None:
        return "TERMINATED" if terminated["started"] else "CANCELED"
    return "FAILURE"


def _report(value: Any) -> dict[str, Any]:
    """The closing task's report. Airflow keeps an XCom as JSON text in a JSON column."""
    if isinstance(value, str):
        value = json.loads(value)
    return value if isinstance(value, dict) else {}
