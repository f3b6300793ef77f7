"""Delivering results: whole, under one id over all tries, and remembered so that nothing is sent under two.

With ``delivery: run`` closing the run sends one body. With ``delivery: payload`` each item is sent by its own worker
when it has ended, once; closing sends what is then still owed. What was sent is noted in the item's outcome, and what
closing has sent in its task state store.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.run.items import item_id, parameters_of
from airflow_jobs_plugin.run.outcomes import decoded, store_outcome
from airflow_jobs_plugin.run.retry import RETRIES
from airflow_jobs_plugin.sinks import sink_for
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery, DeliverySink
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body, item_names, run_body, run_lines, run_names
from airflow_jobs_plugin.spec import Job, Sink

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Bodies up to this size stay in memory, larger ones go to a temporary file.
SPOOL_BYTES = 4 * 1024 * 1024
#: Seconds for which an item's worker waits for its delivery; then closing the run sees to it.
PATIENCE = 10.0
#: Items that closing delivers at the same time, and failures in a row after which it waits.
LANES, PATIENT_FAILURES = 8, 5
#: Seconds between two notes of what closing has sent.
NOTE_EVERY = 1.0
#: Key of the sink task's state store with a request to deliver anew, as ``control/redelivery.py`` writes it.
REDELIVER = "redeliver"


class RetryLater(DeliveryError):
    """A delivery that failed and will be tried again after ``wait``; ``report`` says so to those who look."""

    def __init__(self, report: dict[str, Any], wait: timedelta) -> None:
        super().__init__(report["message"])
        self.report = {**report, "status": "retrying", "nextTry": (datetime.now(UTC) + wait).isoformat()}
        self.wait = wait


# -- one item, by its worker ----------------------------------------------------------------------------------------


def deliver_item(context: Context, job: Job, item: dict[str, Any], index: int, outcome: dict[str, Any]) -> None:
    """Send the outcome of an item that has just ended, where its job delivers item by item. Never raises.

    What does not arrive within ``PATIENCE`` is owed: closing the run sends it under the same id.
    """
    try:
        _deliver_item(context, job, item, index, outcome)
    except Exception:
        # Such as a sink that cannot be made here. The call was made, and is not made again for that.
        log.warning("The result could not be delivered, closing the run will try again", exc_info=True)


def _deliver_item(context: Context, job: Job, item: dict[str, Any], index: int, outcome: dict[str, Any]) -> None:
    if job.sink is None or job.sink.delivery != "payload" or not wanted(job.sink, item, outcome):
        return
    ti, run = context["ti"], context["dag_run"]
    facts = _facts(context, "", run.start_date.isoformat() if run.start_date else "", 0, 0)
    sink = sink_for(job.sink, context["dag"].stored.source)  # type: ignore[attr-defined]
    body = _item_bytes(sink, facts, item, index, decoded(outcome))
    content_type = CONTENT_TYPES[sink.format]
    names = _item_names(facts, item, index)
    delivery = Delivery(outcome["messageId"], io.BytesIO(body), len(body), content_type, names)
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
        return
    log.info("Delivered %d bytes to %s", len(body), sink.destination())
    try:
        store_outcome(context, {**outcome, "delivered": result[0]})
    except Exception:
        log.warning("The delivery of item %d of %s could not be noted; it is repeated", index, ti.run_id, exc_info=True)


def message_of_item(job_id: str, run_id: str, index: int, max_tries: int) -> str:
    """The id of an item's message. An item that was cleared and has run again is another one."""
    lives = max(0, max_tries - RETRIES)
    return f"msg_{item_id(job_id, run_id, index)}{f'_{lives}' if lives else ''}"


def wanted(sink: Sink, item: dict[str, Any], outcome: dict[str, Any]) -> bool:
    """Whether the sink gets that item."""
    if sink.skip_on_fail and outcome["status"] != "completed":
        return False
    return sink.apis_to_send is None or item["api"] in sink.apis_to_send


def asked_again(context: Context) -> dict[str, Any]:
    """What ``control/redelivery.py`` left for this closing; empty if nobody asked for it."""
    asked: Any = context["task_state_store"].get(REDELIVER) or {}
    return asked if asked.get("clearNumber") == (context["dag_run"].clear_number or 0) else {}


def memory_key(clear_number: int) -> str:
    """Under what a closing keeps what it remembers: clearing the run closes it anew."""
    return f"delivery-{clear_number}"


# -- the run, when it closes ----------------------------------------------------------------------------------------


