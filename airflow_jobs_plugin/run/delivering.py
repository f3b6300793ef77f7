"""Delivering results: whole, under one id over all tries, and remembered so that nothing is sent under two.

With ``delivery: run`` closing the run sends one body; how items are sent one by one is in ``one_by_one``.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import ConfigurationError, DeliveryError
from airflow_jobs_plugin.run.messages import body_of, facts_of, message_of_run, wanted
from airflow_jobs_plugin.run.notes import Notes, asked_again, memory_key
from airflow_jobs_plugin.run.one_by_one import OneByOne, sink_of
from airflow_jobs_plugin.run.outcomes import Brought
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery, DeliverySink
from airflow_jobs_plugin.sinks.bodies import RunFacts, run_body, run_lines, run_names
from airflow_jobs_plugin.spec import Job, Sink

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Bodies up to this size stay in memory, larger ones go to a temporary file.
SPOOL_BYTES = 4 * 1024 * 1024


class RetryLater(DeliveryError):
    """A delivery that failed and will be tried again after ``wait``; ``report`` says so to those who look."""

    def __init__(self, report: dict[str, Any], wait: timedelta) -> None:
        super().__init__(report["message"])
        self.report = {**report, "status": "retrying", "nextTry": (datetime.now(UTC) + wait).isoformat()}
        self.wait = wait


@dataclass
class Closing:
    """One closing of a run: what there is to send, and what is remembered of it over the tries of the task."""

    context: Context
    job: Job
    total: int
    read: Callable[[], Iterable[Brought]]
    """All items with their outcomes in index order, read anew each time."""
    status: str
    succeeded: int
    _begun: float = field(default_factory=time.monotonic, init=False)

    def deliver(self) -> dict[str, Any]:
        """Deliver once over all tries; returns what became of it. Raises ``RetryLater``."""
        if TYPE_CHECKING:
            assert self.job.sink is not None
        ti, run, store = self.context["ti"], self.context["dag_run"], self.context["task_state_store"]
        clear_number = run.clear_number or 0
        asked = asked_again(self.context)
        notes = Notes(store, memory_key(clear_number), {
            "since": datetime.now(UTC).isoformat(),
            "failures": 0,
            "tried": 0.0,
            "done": None,
            "message": asked.get("message") or message_of_run(ti.dag_id, ti.run_id, clear_number),
            "sent": asked.get("sent", ""),
            "begin": asked.get("begin", 0),
            "refused": "",
            "why": None,
            "again": bool(asked.get("again")),
        })  # fmt: skip
        if notes["done"]:
            done: dict[str, Any] = notes["done"]
            return done
        notes.keep()
        facts = facts_of(self.context, self.status, notes["since"], self.total, self.succeeded)
        try:
            sink = sink_of(self.context, self.job)
        except ConfigurationError as error:
            # Somebody has to do something first, and then has the results delivered anew.
            log.error("The results cannot be delivered: %s", error)
            done = _unmade(self.job.sink, notes, error)
        else:
            if self.job.sink.delivery == "payload":
                done = self._each(sink, facts, notes)
            else:
                done = self._whole(sink, facts, notes)
        notes["done"] = done
        notes.keep_at_all_costs()
        return done

    def _whole(self, sink: DeliverySink, facts: RunFacts, notes: Notes) -> dict[str, Any]:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as body:
            pieces = run_lines if sink.format == "jsonl" else run_body
            for piece in pieces(facts, self._bodies(facts)):
                body.write(piece)
            size = body.tell()
            delivery = Delivery(notes["message"], body, size, CONTENT_TYPES[sink.format], run_names(facts))
            try:
                receipt = sink.deliver(delivery)
            except DeliveryError as error:
                return self._failed(sink, notes, error, str(error))
        log.info("Delivered %d bytes to %s", size, sink.destination())
        return {**receipt, "status": "delivered", "bytes": size, "tries": notes["failures"] + 1}

    def _bodies(self, facts: RunFacts) -> Iterator[dict[str, Any]]:
        for item, outcome in self.read():
            if self.job.sink is not None and wanted(self.job.sink, item, outcome):
                yield body_of(facts, item, outcome)

    def _each(self, sink: DeliverySink, facts: RunFacts, notes: Notes) -> dict[str, Any]:
        if TYPE_CHECKING:
            assert self.job.sink is not None
        found = OneByOne(self.job.sink, sink, facts, notes).send(self.read)
        counts = {"payloads": found.total, "delivered": found.total - found.owed}
        if found.error is not None:
            if found.refused:
                counts["refused"] = found.refused
            told = f"{found.owed} of {found.total} results were not delivered: {found.told}"
            return self._failed(sink, notes, found.error, told, **counts)
        log.info("%d results were delivered to %s, one by one", found.total, sink.destination())
        return {"status": "delivered", "to": sink.destination(), **counts, "tries": notes["failures"] + 1}

    def _failed(self, sink: DeliverySink, notes: Notes, error: DeliveryError, told: str, **more: Any) -> dict[str, Any]:
        """What to report of a delivery that failed for good. Raises ``RetryLater`` while the window is open."""
        notes["failures"] += 1
        # Counted, not read from the clock: one that jumps an hour ahead would end the window after the first failure.
        tried = notes["tried"] + time.monotonic() - self._begun
        pause = None
        if error.retriable:
            pause = sink.window.wait(notes["failures"], timedelta(seconds=tried), error.retry_after)
        report = {
            "status": "failed",
            "to": sink.destination(),
            "message": told,
            "statusCode": error.status_code,
            "tries": notes["failures"],
            # Under which it goes out when it is delivered anew, should the notes be lost.
            "id": notes["message"],
            **more,
        }
        if pause is not None:
            notes["tried"] = tried + pause.total_seconds()
            notes.keep()
            raise RetryLater(report, pause) from None
        return report


def _unmade(spec: Sink, notes: Notes, error: ConfigurationError) -> dict[str, Any]:
    """What to report of a delivery for which there is no sink."""
    return {
        "status": "failed",
        "to": f"a sink of the type {spec.type!r}",
        "message": str(error),
        "statusCode": None,
        "tries": notes["failures"] + 1,
        "id": notes["message"],
    }


__all__ = ["Closing", "RetryLater"]
