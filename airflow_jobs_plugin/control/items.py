"""The items of a run. That item n is mapped task instance n is known here and in ``run/``, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.runs import ITEM_STATES, KINDS, RunView, get_run
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
    # Of ten thousand items a page shows a hundred: the others are looked at only as far as the filter asks.
    found = [n for n, item in enumerate(items) if _fits(item, rows.get(n), wanted)]
    if wanted.sort != "index" or wanted.descending:
        keys = {n: _KEYS[wanted.sort](n, items[n], rows.get(n)) for n in found}
        # Items without a value come last, either way round.
        empty = [n for n in found if keys[n] is None]
        found = sorted((n for n in found if keys[n] is not None), key=keys.__getitem__, reverse=wanted.descending)
        found += empty
    page = found[wanted.offset : wanted.offset + wanted.limit]
    outcomes = dict(_outcomes(session, job_id, run_id, {n: rows[n].state for n in page if n in rows}))
    views = [_view(job_id, run_id, n, items[n], rows) for n in page]
    return [_with(view, outcomes.get(view.index)) for view in views], len(found)


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


@dataclass(frozen=True)
class _Row:
    """What Airflow knows of an item."""

    state: str | None
    try_number: int
    max_tries: int
    start: datetime | None
    end: datetime | None

    @property
    def duration(self) -> float | None:
        return (self.end - self.start).total_seconds() if self.start and self.end else None


def _status(row: _Row | None) -> ItemStatus:
    kind = ITEM_STATES.get(row.state or "", "pending") if row is not None else "pending"
    return ITEM_STATUSES[KINDS.index(kind)]


def _attempts(row: _Row | None) -> int:
    if row is None or not row.try_number:
        return 0
    # A try that is queued is counted, and not begun.
    return attempt_number(row.try_number, row.max_tries) - (row.state in ("scheduled", "queued"))


_KEYS: dict[str, Callable[[int, dict[str, Any], _Row | None], Any]] = {
    "index": lambda n, item, row: n,
    "api": lambda n, item, row: item["api"],
    "status": lambda n, item, row: ITEM_STATUSES.index(_status(row)),
    "attempts": lambda n, item, row: _attempts(row),
    "startTime": lambda n, item, row: row and row.start,
    "endTime": lambda n, item, row: row and row.end,
    "duration": lambda n, item, row: row and row.duration,
}


def _fits(item: dict[str, Any], row: _Row | None, wanted: Filter) -> bool:
    if wanted.status is not None and _status(row) != wanted.status:
        return False
    if not wanted.search:
        return True
    text = wanted.search.casefold()
    if text in item["api"].casefold():
        return True
    # As they are shown, so that nobody finds out a masked value by searching for it.
    shown = masked(parameters_of(item))
    return text in json.dumps(shown, ensure_ascii=False).casefold()


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
    return ItemView(
        index=index,
        id=item_id(job_id, run_id, index),
        api=item["api"],
        parameters=masked(parameters_of(item)),
        status=_status(row),
        attempts=_attempts(row),
        maximum_attempts=policy_of(item).maximum_attempts,
        start_time=row.start if row is not None else None,
        end_time=row.end if row is not None else None,
        duration=row.duration if row is not None else None,
        parent=item.get("parent"),
        depth=item.get("depth", 0),
    )


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
