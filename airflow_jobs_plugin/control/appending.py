"""A running run grows: items are appended to its list, exactly once, before it closes.

One transaction locks the run's row, which the scheduler holds whenever it decides something about the run; checks
that the closing task has no state yet; and extends the three places in which Airflow has the list: the XCom of
``plan``, the mapped length, and the task instances. The key of an append is kept in the items themselves: what a
repeat is compared with goes when they go.

Every read under the lock is a locking read: on MySQL others would see the state of when the transaction began.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.lists import RunList, list_of, of_plan, xcoms
from airflow_jobs_plugin.control.redelivery import under_way
from airflow_jobs_plugin.control.transactions import locks_rows
from airflow_jobs_plugin.errors import ConflictError, NotFoundError
from airflow_jobs_plugin.run.items import SINK, TERMS, Terms, item_id, planned
from airflow_jobs_plugin.run.outcomes import KEY
from airflow_jobs_plugin.spec import Configuration, Fault, PayloadItem, explain, parse_payload

#: Whose key it is: a caller of the REST API gives one of its own, an item's own answer appends once.
Origin = Literal["rest", "item"]


@dataclass(frozen=True)
class Appended:
    """The items that an append added, now or when it was first sent: ``items[index]`` for each of ``indexes``."""

    indexes: list[int]
    ids: list[str]
    apis: list[str]
    new: bool


def append(
    session: Session,
    job_id: str,
    run_id: str,
    payload: list[Any],
    *,
    key: str,
    origin: Origin = "rest",
    parent: int | None = None,
) -> Appended:
    """Append items to a run's list, all or none of them. They run under the run's concurrency limit.

    :param payload: items as a definition has them
    :param key: the same key again adds nothing and answers as the first time. What an item's own answer appends
        counts once, whatever it is the second time; another caller is told that the key was used for something else
    :param parent: index of the item that they come from
    :raises NotFoundError: there is no such run
    :raises InvalidDefinition: the items, or the parent, are wrong
    :raises ConflictError: the run is not planned yet (``run-not-planned``), is closing or has ended (``run-closing``,
        ``run-ended``), or has no room (``too-many-items``, ``too-deep``); the key was used for other items
        (``idempotency-key-reused``); this database cannot do it safely (``database-unsuitable``)
    """
    run = _locked_run(session, job_id, run_id)
    run_list, terms = _list(session, run)
    mark = _mark(key, origin)
    known = run_list.marked(mark)
    if known and origin == "item":
        return _answer(run, run_list.items(known), known, new=False)
    if not known:
        # Before the items are looked at: the run is locked, and whoever sends a million is told at once.
        _must_be_open(session, run)
        _must_have_room(run_list.total, len(payload), terms)
    depth = _depth(run_list, parent)
    new = _planned(payload, terms, mark, parent, depth) if not known or len(known) == len(payload) else []
    if known:
        if run_list.items(known) != new:
            raise ConflictError(
                "idempotency-key-reused", "this Idempotency-Key was used for other items; choose another key"
            )
        return _answer(run, new, known, new=False)
    first = run_list.total
    run_list.extend(new, mark, depth, parent)
    run.updated_at = datetime.now(UTC)
    session.flush()
    return _answer(run, new, list(range(first, first + len(new))), new=True)


def _answer(run: Any, items: list[dict[str, Any]], indexes: list[int], *, new: bool) -> Appended:
    ids = [item_id(run.dag_id, run.run_id, index) for index in indexes]
    return Appended(indexes, ids, [item["api"] for item in items], new)


def _locked_run(session: Session, job_id: str, run_id: str) -> Any:
    from airflow.models.dagrun import DagRun

    session.connection()  # before that, SQLAlchemy does not know what a MySQL can do
    if not locks_rows(session):
        # The scheduler has been seen to close such a run over items that it had not seen, and to remove others.
        raise ConflictError(
            "database-unsuitable",
            "a run can grow only on PostgreSQL or MySQL 8, with [scheduler] use_row_level_locking: here Airflow's "
            "scheduler locks no rows, and items could be lost",
        )
    run = session.scalar(
        select(DagRun).where(DagRun.dag_id == job_id, DagRun.run_id == run_id).with_for_update(of=DagRun)
    )
    if run is None:
        raise NotFoundError("run-not-found", f"the job {job_id!r} has no run {run_id!r}")
    return run


def _list(session: Session, run: Any) -> tuple[RunList, Terms]:
    """The run's list as it is now, and what holds for its items."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    planning = session.execute(
        select(TaskInstance.state).where(*of_plan(TaskInstance, run)).with_for_update(of=TaskInstance)
    ).one_or_none()
    values = xcoms(session, run, KEY, TERMS)
    # What a plan leaves before it has succeeded, or before it was cleared, it will write anew.
    planned = planning is not None and planning.state == TaskInstanceState.SUCCESS
    if not planned or KEY not in values or TERMS not in values:
        _must_be_running(run)
        raise ConflictError("run-not-planned", f"the run {run.run_id!r} has not begun; try again in some seconds")
    terms = Terms.read(values[TERMS].content)
    return list_of(session, run, values[KEY], terms), terms


