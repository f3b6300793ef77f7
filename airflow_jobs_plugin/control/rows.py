"""What Airflow knows of a run's items: the same whether an item is a task instance or shares one with others."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.run.items import PAYLOAD, PLAN, policy_of
from airflow_jobs_plugin.run.outcomes import ENDED, KEY, reconciled
from airflow_jobs_plugin.run.retry import attempt_number, lives

#: Results read at a time: with the largest that are allowed, 64 MiB.
SLICE = 32


@dataclass(frozen=True)
class Row:
    """What is known of an item."""

    state: str | None
    """As a task instance of its own would have it."""
    attempts: int
    """Begun so far."""
    start: datetime | None
    """Of the latest attempt."""
    end: datetime | None

    @property
    def duration(self) -> float | None:
        """Seconds that the latest attempt took."""
        return (self.end - self.start).total_seconds() if self.start and self.end else None


@dataclass(frozen=True)
class Attempt:
    """One attempt of an item."""

    number: int
    """From 1."""
    start: datetime | None
    end: datetime | None
    succeeded: bool | None
    """None: it has not ended."""


class Items(Protocol):
    """The items of one run, as ``plan`` wrote them; they may be read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class Rows(Protocol):
    """What is known of the items of one run."""

    @property
    def items(self) -> Items:
        """The list, as ``plan`` wrote it and appends have extended it."""
        ...

    @property
    def known(self) -> dict[int, Row]:
        """By index, of those items that Airflow knows something of."""
        ...

    def only(self, indexes: list[int]) -> None:
        """Say that nothing will be asked but of these items: of ten thousand it need not read all then."""
        ...

    def states(self) -> dict[int, str | None]:
        """The state of each of those, by index."""
        ...

    def outcomes(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Outcomes of those of some items that have ended, in the order given."""
        ...

    def attempts(self, index: int) -> list[Attempt]:
        """The attempts of an item that are still known one by one."""
        ...

    def next_attempt(self, index: int) -> datetime | None:
        """When the next attempt of an item that waits for it is due, if that is known."""
        ...

    def task_of(self, index: int) -> int:
        """Map index of the task instance that runs an item."""
        ...


@contextmanager
def no_collections() -> Iterator[None]:
    """While many objects are made that all go again soon, have Python not look for garbage among them.

    It would every few hundred, and every so often through all that the server has in memory: 0.5 s and more, in which
    no request goes on. They are to be gone when this is left: what is still there then is looked through. Another
    thread that is in here too may have it looked for again a little early; nothing worse.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def listed(session: Session, job_id: str, run_id: str) -> list[dict[str, Any]] | None:
    """What ``plan`` has returned: the list, or references to its batches; None before it has."""
    value = session.scalar(select_xcom(job_id, run_id, KEY))
    found: list[dict[str, Any]] | None = decoded(value)
    return found


def select_xcom(job_id: str, run_id: str, key: str) -> Any:
    """Selects a value of ``plan``."""
    from airflow.models.xcom import XComModel

    return select(XComModel.value).where(
        XComModel.dag_id == job_id,
        XComModel.run_id == run_id,
        XComModel.task_id == PLAN,
        XComModel.map_index == -1,
        XComModel.key == key,
    )


def decoded(value: Any) -> Any:
    """The value of an XCom. Airflow keeps JSON, or JSON text in a column of JSON."""
    return json.loads(value) if isinstance(value, str) else value


def instances(session: Session, job_id: str, run_id: str, only: list[int] | None = None) -> dict[int, Any]:
    """The task instances of ``payload``, by map index; -1 is the one that stands for all before they are made.

    ``only``: those of these map indexes, and that one.
    """
    from airflow.models.taskinstance import TaskInstance as Instance

    wanted = select(
        Instance.map_index,
        Instance.state,
        Instance.try_number,
        Instance.max_tries,
        Instance.start_date,
        Instance.end_date,
    ).where(Instance.dag_id == job_id, Instance.run_id == run_id, Instance.task_id == PAYLOAD)
    if only is not None:
        wanted = wanted.where(Instance.map_index.in_([-1, *only]))
    return {row.map_index: row for row in session.execute(wanted)}


class SingleRows:
    """Items that have a task instance each: item *n* is mapped task instance *n*."""

    def __init__(self, session: Session, job_id: str, run_id: str, items: list[dict[str, Any]]) -> None:
        self._session, self._job_id, self._run_id = session, job_id, run_id
        self.items = items
        self._only: list[int] | None = None

    @cached_property
    def known(self) -> dict[int, Row]:
        """See ``Rows``."""
        found = instances(self._session, self._job_id, self._run_id, self._only)
        together = found.pop(-1, None)
        if together is not None and together.state in ENDED:
            # Ended before the list was expanded: so did every item.
            return dict.fromkeys(range(len(self.items)), Row(together.state, 0, None, None))
        return {n: Row(ti.state, _attempts(ti), ti.start_date, ti.end_date) for n, ti in found.items()}

    def only(self, indexes: list[int]) -> None:
        """See ``Rows``."""
        self._only = indexes

    def states(self) -> dict[int, str | None]:
        """See ``Rows``. Without times and tries, which of ten thousand take longer than all else."""
        from airflow.models.taskinstance import TaskInstance as Instance

        found = self._session.execute(
            select(Instance.map_index, Instance.state).where(
                Instance.dag_id == self._job_id, Instance.run_id == self._run_id, Instance.task_id == PAYLOAD
            )
        )
        states: dict[int, str | None] = {row.map_index: row.state for row in found}
        together = states.pop(-1, None)
        return dict.fromkeys(range(len(self.items)), together) if together in ENDED else states

    def outcomes(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Rows``."""
        for begin in range(0, len(indexes), SLICE):
            yield from self._slice(indexes[begin : begin + SLICE])

    def _slice(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        from airflow.models.xcom import XComModel

        states = {n: self.known[n].state for n in indexes if n in self.known}
        ended = [n for n, state in states.items() if state in ENDED]
        stored: dict[int, Any] = {}
        if ended:
            rows = self._session.execute(
                select(XComModel.map_index, XComModel.value).where(
                    XComModel.dag_id == self._job_id,
                    XComModel.run_id == self._run_id,
                    XComModel.task_id == PAYLOAD,
                    XComModel.key == KEY,
                    XComModel.map_index.in_(ended),
                )
            )
            stored = {index: decoded(value) for index, value in rows}
        for index in ended:
            yield index, reconciled(index, states[index], stored.get(index))

    def attempts(self, index: int) -> list[Attempt]:
        """See ``Rows``. Airflow keeps each try; a try that never began, and one before a clearing, is no attempt."""
        from airflow.models.taskinstance import TaskInstance as Instance
        from airflow.models.taskinstancehistory import TaskInstanceHistory as History

        tries: dict[int, Any] = {}
        most = 0
        for table in (History, Instance):
            found = self._session.execute(
                select(table.try_number, table.max_tries, table.state, table.start_date, table.end_date).where(
                    table.dag_id == self._job_id,
                    table.run_id == self._run_id,
                    table.task_id == PAYLOAD,
                    table.map_index == index,
                )
            )
            for row in found:
                # A try that is queued again has the start of the one before.
                if row.start_date is not None and row.state not in (None, "scheduled", "queued"):
                    tries[row.try_number] = row
                most = max(most, row.max_tries or 0)
        before = lives(most)
        return [Attempt(n - before, row.start_date, *_ended(row)) for n, row in sorted(tries.items()) if n > before]

    def next_attempt(self, index: int) -> datetime | None:
        """See ``Rows``: the exact wait after the end of the last attempt."""
        row = self.known.get(index)
        if row is None or row.end is None or not row.attempts:
            return None
        return row.end + policy_of(self.items[index]).wait_after(row.attempts - 1)

    def task_of(self, index: int) -> int:
        """See ``Rows``."""
        return index


def _ended(row: Any) -> tuple[datetime | None, bool | None]:
    if row.state in ("running", "restarting", "deferred"):
        return None, None
    return row.end_date, row.state == "success"


def _attempts(ti: Any) -> int:
    if not ti.try_number:
        return 0
    # A try that is queued is counted, and not begun.
    return attempt_number(ti.try_number, ti.max_tries) - (ti.state in ("scheduled", "queued"))