@dataclass
class Closing:
    """One closing of a run: what there is to send, and what is remembered of it over the tries of the task."""

    context: Context
    job: Job
    items: list[dict[str, Any]]
    read: Callable[[], Iterable[dict[str, Any]]]
    """The outcomes of all items in index order, read anew each time."""
    status: str
    succeeded: int

    def deliver(self) -> dict[str, Any]:
        """Deliver once over all tries; returns what became of it. Raises ``RetryLater``."""
        if TYPE_CHECKING:
            assert self.job.sink is not None
        ti, run, store = self.context["ti"], self.context["dag_run"], self.context["task_state_store"]
        clear_number = run.clear_number or 0
        asked = asked_again(self.context)
        memory = _Memory(store, memory_key(clear_number), {
            "since": datetime.now(UTC).isoformat(),
            "failures": 0,
            "done": None,
            # A closing of its own after clearing is another message, with another body.
            "message": asked.get("message") or f"msg_{item_id(ti.dag_id, ti.run_id, -1 - clear_number)}",
            "sent": asked.get("sent", ""),
            "again": bool(asked.get("again")),
        })  # fmt: skip
        if memory["done"]:
            done: dict[str, Any] = memory["done"]
            return done
        memory.note()
        facts = _facts(self.context, self.status, memory["since"], len(self.items), self.succeeded)
        sink = sink_for(self.job.sink, self.context["dag"].stored.source)  # type: ignore[attr-defined]
        if self.job.sink.delivery == "payload":
            done = self._each(sink, facts, memory)
        else:
            done = self._whole(sink, facts, memory)
        memory["done"] = done
        memory.note_at_all_costs()
        return done

    def _whole(self, sink: DeliverySink, facts: RunFacts, memory: _Memory) -> dict[str, Any]:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as body:
            pieces = run_lines if sink.format == "jsonl" else run_body
            for piece in pieces(facts, self._bodies(facts)):
                body.write(piece)
            size = body.tell()
            delivery = Delivery(memory["message"], body, size, CONTENT_TYPES[sink.format], run_names(facts))
            try:
                receipt = sink.deliver(delivery)
            except DeliveryError as error:
                return self._failed(sink, memory, error, str(error))
        log.info("Delivered %d bytes to %s", size, sink.destination())
        return {"status": "delivered", **receipt, "bytes": size, "tries": memory["failures"] + 1}

    def _bodies(self, facts: RunFacts) -> Iterator[dict[str, Any]]:
        for outcome in self.read():
            item = self.items[outcome["index"]]
            if self.job.sink is not None and wanted(self.job.sink, item, outcome):
                yield _body(facts, item, outcome["index"], outcome)

    def _failed(
        self, sink: DeliverySink, memory: _Memory, error: DeliveryError, told: str, **more: Any
    ) -> dict[str, Any]:
        """What to report of a delivery that failed for good. Raises ``RetryLater`` while the window is open."""
        memory["failures"] += 1
        elapsed = datetime.now(UTC) - datetime.fromisoformat(memory["since"])
        pause = sink.window.wait(memory["failures"], elapsed, error.retry_after) if error.retriable else None
        report = {
            "status": "failed",
            "to": sink.destination(),
            "message": told,
            "statusCode": error.status_code,
            "tries": memory["failures"],
            **more,
        }
        if pause is not None:
            memory.note()
            raise RetryLater(report, pause) from None
        return report

    # -- item by item --------------------------------------------------------------------------------------

    def _each(self, sink: DeliverySink, facts: RunFacts, memory: _Memory) -> dict[str, Any]:
        sent, due = _Indexes(memory["sent"]), _Indexes("")
        errors: list[DeliveryError] = []
        in_a_row = 0
        noted = time.monotonic()
        with ThreadPoolExecutor(LANES) as lanes:
            flying: dict[Future[Any], int] = {}

            def land() -> None:
                nonlocal in_a_row, noted
                ended, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in ended:
                    index = flying.pop(future)
                    try:
                        future.result()
                    except DeliveryError as error:
                        errors.append(error)
                        in_a_row += 1
                        log.warning("Item %d was not delivered: %s", index, error)
                    else:
                        sent.add(index)
                        in_a_row = 0
                if time.monotonic() - noted > NOTE_EVERY:
                    memory["sent"] = sent.written()
                    memory.note()
                    noted = time.monotonic()

            for outcome in self.read():
                index, item = outcome["index"], self.items[outcome["index"]]
                if self.job.sink is None or not wanted(self.job.sink, item, outcome):
                    continue
                due.add(index)
                if index in sent or ("delivered" in outcome and not memory["again"]):
                    sent.add(index)
                    continue
                # A receiver that is down, or wants no more, is not asked ten thousand times.
                if in_a_row < PATIENT_FAILURES and not any(not error.retriable for error in errors):
                    flying[lanes.submit(self._send, sink, facts, memory, outcome)] = index
                    if len(flying) >= LANES:
                        land()
            while flying:
                land()
        memory["sent"] = sent.written()
        total, owed = len(due), due.without(sent)
        if owed:
            worst = next((error for error in errors if not error.retriable), errors[0])
            told = f"{owed} of {total} results were not delivered: {worst}"
            return self._failed(sink, memory, worst, told, payloads=total, delivered=total - owed)
        log.info("%d results were delivered to %s, one by one", total, sink.destination())
        tries = memory["failures"] + 1
        return {"status": "delivered", "to": sink.destination(), "payloads": total, "delivered": total, "tries": tries}

    def _send(self, sink: DeliverySink, facts: RunFacts, memory: _Memory, outcome: dict[str, Any]) -> None:
        index = outcome["index"]
        item = self.items[index]
        body = _item_bytes(sink, facts, item, index, outcome)
        # Of an item that left no outcome nothing was sent before. One that is sent anew is another message.
        message = outcome.get("messageId") or f"{memory['message']}_{index}"
        if memory["again"]:
            message = f"{memory['message']}_{index}"
        content_type = CONTENT_TYPES[sink.format]
        names = _item_names(facts, item, index)
        sink.deliver(Delivery(message, io.BytesIO(body), len(body), content_type, names))