def _must_be_running(run: Any) -> None:
    from airflow.utils.state import DagRunState

    if run.state not in (DagRunState.QUEUED, DagRunState.RUNNING):
        raise ConflictError("run-ended", f"the run {run.run_id!r} has ended ({run.state}); nothing can be appended")


def _must_be_open(session: Session, run: Any) -> None:
    from airflow.models.taskinstance import TaskInstance

    _must_be_running(run)
    closing = session.execute(
        select(TaskInstance.state)
        .where(TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id, TaskInstance.task_id == SINK)
        .with_for_update(of=TaskInstance)
    ).one_or_none()
    if closing is None or closing.state is not None or under_way(session, run):
        raise ConflictError("run-closing", f"the run {run.run_id!r} is closing; nothing can be appended any more")


def _must_have_room(there: int, more: int, terms: Terms) -> None:
    most = settings.number("max_run_items")
    for limit, what in ((terms.max_runs, "the job's maxRuns"), (most, "[jobs] max_run_items")):
        if limit is not None and there + more > limit:
            raise ConflictError(
                "too-many-items",
                f"{there} items and {more} more are more than {what} ({limit}) allows in one run; none was appended",
            )


def _depth(run_list: RunList, parent: int | None) -> int:
    """How many appends the children of that item are away from the run's own list."""
    if parent is None:
        return 0
    if not 0 <= parent < run_list.total:
        message = f"there is no item {parent}; the run has {run_list.total}, numbered from 0"
        raise InvalidDefinition([Fault(("parent",), message)])
    depth = run_list.depth(parent) + 1
    deepest = settings.number("max_append_depth")
    if depth > deepest:
        raise ConflictError(
            "too-deep",
            f"these items would be {depth} appends away from the run's own list; [jobs] max_append_depth allows "
            f"{deepest}; none was appended",
        )
    return depth


def _mark(key: str, origin: Origin) -> str:
    """What stands for a key in the items: its hash, which nobody can make collide by choosing a key."""
    return hashlib.sha256(json.dumps([origin, key]).encode()).hexdigest()[:32]


def _planned(payload: list[Any], terms: Terms, mark: str, parent: int | None, depth: int) -> list[dict[str, Any]]:
    try:
        parsed: list[PayloadItem] = parse_payload(payload, Configuration(retry=terms.retry))
    except ValidationError as error:
        raise InvalidDefinition(explain(error)) from None
    extra = {"appended": mark, "depth": depth, **({"parent": parent} if parent is not None else {})}
    return [{**planned(item, terms), **extra} for item in parsed]


__all__ = ["Appended", "append"]
