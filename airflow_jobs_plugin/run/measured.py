"""What workers measure: attempts, items, runs and deliveries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.metrics import TASK
from airflow_jobs_plugin.sinks.base import Delivery, DeliverySink

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


@contextmanager
def attempt(job_id: str) -> Iterator[None]:
    """An attempt: it succeeded, or it raised. One that is stopped from outside is neither."""
    begun = time.monotonic()
    tally = Tally(job_id)
    try:
        yield
    except Exception:
        tally.attempt(False, time.monotonic() - begun)
        raise
    else:
        tally.attempt(True, time.monotonic() - begun)
    finally:
        tally.send()


def item(job_id: str, ok: bool) -> None:
    """An item has ended, and its outcome is kept."""
    TASK.count(f"jobs.item.{_outcome(ok)}", job_id)


def run(context: Context, status: str) -> None:
    """A run has closed: ``SUCCESS``, ``COMPLETED`` or ``FAILURE``."""
    begun, job_id = context["dag_run"].start_date, context["ti"].dag_id
    TASK.count(f"jobs.run.{status.lower()}", job_id)
    if begun is not None:
        TASK.took("jobs.run.duration", job_id, (datetime.now(UTC) - begun).total_seconds())


def given_up(job_id: str) -> None:
    """The results of a run are not tried to be delivered any more."""
    TASK.count("jobs.delivery.given_up", job_id)


class Tally:
    """Attempts and items of a batch, counted and sent together: ten thousand items are not as many messages."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._counts: Counter[str] = Counter()

    def attempt(self, ok: bool, seconds: float) -> None:
        """An attempt has ended."""
        self._counts[f"jobs.attempt.{_outcome(ok)}"] += 1
        # A timer is of single times.
        TASK.took("jobs.attempt.duration", self._job_id, seconds)

    def item(self, ok: bool) -> None:
        """An item has ended, and its outcome is kept."""
        self._counts[f"jobs.item.{_outcome(ok)}"] += 1

    def send(self) -> None:
        """Send what was counted since the last time."""
        for name, number in self._counts.items():
            TASK.count(name, self._job_id, number)
        self._counts.clear()


class MeasuredSink:
    """A sink whose every try is counted and timed."""

    def __init__(self, sink: DeliverySink, job_id: str) -> None:
        self._sink, self._job_id = sink, job_id
        self.window, self.format = sink.window, sink.format

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        """As the sink does. Raises what it raises."""
        begun = time.monotonic()
        try:
            receipt = self._sink.deliver(delivery)
        except Exception:
            TASK.count("jobs.delivery.failed", self._job_id)
            raise
        finally:
            TASK.took("jobs.delivery.duration", self._job_id, time.monotonic() - begun)
        TASK.count("jobs.delivery.delivered", self._job_id)
        return receipt

    def destination(self) -> str:
        """As the sink says."""
        return self._sink.destination()


def _outcome(ok: bool) -> str:
    return "succeeded" if ok else "failed"
