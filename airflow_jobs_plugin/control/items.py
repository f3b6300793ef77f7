"""The items of a run, for those who look at them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.batches import BatchedRows
from airflow_jobs_plugin.control.rows import Attempt, Row, Rows, SingleRows, listed, no_collections
from airflow_jobs_plugin.control.runs import ITEM_STATES, KINDS, RunView, get_run
from airflow_jobs_plugin.errors import NotFoundError
from airflow_jobs_plugin.run.batches import is_batch
from airflow_jobs_plugin.run.items import item_id, parameters_of, policy_of
from airflow_jobs_plugin.run.outcomes import Brought
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body
from airflow_jobs_plugin.spec import masked

ItemStatus = Literal["PENDING", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELED"]
ITEM_STATUSES: tuple[ItemStatus, ...] = ("PENDING", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELED")
#: How many waits are told of an item that may be attempted a thousand times.
MOST_WAITS = 20
SORTS = ("index", "api", "status", "attempts", "startTime", "endTime", "duration")


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
class ItemAttempts:
    """An item's attempts and the waits between them."""

    made: list[Attempt]
    """Those that Airflow still knows, in their order."""
    waits: list[timedelta]
    """What its policy says of the wait after each failed attempt, the first ``MOST_WAITS`` of them."""
    next_at: datetime | None
    """When the next one is due, of an item that waits for it, where that is known."""
    task_index: int
    """Map index of the task instance whose log tells of the item."""
    timeout: float | None
    """Seconds that one attempt may take."""


@dataclass(frozen=True)
class Filter:
    """Which items a list shows, in what order, and which page of them."""

    status: ItemStatus | None = None
    search: str | None = None
    sort: str = "index"
    descending: bool = False
    limit: int = 100
    offset: int = 0
    results: bool = True
    """Whether items that succeeded come with their results, which may be large."""


@no_collections()
def list_items(session: Session, job_id: str, run_id: str, wanted: Filter) -> tuple[list[ItemView], int]:
    """A page of a run's items with their outcomes, and how many match. Raises ``NotFoundError``."""
    found = _rows(session, job_id, run_id)
    page, total = _page(found, wanted)
    rows = found.known
    read = page if wanted.results else [n for n in page if _status(rows.get(n)) != "SUCCEEDED"]
    outcomes = dict(found.outcomes(read))
    views = [_view(job_id, run_id, n, found.items[n], rows) for n in page]
    return [_with(view, outcomes.get(view.index)) for view in views], total


def _page(rows: Rows, wanted: Filter) -> tuple[list[int], int]:
    """The indexes of the items that a page shows, and how many match. Of ten thousand it shows a hundred: the others
    are looked at only as far as the filter and the order ask."""
    items = rows.items
    found = list(range(len(items)))
    if wanted.search:
        found = [n for n in found if _says(items[n], wanted.search)]
    if wanted.status is not None:
        states = rows.states()
        found = [n for n in found if _status_of(states.get(n)) == wanted.status]
    by_row = wanted.sort not in ("index", "api")
    if wanted.sort != "index" or wanted.descending:
        known = rows.known if by_row else {}
        keys = {n: _KEYS[wanted.sort](n, items[n], known.get(n)) for n in found}
        # Items without a value come last, either way round.
        empty = [n for n in found if keys[n] is None]
        found = sorted((n for n in found if keys[n] is not None), key=keys.__getitem__, reverse=wanted.descending)
        found += empty
    page = found[wanted.offset : wanted.offset + wanted.limit]
    if not by_row:
        rows.only(page)
    return page, len(found)


@no_collections()
def get_item(session: Session, job_id: str, run_id: str, index: int) -> ItemView:
    """One item with its outcome. Raises ``NotFoundError``."""
    found = _one(session, job_id, run_id, index)
    view = _view(job_id, run_id, index, found.items[index], found.known)
    return _with(view, dict(found.outcomes([index])).get(index))


@no_collections()
def examine(session: Session, job_id: str, run_id: str, index: int) -> tuple[ItemView, ItemAttempts]:
    """One item with its outcome, and what is known of its attempts. Raises ``NotFoundError``."""
    found = _one(session, job_id, run_id, index)
    item = found.items[index]
    view = _with(_view(job_id, run_id, index, item, found.known), dict(found.outcomes([index])).get(index))
    policy = policy_of(item)
    return view, ItemAttempts(
        made=found.attempts(index),
        waits=[policy.wait_after(n) for n in range(min(policy.maximum_attempts - 1, MOST_WAITS))],
        next_at=found.next_attempt(index) if view.status == "RETRYING" else None,
        task_index=found.task_of(index),
        timeout=item.get("requestTimeout"),
    )


def _one(session: Session, job_id: str, run_id: str, index: int) -> Rows:
    found = _rows(session, job_id, run_id)
    if not 0 <= index < len(found.items):
        raise NotFoundError("item-not-found", f"the run {run_id!r} has no item {index}; it has {len(found.items)}")
    found.only([index])
    return found


def outcomes(session: Session, job_id: str, run_id: str) -> Iterator[Brought]:
    """Every item that has ended, as the plan wrote it, and its outcome, in index order. Raises ``NotFoundError``."""
    found = _rows(session, job_id, run_id)
    for index, outcome in found.outcomes(list(range(len(found.items)))):
        yield found.items[index], outcome


def results(
    session: Session, run: RunView, workspace_id: str, project: str
) -> Iterator[tuple[ItemView, dict[str, Any]]]:
    """Every item that has ended, in index order, with its body as a sink sends it; read in slices."""
    found = _rows(session, run.job_id, run.id)
    items = found.items
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
    for index, outcome in found.outcomes(list(range(len(items)))):
        view = _view(run.job_id, run.id, index, items[index], found.known)
        item = {**items[index], "parameters": parameters_of(items[index])}
        yield _with(view, outcome), item_body(facts, item, view.id, outcome)


def _status(row: Row | None) -> ItemStatus:
    return _status_of(row.state if row is not None else None)


def _status_of(state: str | None) -> ItemStatus:
    return ITEM_STATUSES[KINDS.index(ITEM_STATES.get(state or "", "pending"))]


def _attempts(row: Row | None) -> int:
    return row.attempts if row is not None else 0


_KEYS: dict[str, Callable[[int, dict[str, Any], Row | None], Any]] = {
    "index": lambda n, item, row: n,
    "api": lambda n, item, row: item["api"],
    "status": lambda n, item, row: ITEM_STATUSES.index(_status(row)),
    "attempts": lambda n, item, row: _attempts(row),
    "startTime": lambda n, item, row: row and row.start,
    "endTime": lambda n, item, row: row and row.end,
    "duration": lambda n, item, row: row and row.duration,
}


def _says(item: dict[str, Any], search: str) -> bool:
    text = search.casefold()
    if text in item["api"].casefold():
        return True
    # As they are shown, so that nobody finds out a masked value by searching for it.
    shown = masked(parameters_of(item))
    return text in json.dumps(shown, ensure_ascii=False).casefold()


def _rows(session: Session, job_id: str, run_id: str) -> Rows:
    """The run's list, empty before the plan has fixed it, and what Airflow knows of each item."""
    found = listed(session, job_id, run_id)
    if found is None:
        get_run(session, job_id, run_id)  # says if there is no such run
        found = []
    if found and is_batch(found[0]):
        return BatchedRows(session, job_id, run_id, found)
    return SingleRows(session, job_id, run_id, found)


def _view(job_id: str, run_id: str, index: int, item: dict[str, Any], rows: dict[int, Row]) -> ItemView:
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
