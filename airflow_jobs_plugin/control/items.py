"""The items of a run. That item n is mapped task instance n is known here and in ``run/``, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.runs import ITEM_STATES, RunView, get_run
from airflow_jobs_plugin.errors import NotFoundError
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN, item_id, parameters_of, policy_of
from airflow_jobs_plugin.run.outcomes import ENDED, KEY, reconciled
from airflow_jobs_plugin.run.retry import attempt_number
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body
from airflow_jobs_plugin.spec import masked

ItemStatus = Literal["PENDING", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELED"]
ITEM_STATUSES: tuple[ItemStatus, ...] = ("PENDING", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELED")
SORTS = ("index", "api", "status", "attempts", "startTime", "endTime", "duration")
#: Results read at a time: with the largest that are allowed, 64 MiB.
SLICE = 32


@dataclass(frozen=True)
class ItemView:
    """One item of a run for those who look at it."""

    index: int
    id: str
    api: str
    parameters: dict[str, Any]
    """Values of sensitive names masked."""
    status: ItemStatus
    attempts: int
    """Attempts begun so far."""
    maximum_attempts: int
    start_time: datetime | None
    """Of the latest attempt."""
    end_time: datetime | None
    duration: float | None
    """Seconds that the latest attempt took."""
    parent: int | None
    """Index of the item that appended this one; None for the run's own list, and for what a caller appended."""
    depth: int
    """How many appends it is away from the run's own list."""
    outcome: dict[str, Any] | None = None
    """Of an item that has ended: ``{"status": "completed", "result", "statusCode"}``, or ``"failed"`` with ``error``
    and ``message``."""


@dataclass(frozen=True)
class Filter:
    """Which items a list shows, in what order, and which page of them."""

    status: ItemStatus | None = None
    search: str | None = None
    sort: str = "index"
    descending: bool = False
    limit: int = 100
    offset: int = 0


def list_items(session: Session, job_id: str, run_id: str, wanted: Filter) -> tuple[list[ItemView], int]:
    """A page of a run's items with their outcomes, and how many match. Raises ``NotFoundError``."""
    items, rows = _items(session, job_id, run_id)
    views = (_view(job_id, run_id, n, items[n], rows) for n in range(len(items)))
    found = [view for view in views if _matches(view, wanted)]
    key = _KEYS[wanted.sort]
    if wanted.sort != "index" or wanted.descending:
        # Items without a value come last, either way round.
        empty = [view for view in found if key(view) is None]
        found = sorted((v for v in found if key(v) is not None), key=key, reverse=wanted.descending) + empty
    page = found[wanted.offset : wanted.offset + wanted.limit]
    ended = {view.index: rows[view.index].state for view in page if view.index in rows}
    outcomes = dict(_outcomes(session, job_id, run_id, ended))
    return [_with(view, outcomes.get(view.index)) for view in page], len(found)


def get_item(session: Session, job_id: str, run_id: str, index: int) -> ItemView:
    """One item with its outcome. Raises ``NotFoundError``."""
    items, rows = _items(session, job_id, run_id)
    if not 0 <= index < len(items):
        raise NotFoundError("item-not-found", f"the run {run_id!r} has no item {index}; it has {len(items)}")
    view = _view(job_id, run_id, index, items[index], rows)
    state = {index: rows[index].state} if index in rows else {}
    return _with(view, dict(_outcomes(session, job_id, run_id, state)).get(index))


def results(
    session: Session, run: RunView, workspace_id: str, project: str
) -> Iterator[tuple[ItemView, dict[str, Any]]]:
    """Every item that has ended, in index order, with its body as a sink sends it; read in slices."""
    items, rows = _items(session, run.job_id, run.id)
    facts = RunFacts(
        workspace_id=workspace_id,
        project=project,
        job_id=run.job_id,
        run_id=run.id,
        status=run.status,
        type="MANUAL" if run.manual else "SCHEDULED",
        start_time=None,
        end_time="",
        payloads=0,
        successful_runs=0,
        failed_runs=0,
    )
    for begin in range(0, len(items), SLICE):
        ended = {n: rows[n].state for n in range(begin, min(begin + SLICE, len(items))) if n in rows}
        for index, outcome in _outcomes(session, run.job_id, run.id, ended):
            view = _view(run.job_id, run.id, index, items[index], rows)
            item = {**items[index], "parameters": parameters_of(items[index])}
            yield _with(view, outcome), item_body(facts, item, view.id, outcome)


