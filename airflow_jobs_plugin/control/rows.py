"""What Airflow knows of a run's items: the same whether an item is a task instance or shares one with others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.run.items import PAYLOAD, PLAN
from airflow_jobs_plugin.run.outcomes import ENDED, KEY, reconciled
from airflow_jobs_plugin.run.retry import attempt_number

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


class Rows(Protocol):
    """The items of one run."""

    items: list[dict[str, Any]]
    """The list, as ``plan`` wrote it and appends have extended it."""
    known: dict[int, Row]
    """By index, of those items that Airflow knows something of."""

    def outcomes(self, indexes: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Outcomes of those of some items that have ended, in the order given."""
        ...


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


def instances(session: Session, job_id: str, run_id: str) -> dict[int, Any]:
    """The task instances of ``payload``, by map index; -1 is the one that stands for all before they are made."""
    from airflow.models.taskinstance import TaskInstance as Instance

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
    return {row.map_index: row for row in found}


class SingleRows:
    """Items that have a task instance each: item *n* is mapped task instance *n*."""

    def __init__(self, session: Session, job_id: str, run_id: str, items: list[dict[str, Any]]) -> None:
        self._session, self._job_id, self._run_id = session, job_id, run_id
        self.items = items
        found = instances(session, job_id, run_id)
        together = found.pop(-1, None)
        self.known = {n: Row(ti.state, _attempts(ti), ti.start_date, ti.end_date) for n, ti in found.items()}
        if together is not None and together.state in ENDED:
            # Ended before the list was expanded: so did every item.
            self.known = dict.fromkeys(range(len(items)), Row(together.state, 0, None, None))

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


def _attempts(ti: Any) -> int:
    if not ti.try_number:
        return 0
    # A try that is queued is counted, and not begun.
    return attempt_number(ti.try_number, ti.max_tries) - (ti.state in ("scheduled", "queued"))
