"""Items that share task instances, as the journals of these have them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.rows import Attempt, Row, decoded, instances, select_xcom
from airflow_jobs_plugin.control.transactions import Overtaken
from airflow_jobs_plugin.run.batches import SIZES, Batch
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN
from airflow_jobs_plugin.run.journal import PROGRESS, Ended, Standing, outcome_of, piece_key, replay, unpack
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.outcomes import ENDED, reconciled
from airflow_jobs_plugin.run.retry import RETRIES, lives

#: Characters of results that are read together.
WINDOW = 16 * 1024 * 1024
#: Pieces of bodies, of 60 KB at most, that are read in one query.
PIECES = 200
RUNNING = ("running", "restarting")


def _count(
    counts: Counter[str], size: int, state: str | None, life: int, plan: str, progress: dict[str, Any] | None
) -> None:
    """Count a batch of ``size`` items: what its instance's state says, and its journal of what had ended."""
    p = progress if progress is not None and progress["plan"] == plan else None
    succeeded, failed, retrying, running = (
        (p["succeeded"], p["failed"], p["retrying"], p["running"]) if p else (0, 0, 0, 0)
    )
    if p and life > p["life"]:
        # Cleared, and not begun yet.
        succeeded, failed, retrying, running = (0 if succeeded == size else succeeded), 0, 0, 0
    elif p and state not in RUNNING:
        retrying += p["again"]
    if state == "success":
        succeeded, failed = size, 0  # or a person said so
    elif state in ("failed", "upstream_failed"):
        failed = size - succeeded
    elif state in ENDED:
        counts["canceled"] += size - succeeded - failed
    else:
        running = running if state in RUNNING else 0
        counts["running"] += running
        counts["retrying"] += retrying
        counts["pending"] += size - succeeded - failed - running - retrying
    counts["succeeded"] += succeeded
    counts["failed"] += failed


def counts_of(session: Session, sizes: dict[int, Any]) -> dict[int, Counter[str]]:
    """How many items are what, of runs by database id, given the value of each run's row ``SIZES``."""
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel as Store
    from airflow.models.taskinstance import TaskInstance as Instance

    found = session.execute(
        select(DagRun.id, Instance.map_index, Instance.state, Instance.max_tries, Store.value)
        .join(DagRun, (DagRun.dag_id == Instance.dag_id) & (DagRun.run_id == Instance.run_id))
        .outerjoin(
            Store,
            (Store.dag_run_id == DagRun.id)
            & (Store.task_id == PAYLOAD)
            & (Store.map_index == Instance.map_index)
            & (Store.key == PROGRESS),
        )
        .where(DagRun.id.in_(sizes), Instance.task_id == PAYLOAD)
    )
    told = {run: json.loads(value) for run, value in sizes.items()}
    counts: dict[int, Counter[str]] = {run: Counter() for run in sizes}
    for run, index, state, max_tries, value in found:
        batches, plan = told[run]["sizes"], told[run]["plan"]
        progress = json.loads(value) if value else None
        if index < 0:
            _count(counts[run], sum(batches), state, 0, plan, None)
        elif index < len(batches):
            _count(counts[run], batches[index], state, lives(max_tries), plan, progress)
    return counts


def sizes_row(store: Any, run: Any) -> tuple[Any, ...]:
    """The condition on the state store for the row ``SIZES`` of a run."""
    return store.dag_run_id == run.id, store.task_id == PLAN, store.map_index == -1, store.key == SIZES


