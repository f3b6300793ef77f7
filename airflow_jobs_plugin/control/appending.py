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
from functools import cache
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.redelivery import under_way
from airflow_jobs_plugin.errors import ConflictError, NotFoundError
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN, SINK, TERMS, Terms, item_id, planned
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
    listed, terms = _list(session, run)
    items: list[dict[str, Any]] = listed.items
    mark = _mark(key, origin)
    known = [index for index, item in enumerate(items) if item.get("appended") == mark]
    if known and origin == "item":
        return _answer(run, items, known, new=False)
    if not known:
        # Before the items are looked at: the run is locked, and whoever sends a million is told at once.
        _must_be_open(session, run)
        _must_have_room(len(items), len(payload), terms)
    depth = _depth(items, parent)
    new = _planned(payload, terms, mark, parent, depth) if not known or len(known) == len(payload) else []
    if known:
        if [items[index] for index in known] != new:
            raise ConflictError(
                "idempotency-key-reused", "this Idempotency-Key was used for other items; choose another key"
            )
        return _answer(run, items, known, new=False)
    first = len(items)
    items += new
    _extend(session, run, listed, first)
    return _answer(run, items, list(range(first, len(items))), new=True)


def _answer(run: Any, items: list[dict[str, Any]], indexes: list[int], *, new: bool) -> Appended:
    ids = [item_id(run.dag_id, run.run_id, index) for index in indexes]
    return Appended(indexes, ids, [items[index]["api"] for index in indexes], new)


def _locked_run(session: Session, job_id: str, run_id: str) -> Any:
    from airflow.models.dagrun import DagRun

    if session.get_bind().dialect.name == "sqlite":
        # The scheduler locks nothing there: it has been seen to close a run over items that it had not seen.
        raise ConflictError(
            "database-unsuitable",
            "a run can grow only on PostgreSQL or MySQL: SQLite has no row locks, and items could be lost",
        )
    run = session.scalar(
        select(DagRun).where(DagRun.dag_id == job_id, DagRun.run_id == run_id).with_for_update(of=DagRun)
    )
    if run is None:
        raise NotFoundError("run-not-found", f"the job {job_id!r} has no run {run_id!r}")
    return run


def _of_plan(model: Any, run: Any) -> tuple[Any, ...]:
    return model.dag_id == run.dag_id, model.run_id == run.run_id, model.task_id == PLAN, model.map_index == -1


def _list(session: Session, run: Any) -> tuple[_List, Terms]:
    """The run's list as it is now, and what holds for its items."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.state import TaskInstanceState

    planning = session.execute(
        select(TaskInstance.state).where(*_of_plan(TaskInstance, run)).with_for_update(of=TaskInstance)
    ).one_or_none()

    found = select(XComModel.key, XComModel.value).where(*_of_plan(XComModel, run), XComModel.key.in_((KEY, TERMS)))
    values = {row.key: row.value for row in session.execute(found.with_for_update(of=XComModel))}
    # What a plan leaves before it has succeeded, or before it was cleared, it will write anew.
    planned = planning is not None and planning.state == TaskInstanceState.SUCCESS
    if not planned or KEY not in values or TERMS not in values:
        _must_be_running(run)
        raise ConflictError("run-not-planned", f"the run {run.run_id!r} has not begun; try again in some seconds")
    return _List.read(values[KEY]), Terms.read(_List.read(values[TERMS]).items)


@dataclass
class _List:
    """The value of an XCom. Airflow keeps JSON, or JSON text in a column of JSON: as it was, it is written."""

    items: Any
    as_text: bool

    @classmethod
    def read(cls, value: Any) -> _List:
        return cls(json.loads(value), True) if isinstance(value, str) else cls(value, False)

    def written(self) -> Any:
        return json.dumps(self.items) if self.as_text else self.items


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


def _depth(items: list[dict[str, Any]], parent: int | None) -> int:
    """How many appends the children of that item are away from the run's own list."""
    if parent is None:
        return 0
    if not 0 <= parent < len(items):
        message = f"there is no item {parent}; the run has {len(items)}, numbered from 0"
        raise InvalidDefinition([Fault(("parent",), message)])
    depth: int = items[parent].get("depth", 0) + 1
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


def _extend(session: Session, run: Any, listed: _List, first: int) -> None:
    """Write the longer list to where Airflow has it. What begins at ``first`` is new."""
    from airflow.models.taskmap import TaskMap
    from airflow.models.xcom import XComModel

    end = len(listed.items)
    done: list[Any] = [
        session.execute(
            update(XComModel)
            .where(*_of_plan(XComModel, run), XComModel.key == KEY)
            .values(value=listed.written())
            .execution_options(synchronize_session=False)
        ),
        session.execute(
            update(TaskMap)
            .where(*_of_plan(TaskMap, run))
            .values(length=end)
            .execution_options(synchronize_session=False)
        ),
    ]
    if [result.rowcount for result in done] != [1, 1]:
        raise RuntimeError(f"Airflow does not keep the list of {run.run_id!r} where this version of the plugin looks")
    _add_instances(session, run, first, end)
    run.updated_at = datetime.now(UTC)
    session.flush()


def _add_instances(session: Session, run: Any, first: int, end: int) -> None:
    """Make the new items' task instances, as the scheduler does when it finds a mapped task longer than before.

    A run that was cleared as a whole still has the instances of the items that it had grown by, as ``removed``; those
    become the new items', as if they had been cleared.
    """
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.settings import task_instance_mutation_hook
    from airflow.utils.state import TaskInstanceState

    found = session.scalars(
        select(TaskInstance)
        .where(
            TaskInstance.dag_id == run.dag_id,
            TaskInstance.run_id == run.run_id,
            TaskInstance.task_id == PAYLOAD,
            (TaskInstance.map_index <= 0) | TaskInstance.map_index.between(first, end - 1),
        )
        .order_by(TaskInstance.map_index)
        .with_for_update(of=TaskInstance)
    ).all()
    if not found or found[0].map_index < 0:
        return  # one instance for the whole list, which the scheduler has yet to expand
    there = {ti.map_index: ti for ti in found if ti.map_index >= first}
    leftover = [ti for ti in there.values() if ti.state == TaskInstanceState.REMOVED]
    if leftover:
        clear_task_instances(leftover, session, dag_run_state=False)
    dag: Any = _dag_bag().get_dag_for_run(run, session)
    task = dag.get_task(PAYLOAD)
    version = found[0].dag_version_id
    instances = []
    for index in range(first, end):
        if index not in there:
            ti: Any = TaskInstance(task, run_id=run.run_id, map_index=index, state=None, dag_version_id=version)
            task_instance_mutation_hook(ti, dag_run=run)
            ti.refresh_from_task(task, dag_run=run)
            instances.append(ti)
    session.add_all(instances)


@cache
def _dag_bag() -> Any:
    from airflow.models.dagbag import CachedDBDagBag

    return CachedDBDagBag(cache_size=64, cache_ttl=0, stats_prefix="jobs.dag_bag")


__all__ = ["Appended", "append"]
