"""Item by item: each is sent by its own worker when it has ended, once; closing the run sends what is then owed.

What a worker sent is noted in the item's outcome, what closing sent in its notes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.run.measured import MeasuredSink
from airflow_jobs_plugin.run.messages import delivery_of, facts_of, wanted
from airflow_jobs_plugin.run.notes import Indexes, Notes
from airflow_jobs_plugin.run.outcomes import Brought, decoded, store_outcome
from airflow_jobs_plugin.sinks import sink_for
from airflow_jobs_plugin.sinks.base import DeliverySink
from airflow_jobs_plugin.sinks.bodies import RunFacts
from airflow_jobs_plugin.spec import Job, Sink

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Seconds for which an item's worker waits for its delivery; then closing the run sees to it.
PATIENCE = 10.0
#: Items that closing delivers at the same time, and failures in a row after which it waits.
LANES, PATIENT_FAILURES = 8, 5
#: Seconds between two notes of what closing has sent.
NOTE_EVERY = 1.0


# -- by the item's worker -------------------------------------------------------------------------------------------


def deliver_item(context: Context, job: Job, item: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Send the outcome of an item that has just ended, where its job delivers item by item. Never raises.

    What does not arrive within ``PATIENCE`` is owed: closing the run sends it under the same id.
    """
    receipt = send_item(context, job, item, outcome, partial(sink_of, context, job))
    if not receipt:
        return
    try:
        store_outcome(context, {**outcome, "delivered": receipt})
    except Exception:
        told = "The delivery of item %d of %s could not be noted; it is repeated"
        log.warning(told, outcome["index"], context["ti"].run_id, exc_info=True)


def sink_of(context: Context, job: Job) -> DeliverySink:
    """The sink of a run's job. Raises ``ConfigurationError``."""
    if TYPE_CHECKING:
        assert job.sink is not None
    return MeasuredSink(sink_for(job.sink, context["dag"].stored.source), job.id)  # type: ignore[attr-defined]


def send_item(
    context: Context, job: Job, item: dict[str, Any], outcome: dict[str, Any], sink: Callable[[], DeliverySink]
) -> dict[str, Any] | None:
    """The same, for those who keep the receipt themselves; empty if it did not arrive, None if it is not wanted.

    :param sink: makes the sink, or gives the one that was made before; many threads may deliver through one
    """
    if job.sink is None or job.sink.delivery != "payload" or not wanted(job.sink, item, outcome):
        return None
    try:
        return _send_item(context, sink(), item, outcome)
    except Exception:
        # Such as a sink that cannot be made here. The call was made, and is not made again for that.
        log.warning("The result could not be delivered, closing the run will try again", exc_info=True)
        return {}