class _Items:
    """The items of all batches; those of a batch are read when one of them is asked for."""

    def __init__(self, session: Session, job_id: str, run_id: str, batches: list[Batch]) -> None:
        self._session, self._job_id, self._run_id = session, job_id, run_id
        self._batches = batches
        self._firsts = [batch.first for batch in batches]
        self._read: dict[int, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return self._batches[-1].end

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = self.batch_of(index)
        if number not in self._read:
            batch = self._batches[number]
            found = decoded(self._session.scalar(select_xcom(self._job_id, self._run_id, batch.key))) or []
            if len(found) < batch.count:
                raise Overtaken  # the run was cleared since the references were read, and is planned anew
            self._read[number] = found
        return self._read[number][index - self._firsts[number]]

    def batch_of(self, index: int) -> int:
        """The number of the batch that has an item."""
        return bisect_right(self._firsts, index) - 1


class BatchedRows:
    """Items of which many share a task instance. What belongs to a batch is read when it is asked for."""

    def __init__(self, session: Session, job_id: str, run_id: str, references: list[dict[str, Any]]) -> None:
        from airflow.models.dagrun import DagRun

        self._session, self._job_id, self._run_id = session, job_id, run_id
        self._run = session.scalar(select(DagRun.id).where(DagRun.dag_id == job_id, DagRun.run_id == run_id))
        self._batches = [Batch.read(reference) for reference in references]
        self.items = _Items(session, job_id, run_id, self._batches)
        self._number = self.items.batch_of
        found = instances(session, job_id, run_id)
        self._instances = [found.get(batch.number, found.get(-1)) for batch in self._batches]
        self._standings: dict[int, Standing] = {}
        self._only: list[int] | None = None

    @cached_property
    def known(self) -> dict[int, Row]:
        """See ``Rows``."""
        indexes = range(len(self.items)) if self._only is None else self._only
        self._replay(map(self._number, indexes))
        return {
            index: _row(index, ti.state, self._standings[number])
            for index in indexes
            if (ti := self._instances[number := self._number(index)]) is not None
        }

    def only(self, indexes: list[int]) -> None:
        """See ``Rows``."""
        self._only = indexes

    def states(self) -> dict[int, str | None]:
        """See ``Rows``."""
        self._replay(range(len(self._batches)))
        return {
            index: _state(index, ti.state, self._standings[batch.number])
            for batch, ti in zip(self._batches, self._instances, strict=True)
            if ti is not None
            for index in range(batch.first, batch.end)
        }

    def _replay(self, numbers: Iterable[int]) -> None:
        """Read the journals of some batches, if that has not been done."""
        from airflow.models.task_state_store import TaskStateStoreModel as Store

        missing = set(numbers) - self._standings.keys()
        if not missing:
            return
        rows = self._session.execute(
            select(Store.map_index, Store.value)
            .where(
                Store.dag_run_id == self._run,
                Store.task_id == PAYLOAD,
                Store.map_index.in_(missing),
                Store.key.like("log-%"),
            )
            .order_by(Store.map_index, Store.key)
        )
        journals: dict[int, list[dict[str, Any]]] = {}
        for number, value in rows:
            journals.setdefault(number, []).append(json.loads(value))
        for number in missing:
            batch, ti = self._batches[number], self._instances[number]
            standing = self._standings[number] = replay(journals.get(number, ()))
            if ti is not None and (which := standing.due(lives(ti.max_tries), batch.plan, batch.count)):
                standing.begin(lives(ti.max_tries), which)

    def outcomes(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Rows``. Read in windows of some size: items end in any order, and a row is read once in each window."""
        self._replay(map(self._number, indexes))
        window: list[int] = []
        size = 0
        for index in indexes:
            if self._state(index) not in ENDED:
                continue
            window.append(index)
            ended = self._ended(index)
            size += ended.length if ended is not None else 0
            if size > WINDOW:
                yield from self._window(window)
                window, size = [], 0
        yield from self._window(window)

    def attempts(self, index: int) -> list[Attempt]:
        """See ``Rows``. Of attempts that share a task instance the last one is kept, and how many there were."""
        row = self.known.get(index)
        if row is None or row.start is None:
            return []
        return [Attempt(row.attempts, row.start, row.end, row.state == "success" if row.state in ENDED else None)]

    def next_attempt(self, index: int) -> datetime | None:
        """See ``Rows``: as the journal has it."""
        number = self._number(index)
        self._replay([number])
        tried = self._standings[number].tried.get(index)
        return None if tried is None else datetime.fromtimestamp(tried[1] / 1000, UTC)

    def task_of(self, index: int) -> int:
        """See ``Rows``."""
        return self._number(index)

    def _ended(self, index: int) -> Ended | None:
        return self._standings[self._number(index)].ended.get(index)

    def _state(self, index: int) -> str | None:
        number = self._number(index)
        ti = self._instances[number]
        return None if ti is None else _state(index, ti.state, self._standings[number])

    def _window(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        places: dict[tuple[int, int], list[int]] = {}
        for index in indexes:
            if (ended := self._ended(index)) is not None:
                places.setdefault((self._number(index), ended.row), []).append(index)
        bodies: dict[int, str] = {}
        for place, text in self._read(list(places)):
            number, _ = place
            for index in places[place]:
                ended = self._standings[number].ended[index]
                bodies[index] = text[ended.offset : ended.offset + ended.length]
        for index in indexes:
            outcome = self._outcome(index, bodies.pop(index)) if index in bodies else None
            yield index, reconciled(index, self._state(index), outcome)

    def _outcome(self, index: int, body: str) -> dict[str, Any]:
        standing = self._standings[self._number(index)]
        ended = standing.ended[index]
        message = message_of_item(self._job_id, self._run_id, index, RETRIES + ended.life)
        return outcome_of(index, ended, body, message, sent=index in standing.sent)

    def _read(self, places: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], str]]:
        """The bodies of rows, each given as the number of its batch and its own; many in one query."""
        from airflow.models.task_state_store import TaskStateStoreModel as Store

        for some in self._together(places):
            keys = {place: [piece_key(place[1], piece) for piece in range(self._shape(place)[0])] for place in some}
            found = self._session.execute(
                select(Store.map_index, Store.key, Store.value).where(
                    Store.dag_run_id == self._run,
                    Store.task_id == PAYLOAD,
                    Store.map_index.in_({number for number, _ in some}),
                    Store.key.in_({key for named in keys.values() for key in named}),
                )
            )
            values = {(number, key): value for number, key, value in found}
            for place, named in keys.items():
                pieces = (json.loads(values.pop((place[0], key))) for key in named)
                yield place, unpack(pieces, self._shape(place)[1])

    def _together(self, places: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        """Rows that are read in one query: as many as come to ``PIECES`` or so."""
        some: list[tuple[int, int]] = []
        size = 0
        for place in places:
            some.append(place)
            size += 1 + self._shape(place)[0]
            if size >= PIECES:
                yield some
                some, size = [], 0
        if some:
            yield some

    def _shape(self, place: tuple[int, int]) -> tuple[int, bool]:
        number, row = place
        return self._standings[number].shapes.get(row, (0, False))


def _state(index: int, state: str | None, standing: Standing) -> str | None:
    """The state of an item, as a task instance of its own would have it, given that of its batch's."""
    ended = standing.ended.get(index)
    if ended is not None:
        return "success" if ended.ok or state == "success" else "failed"
    if state in ENDED:
        return state
    if index in standing.flying and state in RUNNING:
        return "running"
    return "up_for_retry" if index in standing.tried else None


def _row(index: int, state: str | None, standing: Standing) -> Row:
    own = _state(index, state, standing)
    ended = standing.ended.get(index)
    if ended is not None:
        start = datetime.fromtimestamp(ended.start / 1000, UTC)
        return Row(own, ended.attempts, start, start + timedelta(milliseconds=ended.took))
    attempts = standing.tried[index][0] if index in standing.tried else 0
    return Row(own, attempts + (own == "running"), None, None)