class _Memory:
    """What is remembered of a delivery, in the task state store."""

    def __init__(self, store: Any, key: str, fresh: dict[str, Any]) -> None:
        self._store, self._key = store, key
        self._value: dict[str, Any] = store.get(key) or fresh

    def __getitem__(self, name: str) -> Any:
        return self._value[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._value[name] = value

    def note(self) -> None:
        """Keep it."""
        self._store.set(self._key, self._value)

    def note_at_all_costs(self) -> None:
        """Keep what was delivered. What is not noted would be delivered once more, if this process died then."""
        for pause in (0.5, 2, 5):
            try:
                self.note()
                return
            except Exception:
                log.warning("The delivery could not be noted, trying again in %s s", pause, exc_info=True)
                time.sleep(pause)
        log.error("The delivery could not be noted: should this task be tried again, it is repeated under the same id")


class _Indexes:
    """A set of item indexes, written as base64 of bits: 10,000 take 1.7 kB."""

    def __init__(self, text: str) -> None:
        self._bits = int.from_bytes(base64.b64decode(text), "little")

    def add(self, index: int) -> None:
        self._bits |= 1 << index

    def __contains__(self, index: int) -> bool:
        return bool(self._bits >> index & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()

    def without(self, others: _Indexes) -> int:
        """How many there are that are not among others."""
        return (self._bits & ~others._bits).bit_count()

    def written(self) -> str:
        size = (self._bits.bit_length() + 7) // 8
        return base64.b64encode(self._bits.to_bytes(size, "little")).decode()


# -- bodies ---------------------------------------------------------------------------------------------------------


def _facts(context: Context, status: str, end_time: str, payloads: int, succeeded: int) -> RunFacts:
    ti, run = context["ti"], context["dag_run"]
    return RunFacts(
        workspace_id=settings.text("workspace_id"),
        project=settings.text("project_name"),
        job_id=ti.dag_id,
        run_id=ti.run_id,
        status=status,
        type="SCHEDULED" if run.run_type in ("scheduled", "backfill") else "MANUAL",
        start_time=run.start_date.isoformat() if run.start_date else None,
        end_time=end_time,
        payloads=payloads,
        successful_runs=succeeded,
        failed_runs=payloads - succeeded,
    )


def _item_names(facts: RunFacts, item: dict[str, Any], index: int) -> dict[str, str]:
    return item_names(facts, index, item_id(facts.job_id, facts.run_id, index), item["api"])


def _body(facts: RunFacts, item: dict[str, Any], index: int, outcome: dict[str, Any]) -> dict[str, Any]:
    whole = {**item, "parameters": parameters_of(item)}
    return item_body(facts, whole, item_id(facts.job_id, facts.run_id, index), outcome)


def _item_bytes(
    sink: DeliverySink, facts: RunFacts, item: dict[str, Any], index: int, outcome: dict[str, Any]
) -> bytes:
    line = json.dumps(_body(facts, item, index, outcome))
    return (line + "\n" if sink.format == "jsonl" else line).encode()


__all__ = ["Closing", "RetryLater", "deliver_item", "message_of_item", "wanted"]