def _send_item(context: Context, sink: DeliverySink, item: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    run = context["dag_run"]
    facts = facts_of(context, "", run.start_date.isoformat() if run.start_date else "", 0, 0)
    delivery = delivery_of(sink, facts, item, decoded(outcome), outcome["messageId"])
    result: list[Any] = []

    def send() -> None:
        try:
            result.append(sink.deliver(delivery))
        except DeliveryError as error:
            result.append(error)
        except Exception as error:
            log.exception("Unexpected error of the sink")
            result.append(error)

    # A daemon: what a receiver stalls does not keep the worker.
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not result or isinstance(result[0], Exception):
        told = result[0] if result else f"no answer within {PATIENCE:g} s"
        log.warning("The result was not delivered, closing the run will try again: %s", told)
        return {}
    log.info("Delivered %d bytes to %s", delivery.size, sink.destination())
    return {"to": sink.destination(), **result[0]}


# -- by closing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """What has come of one try to send all that is owed."""

    total: int
    owed: int
    refused: int
    """How many of those owed are refused for good, each for a reason of its own."""
    error: DeliveryError | None
    """The one to go by, if something is owed: retriable while more is owed than what is refused for good."""
    told: str
    """Why something is owed."""


class OneByOne:
    """Sends what is owed of a run's items."""

    def __init__(self, spec: Sink, sink: DeliverySink, facts: RunFacts, notes: Notes) -> None:
        self._spec, self._sink, self._facts, self._notes = spec, sink, facts, notes
        self._sent, self._refused = Indexes(notes["sent"]), Indexes(notes["refused"])
        self._error: DeliveryError | None = None
        self._in_a_row = 0
        self._left: int | None = None
        self._flying: dict[Future[Any], int] = {}
        self._noted = time.monotonic()

    def send(self, read: Callable[[], Iterable[Brought]]) -> Round:
        """One try. It begins where the one before was at the end of its patience, and goes round.

        :param read: all items with their outcomes, in index order
        """
        due, begin = Indexes(), self._notes["begin"]
        with ThreadPoolExecutor(LANES) as lanes:
            for item, outcome in read():
                index = outcome["index"]
                if not wanted(self._spec, item, outcome):
                    continue
                due.add(index)
                if index in self._sent or ("delivered" in outcome and not self._notes["again"]):
                    self._sent.add(index)
                elif index >= begin and index not in self._refused:
                    self._try(lanes, item, outcome)
            if self._left is None and begin > 0:
                for item, outcome in read():
                    if outcome["index"] >= begin:
                        break
                    index = outcome["index"]
                    if index in due and index not in self._sent and index not in self._refused:
                        self._try(lanes, item, outcome)
            while self._flying:
                self._land()
        self._write()
        self._notes["begin"] = self._left or 0
        return self._round(len(due), due.without(self._sent))

    def _round(self, total: int, owed: int) -> Round:
        error, refused, why = self._error, len(self._refused), self._notes["why"]
        if not owed:
            return Round(total, 0, 0, None, "")
        parts = []
        if refused:
            parts.append(f"{refused} refused for good, the first was item {why['index']}: {why['message']}")
        if error is None:
            error = DeliveryError(why["message"], status_code=why["statusCode"], retriable=False)
        else:
            parts.append(str(error))
        return Round(total, owed, refused, error, "; ".join(parts))

    def _try(self, lanes: ThreadPoolExecutor, item: dict[str, Any], outcome: dict[str, Any]) -> None:
        # A receiver that is down, or wants no more, is not asked ten thousand times.
        if self._in_a_row < PATIENT_FAILURES and not (self._error is not None and self._error.for_all):
            self._flying[lanes.submit(self._send, item, outcome)] = outcome["index"]
            if len(self._flying) >= LANES:
                self._land()
        elif self._left is None:
            self._left = outcome["index"]

    def _land(self) -> None:
        ended, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for future in ended:
            index = self._flying.pop(future)
            try:
                future.result()
            except DeliveryError as error:
                log.warning("Item %d was not delivered: %s", index, error)
                if error.for_all:
                    self._error = error
                elif error.retriable:
                    self._in_a_row += 1
                    self._error = self._error or error
                else:
                    # Once is enough, and the others may well be taken.
                    self._refused.add(index)
                    why = {"index": index, "message": str(error), "statusCode": error.status_code}
                    self._notes["why"] = self._notes["why"] or why
            else:
                self._sent.add(index)
                self._in_a_row = 0
        if time.monotonic() - self._noted > NOTE_EVERY:
            self._write()
            self._notes.keep()
            self._noted = time.monotonic()

    def _write(self) -> None:
        self._notes["sent"], self._notes["refused"] = self._sent.written(), self._refused.written()

    def _send(self, item: dict[str, Any], outcome: dict[str, Any]) -> None:
        index = outcome["index"]
        # Of an item that left no outcome nothing was sent before. One that is sent anew is another message.
        message = outcome.get("messageId") or f"{self._notes['message']}_{index}"
        if self._notes["again"]:
            message = f"{self._notes['message']}_{index}"
        self._sink.deliver(delivery_of(self._sink, self._facts, item, outcome, message))
