"""The lists of runs, under the run's lock: where Airflow has them, and how they get longer in all places at once.

A list is what ``plan`` has returned, of the mapped length in Airflow's ``task_map``, and has a task instance for each
of its items; or the same of references to batches, with the items in XComs of their own (``run/batches.py``).

Every read is a locking read: on MySQL others would see the state of when the transaction began.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.batches import sizes_row
from airflow_jobs_plugin.run.batches import Appendage, Batch, is_batch, sizes_of
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN, Terms
from airflow_jobs_plugin.run.outcomes import KEY
from airflow_jobs_plugin.run.retry import lives

#: Most items of a batch that still takes what is appended: each append writes its batch anew.
MOST_JOINED = 1000


@dataclass
class Value:
    """The value of an XCom. Airflow keeps JSON, or JSON text in a column of JSON: as it was, it is written."""

    content: Any
    as_text: bool

    @classmethod
    def read(cls, value: Any) -> Value:
        """As the column has it."""
        return cls(json.loads(value), True) if isinstance(value, str) else cls(value, False)

    def written(self, content: Any) -> Any:
        """For the column."""
        return json.dumps(content) if self.as_text else content


class RunList(Protocol):
    """The list of a run that is locked."""

    @property
    def total(self) -> int:
        """How many items it has."""
        ...

    def marked(self, mark: str) -> list[int]:
        """Indexes of the items that one append added."""
        ...

    def items(self, indexes: list[int]) -> list[dict[str, Any]]:
        """Some of its items."""
        ...

    def depth(self, index: int) -> int:
        """How many appends an item is away from the list that the plan made."""
        ...

    def extend(self, new: list[dict[str, Any]], mark: str, depth: int, parent: int | None) -> None:
        """Add what one append brings, everywhere."""
        ...


def list_of(session: Session, run: Any, returned: Value, terms: Terms) -> RunList:
    """The list, given what the plan has returned."""
    if returned.content and is_batch(returned.content[0]):
        return _Batches(session, run, returned, terms.items_per_task)
    return _Items(session, run, returned)


def of_plan(model: Any, run: Any) -> tuple[Any, ...]:
    """The condition for what belongs to a run's ``plan``."""
    return model.dag_id == run.dag_id, model.run_id == run.run_id, model.task_id == PLAN, model.map_index == -1


def xcoms(session: Session, run: Any, *keys: str) -> dict[str, Value]:
    """Values of ``plan``, by key."""
    from airflow.models.xcom import XComModel

    found = select(XComModel.key, XComModel.value).where(*of_plan(XComModel, run), XComModel.key.in_(keys))
    return {row.key: Value.read(row.value) for row in session.execute(found.with_for_update(of=XComModel))}


class _Items:
    """A list of which each item is a task instance."""

    def __init__(self, session: Session, run: Any, returned: Value) -> None:
        self._session, self._run, self._returned = session, run, returned
        self._items: list[dict[str, Any]] = returned.content

    @property
    def total(self) -> int:
        return len(self._items)

    def marked(self, mark: str) -> list[int]:
        return [index for index, item in enumerate(self._items) if item.get("appended") == mark]

    def items(self, indexes: list[int]) -> list[dict[str, Any]]:
        return [self._items[index] for index in indexes]

    def depth(self, index: int) -> int:
        found: int = self._items[index].get("depth", 0)
        return found

    def extend(self, new: list[dict[str, Any]], mark: str, depth: int, parent: int | None) -> None:
        first = len(self._items)
        self._items += new
        _write_returned(self._session, self._run, self._returned.written(self._items), len(self._items))
        _add_instances(self._session, self._run, first, len(self._items))