_KEYS: dict[str, Callable[[ItemView], Any]] = {
    "index": lambda view: view.index,
    "api": lambda view: view.api,
    "status": lambda view: ITEM_STATUSES.index(view.status),
    "attempts": lambda view: view.attempts,
    "startTime": lambda view: view.start_time,
    "endTime": lambda view: view.end_time,
    "duration": lambda view: view.duration,
}


@dataclass(frozen=True)
class _Row:
    state: str | None
    try_number: int
    max_tries: int
    start: datetime | None
    end: datetime | None


def _items(session: Session, job_id: str, run_id: str) -> tuple[list[dict[str, Any]], dict[int, _Row]]:
    """The run's list, empty before the plan has fixed it, and what Airflow knows of each item."""
    from airflow.models.taskinstance import TaskInstance as Instance
    from airflow.models.xcom import XComModel

    value = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == job_id,
            XComModel.run_id == run_id,
            XComModel.task_id == PLAN,
            XComModel.map_index == -1,
            XComModel.key == KEY,
        )
    )
    if value is None:
        get_run(session, job_id, run_id)  # says if there is no such run
        return [], {}
    items: list[dict[str, Any]] = json.loads(value) if isinstance(value, str) else value
    found = session.execute(
        select(
            Instance.map_index,
            Instance.state,
            Instance.try_number,
            Instance.max_tries,
            Instance.start_date,
            Instance.end_date,
        ).where(Instance.dag_id == job_id, Instance.run_id == run_id, Instance.task_id == PAYLOAD)
    )
    rows = {
        row.map_index: _Row(row.state, row.try_number, row.max_tries, row.start_date, row.end_date) for row in found
    }
    together = rows.pop(-1, None)
    if together is not None and together.state in ENDED:
        # Ended before the list was expanded: so did every item.
        rows = dict.fromkeys(range(len(items)), _Row(together.state, 0, 0, None, None))
    return items, rows


def _view(job_id: str, run_id: str, index: int, item: dict[str, Any], rows: dict[int, _Row]) -> ItemView:
    row = rows.get(index)
    kind = ITEM_STATES.get(row.state or "", "pending") if row is not None else "pending"
    begun = 0
    if row is not None and row.try_number:
        begun = attempt_number(row.try_number, row.max_tries)
        if row.state in ("scheduled", "queued"):
            begun -= 1  # counted, and not begun
    duration = (row.end - row.start).total_seconds() if row is not None and row.start and row.end else None
    return ItemView(
        index=index,
        id=item_id(job_id, run_id, index),
        api=item["api"],
        parameters=masked(parameters_of(item)),
        status=ITEM_STATUSES[("pending", "running", "retrying", "succeeded", "failed", "canceled").index(kind)],
        attempts=begun,
        maximum_attempts=policy_of(item).maximum_attempts,
        start_time=row.start if row is not None else None,
        end_time=row.end if row is not None else None,
        duration=duration,
        parent=item.get("parent"),
        depth=item.get("depth", 0),
    )


def _matches(view: ItemView, wanted: Filter) -> bool:
    if wanted.status is not None and view.status != wanted.status:
        return False
    if not wanted.search:
        return True
    text = wanted.search.casefold()
    return text in view.api.casefold() or text in json.dumps(view.parameters, ensure_ascii=False).casefold()


def _with(view: ItemView, outcome: dict[str, Any] | None) -> ItemView:
    return view if outcome is None else ItemView(**{**view.__dict__, "outcome": outcome})


def _outcomes(
    session: Session, job_id: str, run_id: str, states: dict[int, str | None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The outcomes of those of some items that have ended, by index."""
    from airflow.models.xcom import XComModel

    ended = sorted(index for index, state in states.items() if state in ENDED)
    stored: dict[int, Any] = {}
    if ended:
        rows = session.execute(
            select(XComModel.map_index, XComModel.value).where(
                XComModel.dag_id == job_id,
                XComModel.run_id == run_id,
                XComModel.task_id == PAYLOAD,
                XComModel.key == KEY,
                XComModel.map_index.in_(ended),
            )
        )
        stored = {index: json.loads(value) if isinstance(value, str) else value for index, value in rows}
    for index in ended:
        yield index, reconciled(index, states[index], stored.get(index))
