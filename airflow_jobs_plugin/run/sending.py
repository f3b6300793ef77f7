"""Delivering the items of a batch one by one while it runs, where its job says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.run.one_by_one import send_item, sink_of
from airflow_jobs_plugin.spec import Job

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Items that are delivered at the same time: as many as are called, within these bounds; and how many may wait for it
#: before no further item is started.
LEAST_LANES, MOST_LANES, MOST_WAITING = 8, 64, 128
#: Failures in a row after which the receiver is left alone, and for how many seconds; closing the run sends the rest.
PATIENT_FAILURES, REST = 5, 30.0


class Sender:
    """Sends what has been recorded. What does not arrive is owed: closing the run sends it."""

    def __init__(self, context: Context, job: Job, sent: Callable[[int], None]) -> None:
        self._context, self._job, self._sent = context, job, sent
        self.wanted = job.sink is not None and job.sink.delivery == "payload"
        # One for all: a client of a store, say, costs more than what is sent through it.
        self._sink = cache(partial(sink_of, context, job))
        self._threads: ThreadPoolExecutor | None = None
        self._flying: set[asyncio.Future[None]] = set()
        self._failures = 0
        self._resting_until = 0.0

    @property
    def full(self) -> bool:
        """Whether the receiver lags behind."""
        return len(self._flying) >= MOST_WAITING

    def send(self, item: dict[str, Any], index: int, outcome: dict[str, Any]) -> None:
        """Begin to deliver an item's outcome."""
        if not self.wanted or time.monotonic() < self._resting_until:
            return
        task = asyncio.ensure_future(self._send(item, index, outcome))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _send(self, item: dict[str, Any], index: int, outcome: dict[str, Any]) -> None:
        if self._threads is None:
            lanes = min(MOST_LANES, max(LEAST_LANES, self._job.configuration.max_concurrent_requests))
            self._threads = ThreadPoolExecutor(lanes, "deliveries")
        loop = asyncio.get_running_loop()
        arguments = (self._context, self._job, item, outcome, self._sink)
        arrived = await loop.run_in_executor(self._threads, send_item, *arguments)
        if arrived is None:
            return  # not one that the sink wants
        if arrived:
            self._failures = 0
            self._sent(index)
            return
        self._failures += 1
        if self._failures >= PATIENT_FAILURES:
            self._failures = 0
            self._resting_until = time.monotonic() + REST
            log.warning("The receiver is left alone for %g s; closing the run sends what it is owed", REST)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        if self._flying:
            await asyncio.gather(*self._flying, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