class _Batches:
    """A list of batches. What is appended goes into the last one while nobody has begun it, then into new ones."""

    def __init__(self, session: Session, run: Any, returned: Value, size: int) -> None:
        self._session, self._run, self._returned, self._size = session, run, returned, size
        self._batches = [Batch.read(reference) for reference in returned.content]
        revision = returned.content[0].get("revision")
        self._revision = {"revision": revision} if revision else {}

    @property
    def total(self) -> int:
        return self._batches[-1].end

    def marked(self, mark: str) -> list[int]:
        found = [a for batch in self._batches for a in batch.appended if a.mark == mark]
        return [index for a in found for index in range(a.first, a.first + a.count)]

    def items(self, indexes: list[int]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for batch in self._batches:
            of_this = [index for index in indexes if batch.first <= index < batch.end]
            if of_this:
                items = xcoms(self._session, self._run, batch.key)[batch.key].content
                found += [items[index - batch.first] for index in of_this]
        return found

    def depth(self, index: int) -> int:
        for batch in self._batches:
            for a in batch.appended:
                if a.first <= index < a.first + a.count:
                    return a.depth
        return 0

    def extend(self, new: list[dict[str, Any]], mark: str, depth: int, parent: int | None) -> None:
        left = list(new)
        before = len(self._batches)
        room = self._room()
        if room:
            last = self._batches[-1]
            part, left = left[:room], left[room:]
            value = xcoms(self._session, self._run, last.key)[last.key]
            self._write(last.key, value.written([*value.content, *part]))
            self._batches[-1] = last.grown(Appendage(mark, last.end, len(part), depth, parent))
        while left:
            part, left = left[: self._size], left[self._size :]
            first = self._batches[-1].end
            appended = (Appendage(mark, first, len(part), depth, parent),)
            batch = Batch(len(self._batches), first, len(part), self._batches[0].plan, appended)
            self._add(batch.key, self._returned.written(part))
            self._batches.append(batch)
        references = [batch.written() | self._revision for batch in self._batches]
        _write_returned(self._session, self._run, self._returned.written(references), len(references))
        self._write_sizes()
        _add_instances(self._session, self._run, before, len(self._batches))

    def _room(self) -> int:
        """How many items the last batch still takes: until its task instance has begun it reads no items."""
        from airflow.models.taskinstance import TaskInstance as Instance

        last = self._batches[-1]
        room = min(self._size, MOST_JOINED) - last.count
        if room <= 0:
            return 0
        ti = self._session.execute(
            select(Instance.state, Instance.try_number, Instance.max_tries)
            .where(
                Instance.dag_id == self._run.dag_id,
                Instance.run_id == self._run.run_id,
                Instance.task_id == PAYLOAD,
                Instance.map_index.in_((last.number, -1)),
            )
            .with_for_update(of=Instance)
        ).one_or_none()
        # One that was cleared has a journal, which a longer list would make read otherwise.
        if ti is None or ti.try_number > 1 or lives(ti.max_tries):
            return 0
        return room if ti.state in (None, "scheduled", "queued") else 0

    def _write(self, key: str, value: Any) -> None:
        from airflow.models.xcom import XComModel

        done: Any = self._session.execute(
            update(XComModel)
            .where(*of_plan(XComModel, self._run), XComModel.key == key)
            .values(value=value)
            .execution_options(synchronize_session=False)
        )
        _must_be_one(self._run, done)

    def _add(self, key: str, value: Any) -> None:
        from airflow.models.xcom import XComModel

        run = self._run
        place = {"dag_run_id": run.id, "dag_id": run.dag_id, "run_id": run.run_id, "task_id": PLAN, "map_index": -1}
        self._session.add(XComModel(key=key, value=value, **place))

    def _write_sizes(self) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel as Store

        done: Any = self._session.execute(
            update(Store)
            .where(*sizes_row(Store, self._run))
            .values(value=json.dumps(sizes_of(self._batches)))
            .execution_options(synchronize_session=False)
        )
        _must_be_one(self._run, done)


def _write_returned(session: Session, run: Any, value: Any, length: int) -> None:
    """Write what ``plan`` has returned, and the length over which ``payload`` is mapped."""
    from airflow.models.taskmap import TaskMap
    from airflow.models.xcom import XComModel

    for statement in (
        update(XComModel).where(*of_plan(XComModel, run), XComModel.key == KEY).values(value=value),
        update(TaskMap).where(*of_plan(TaskMap, run)).values(length=length),
    ):
        _must_be_one(run, session.execute(statement.execution_options(synchronize_session=False)))


def _must_be_one(run: Any, done: Any) -> None:
    if done.rowcount != 1:
        raise RuntimeError(f"Airflow does not keep the list of {run.run_id!r} where this version of the plugin looks")


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
