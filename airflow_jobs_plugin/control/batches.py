"""Items that share task instances, as the journals of these have them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.rows import Row, decoded, instances, select_xcom
from airflow_jobs_plugin.run.batches import SIZES, Batch
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN
from airflow_jobs_plugin.run.journal import PROGRESS, Standing, outcome_of, piece_key, replay, unpack
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.outcomes import ENDED, reconciled
from airflow_jobs_plugin.run.retry import RETRIES, lives

#: Rows whose bodies are kept while outcomes are read: items end nearly in order, and a row has some hundred.
BODIES_KEPT = 12
#: Rows of bodies read in one query.
BODIES_AHEAD = 4
RUNNING = ("running", "restarting")


@dataclass
class Counts:
    """Items by what has become of them."""

    pending: int = 0
    running: int = 0
    retrying: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0

    def add(self, size: int, state: str | None, life: int, plan: str, progress: dict[str, Any] | None) -> None:
        """Count a batch of ``size`` items: what its instance's state says, and its journal of what had ended."""
        p = progress if progress is not None and progress["plan"] == plan else None
        succeeded, failed, retrying, running = (
            (p["succeeded"], p["failed"], p["retrying"], p["running"]) if p else (0, 0, 0, 0)
        )
        if state not in ENDED and p and life > p["life"]:
            # Cleared, and not begun yet.
            succeeded, failed, retrying = (0 if succeeded == size else succeeded), 0, 0
        if state == "success":
            succeeded, failed = size, 0  # or a person said so
        elif state in ("failed", "upstream_failed"):
            failed = size - succeeded
        elif state in ENDED:
            self.canceled += size - succeeded - failed
        else:
            running = running if state in RUNNING else 0
            self.running += running
            self.retrying += retrying
            self.pending += size - succeeded - failed - running - retrying
        self.succeeded += succeeded
        self.failed += failed


def counts_of(session: Session, sizes: dict[int, Any]) -> dict[int, Counts]:
    """The counts of runs by database id, given the value of each run's row ``SIZES``."""
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
    counts = {run: Counts() for run in sizes}
    for run, index, state, max_tries, value in found:
        batches, plan = told[run]["sizes"], told[run]["plan"]
        progress = json.loads(value) if value else None
        if index < 0:
            counts[run].add(sum(batches), state, 0, plan, None)
        elif index < len(batches):
            counts[run].add(batches[index], state, lives(max_tries), plan, progress)
    return counts


def sizes_row(store: Any, run: Any) -> tuple[Any, ...]:
    """The condition on the state store for the row ``SIZES`` of a run."""
    return store.dag_run_id == run.id, store.task_id == PLAN, store.map_index == -1, store.key == SIZES


class BatchedRows:
    """Items of which many share a task instance."""

    def __init__(self, session: Session, job_id: str, run_id: str, references: list[dict[str, Any]]) -> None:
        from airflow.models.dagrun import DagRun

        self._session, self._job_id, self._run_id = session, job_id, run_id
        self._run = session.scalar(select(DagRun.id).where(DagRun.dag_id == job_id, DagRun.run_id == run_id))
        self._batches = [Batch.read(reference) for reference in references]
        self._firsts = [batch.first for batch in self._batches]
        self.items: list[dict[str, Any]] = []
        for batch in self._batches:
            self.items += decoded(session.scalar(select_xcom(job_id, run_id, batch.key))) or []
        found = instances(session, job_id, run_id)
        together = found.get(-1)
        self._standings: list[Standing] = []
        self.known: dict[int, Row] = {}
        journals = self._journals()
        for batch in self._batches:
            standing = replay(journals.get(batch.number, ()))
            self._standings.append(standing)
            ti = found.get(batch.number, together)
            if ti is None:
                continue
            if ti.state not in ENDED and (which := standing.due(lives(ti.max_tries), batch.plan, batch.count)):
                standing.begin(lives(ti.max_tries), which)
            for index in range(batch.first, batch.end):
                self.known[index] = _row(index, ti.state, standing)

    def _journals(self) -> dict[int, list[dict[str, Any]]]:
        from airflow.models.task_state_store import TaskStateStoreModel as Store

        rows = self._session.execute(
            select(Store.map_index, Store.value)
            .where(Store.dag_run_id == self._run, Store.task_id == PAYLOAD, Store.key.like("log-%"))
            .order_by(Store.map_index, Store.key)
        )
        found: dict[int, list[dict[str, Any]]] = {}
        for index, value in rows:
            found.setdefault(index, []).append(json.loads(value))
        return found

    def outcomes(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Rows``."""
        kept: OrderedDict[tuple[int, int], str] = OrderedDict()
        wanted = [(index, self._place(index)) for index in indexes if index in self.known]
        for position, (index, place) in enumerate(wanted):
            state = self.known[index].state
            if state not in ENDED:
                continue
            outcome = None
            if place is not None:
                if place not in kept:
                    ahead = (other for _, other in wanted[position : position + 1000] if other and other not in kept)
                    self._read(list(dict.fromkeys(ahead))[:BODIES_AHEAD], kept)
                outcome = self._outcome(index, place[0], kept[place])
            yield index, reconciled(index, state, outcome)

    def _place(self, index: int) -> tuple[int, int] | None:
        """Which row of which batch has the body of an item."""
        number = bisect_right(self._firsts, index) - 1
        ended = self._standings[number].ended.get(index)
        return (number, ended.row) if ended is not None else None

    def _outcome(self, index: int, number: int, bodies: str) -> dict[str, Any]:
        standing = self._standings[number]
        ended = standing.ended[index]
        body = bodies[ended.offset : ended.offset + ended.length]
        message = message_of_item(self._job_id, self._run_id, index, RETRIES + ended.life)
        return outcome_of(index, ended, body, message, sent=index in standing.sent)

    def _read(self, places: Iterable[tuple[int, int]], kept: OrderedDict[tuple[int, int], str]) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel as Store

        for number, row in places:
            pieces, packed = self._standings[number].shapes.get(row, (0, False))
            keys = [piece_key(row, piece) for piece in range(pieces)]
            found = self._session.scalars(
                select(Store.value)
                .where(
                    Store.dag_run_id == self._run,
                    Store.task_id == PAYLOAD,
                    Store.map_index == number,
                    Store.key.in_(keys),
                )
                .order_by(Store.key)
            )
            kept[number, row] = unpack((json.loads(value) for value in found), packed)
        while len(kept) > BODIES_KEPT:
            kept.popitem(last=False)


def _row(index: int, state: str | None, standing: Standing) -> Row:
    ended = standing.ended.get(index)
    if ended is not None:
        start = datetime.fromtimestamp(ended.start / 1000, UTC)
        own = "success" if ended.ok or state == "success" else "failed"
        return Row(own, ended.attempts, start, start + timedelta(milliseconds=ended.took))
    attempts = standing.tried[index][0] if index in standing.tried else 0
    if state in ENDED:
        return Row(state, attempts, None, None)
    if index in standing.flying and state in RUNNING:
        return Row("running", attempts + 1, None, None)
    return Row("up_for_retry" if attempts else None, attempts, None, None)
