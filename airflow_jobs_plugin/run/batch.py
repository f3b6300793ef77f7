"""Many items in one task instance: as many lanes as the run allows, exact waits, and nothing lost when it dies."""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_jobs_plugin.errors import AttemptError, ItemFailedError
from airflow_jobs_plugin.run.appending import append_children
from airflow_jobs_plugin.run.attempts import Items, Stopping, limits
from airflow_jobs_plugin.run.batches import Batch
from airflow_jobs_plugin.run.items import PLAN, policy_of
from airflow_jobs_plugin.run.journal import Ended, outcome_of
from airflow_jobs_plugin.run.lanes import Board, Lanes
from airflow_jobs_plugin.run.memory import ItemMemory
from airflow_jobs_plugin.run.recording import ROW_ITEMS, ROW_SECONDS, Journal
from airflow_jobs_plugin.run.rescheduling import later
from airflow_jobs_plugin.run.retry import attempt_number
from airflow_jobs_plugin.run.sending import Sender
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Caller, Result

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the job is paused and at what the run's other instances do.
TICK = 0.7
#: Seconds until the next look while lanes change hands, and how many such looks there are in a row.
SOON, MOST_SOON = 0.2, 10
#: How often an item may be in flight when its worker dies, and after how many times it is called with no other beside
#: it: of those that went down together, one may be the cause.
MAX_DEATHS, ALONE = 5, 3
#: Seconds for which the instance gives its worker back if nothing is due for so long, and how early it returns.
LONG, EARLY = 30.0, 5.0
#: Seconds for which a store that fails is tried again, before the instance gives up and comes again.
PATIENCE = 300.0
#: Failures of items that are logged one by one.
LOGGED = 100


def drive(context: Context, job: Job, batch: Batch, stopping: Stopping) -> None:
    """Bring all items of a batch to their end; returns if all succeeded.

    Raises ``ItemFailedError`` if some failed for good, ``AirflowRescheduleException`` to come again later, and
    whatever keeps it from going on; what was recorded until then stays.
    """
    ti = context["ti"]
    items: list[dict[str, Any]] | None = ti.xcom_pull(task_ids=PLAN, key=batch.key, map_indexes=None)
    if items is None:
        raise ItemFailedError("no-items", f"the XCom {batch.key!r} of the plan is gone", retriable=False)
    made = Items(context, job)
    journal = Journal(context, made.life, batch.plan, batch.count)
    board = Board(context, batch.number)
    with ThreadPoolExecutor(4, "airflow") as threads:

        async def ask(function: Callable[..., Any], *arguments: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

        lanes = Lanes(job.configuration.max_concurrent_requests, batch.number, board, ask)
        driver = _Driver(context, job, batch, items, made, journal, lanes, board, ask)
        come_again = stopping.run(driver.run())
    if come_again is not None:
        raise come_again
    ended = journal.standing.ended
    if left := len(items) - len(ended):
        raise AttemptError("internal-error", f"{left} of {len(items)} items have not ended, and nobody knows why")
    failed = [index for index in ended if not ended[index].ok]
    if failed:
        raise ItemFailedError(
            "items-failed", f"{len(failed)} of {batch.count} items failed, the first is {min(failed)}", retriable=False
        )


class _Driver:
    """One process's share of a batch. Everything but ``ask`` happens in the event loop's thread."""

    def __init__(
        self,
        context: Context,
        job: Job,
        batch: Batch,
        items: list[dict[str, Any]],
        made: Items,
        journal: Journal,
        lanes: Lanes,
        board: Board,
        ask: Callable[..., Coroutine[Any, Any, Any]],
    ) -> None:
        self._context, self._job, self._batch, self._items = context, job, batch, items
        self._made, self._journal, self._lanes, self._ask = made, journal, lanes, ask
        self._board = board
        self._paused = True  # until Airflow has said that it is not
        self._wake = asyncio.Event()
        self._row_due = asyncio.Event()
        self._kept = asyncio.Event()
        ti = context["ti"]
        # A worker that died may have begun this many items of which the journal does not know. Should it have been
        # one of these that killed it, then the journal is to know the next time.
        again = attempt_number(ti.try_number, ti.max_tries) > 1
        self._unknown = lanes.most + 4 * ROW_ITEMS if again else 0
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._failures = 0
        self._sender = Sender(context, job, self._sent)
        standing = journal.standing
        self._suspects = {index for index, deaths in standing.deaths.items() if deaths >= ALONE}
        self._attempts = {index: attempts for index, (attempts, _) in standing.tried.items()}
        now, wall = time.monotonic(), time.time()
        self._waiting: list[tuple[float, int]] = []
        self._pending: deque[int] = deque()
        for index in range(batch.first, batch.first + len(items)):
            if index in standing.ended:
                continue
            if standing.deaths[index] >= MAX_DEATHS:
                error = AttemptError("worker-lost", f"its worker died {MAX_DEATHS} times while it was called")
                self._failed(index, self._attempts.get(index, 0) + 1, time.time(), error)
            elif index in standing.tried:
                attempts, due = standing.tried[index]
                # When it is due was written by another process, maybe on another machine. Whatever the clocks have done
                # since, nobody waits longer than the policy says.
                longest = policy_of(self._item(index)).wait_after(attempts - 1).total_seconds()
                heapq.heappush(self._waiting, (now + min(due / 1000 - wall, longest), index))
            else:
                self._pending.append(index)
        # What had ended, and may not have been sent when the worker died, is owed: closing the run sends it.

    # -- the loop ------------------------------------------------------------------------------------------

    async def run(self) -> BaseException | None:
        """Until nothing is left to do now; returns what to raise if there is something to do later."""
        # For what waits for the API server: appends, and what items remember.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(64, self._lanes.most)))
        async with open_target(self._job.target, limits()) as caller:
            await self._look_at_pause()
            await self._look_at_lanes()
            ticks = [self._ticks(self._look_at_pause), self._look_after_lanes(), self._rows()]
            helpers = [asyncio.create_task(tick) for tick in ticks]
            for helper in helpers:
                helper.add_done_callback(lambda _: self._wake.set())
            try:
                while self._flying or not self._idle():
                    self._wake.clear()
                    self._start(caller)
                    if self._flying or not self._idle():
                        await self._sleep()
                    for helper in helpers:
                        if helper.done():
                            helper.result()
                await self._finish(helpers[:2])
            except (asyncio.CancelledError, AttemptError):
                # Stopped from outside, which is not a death. Calls end, and are made again; what has ended is kept.
                await self._hang_up(helpers)
                raise
            finally:
                for task in (*helpers, *self._flying.values()):
                    task.cancel()
                await asyncio.gather(*helpers, *self._flying.values(), return_exceptions=True)
        if self._paused and (self._pending or self._waiting):
            log.info("The job is paused: %d items go on when it is resumed", len(self._pending) + len(self._waiting))
            return later()
        if self._waiting:
            wait = self._waiting[0][0] - time.monotonic()
            log.info("%d items wait for another attempt, the first for %.0f s", len(self._waiting), wait)
            return AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=wait - EARLY))  # type: ignore[no-untyped-call]
        return None

    async def _hang_up(self, helpers: list[asyncio.Task[None]]) -> None:
        tasks = [*helpers, *self._flying.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1)
        self._journal.flying.clear()
        await self._ask(self._journal.write)  # what another thread was about to write
        if self._journal.take():
            await self._ask(self._journal.write)

    def _start(self, caller: Caller) -> None:
        now = time.monotonic()
        while self._may_start():
            due = bool(self._waiting) and self._waiting[0][0] <= now
            if not due and not self._pending:
                return
            index = self._waiting[0][1] if due else self._pending[0]
            if index in self._suspects and self._flying:
                return
            if due:
                heapq.heappop(self._waiting)
            else:
                self._pending.popleft()
            self._flying[index] = asyncio.create_task(self._call(caller, index))
            self._journal.flying.add(index)

    def _may_start(self) -> bool:
        if self._paused or self._journal.full or self._sender.full or self._suspects & self._flying.keys():
            return False
        return len(self._flying) < self._lanes.allowed

    def _idle(self) -> bool:
        """Whether there is nothing to do for so long that the worker is better given back."""
        if self._paused:
            return True
        if self._pending or self._journal.full or self._sender.full:
            return False
        return not self._waiting or self._waiting[0][0] - time.monotonic() > LONG

    async def _sleep(self) -> None:
        wait = None
        # What may not be started though it is due is woken by what it waits for.
        if self._waiting and self._may_start() and not (self._waiting[0][1] in self._suspects and self._flying):
            wait = max(0.0, self._waiting[0][0] - time.monotonic())
        try:
            # Not ``wait_for``, which before Python 3.12 may swallow that the task is canceled.
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    # -- beside it -----------------------------------------------------------------------------------------

    async def _ticks(self, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(TICK)
            await look()
            self._wake.set()

    async def _look_after_lanes(self) -> None:
        soon = 0
        while True:
            # Where calls take long, so does waiting for lanes: the others are not asked all the time.
            soon = 0 if self._lanes.settled else soon + 1
            await asyncio.sleep(SOON if 0 < soon <= MOST_SOON else TICK)
            await self._look_at_lanes()
            self._wake.set()

    async def _look_at_pause(self) -> None:
        ti = self._context["ti"]
        try:
            self._paused = bool((await self._ask(ti.get_dag, ti.dag_id)).is_paused)
        except Exception:
            log.warning("Airflow did not say whether the job is paused", exc_info=True)

    async def _look_at_lanes(self) -> None:
        try:
            await self._lanes.settle(self._want(), lambda: len(self._flying))
        except Exception:
            # The API server is away: what was allowed still is, since nobody else can have been allowed more.
            log.warning("Airflow did not say what the run's other task instances do", exc_info=True)
        if not self._board.active:
            # Airflow's own word comes with a heartbeat, and nothing is to be called in between.
            raise AttemptError("canceled", "the batch was ended from outside", retriable=False)

    def _want(self) -> int:
        flying, most = len(self._flying), self._lanes.most
        if self._paused or self._sender.full or self._suspects & self._flying.keys():
            return flying  # for longer than a moment
        want = flying + len(self._pending)
        if want < most:
            soon = time.monotonic() + 2 * TICK
            want += sum(due <= soon for due, _ in heapq.nsmallest(most, self._waiting))
        return want

    async def _rows(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ROW_SECONDS):
                    await self._row_due.wait()
            except TimeoutError:
                pass
            self._row_due.clear()
            await self._keep()
            self._wake.set()

    async def _keep(self) -> None:
        """Have the journal written, and then what it says delivered."""
        if not self._journal.take():
            return
        end = time.monotonic() + PATIENCE
        pause = 0.5
        while True:
            try:
                kept = await self._ask(self._journal.write)
                break
            except Exception as error:
                if time.monotonic() > end:
                    raise
                log.warning("Progress could not be recorded, trying again in %g s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10)
        self._kept.set()
        self._kept = asyncio.Event()
        for index, ended, body in kept:
            if self._sender.wanted:
                outcome = outcome_of(index, ended, body, self._made.message(index), sent=False)
                self._sender.send(self._item(index), index, outcome)

    async def _finish(self, ticks: list[asyncio.Task[None]]) -> None:
        # What is left to do needs no lanes; rows go on to be written while deliveries are awaited.
        for tick in ticks:
            tick.cancel()
        await asyncio.gather(*ticks, return_exceptions=True)
        try:
            await self._lanes.leave()
        except Exception:
            log.warning("The lanes could not be left to the run's other task instances", exc_info=True)
        await self._keep()
        await self._sender.drain()
        await self._keep()
        standing = self._journal.standing
        succeeded = sum(e.ok for e in standing.ended.values())
        log.info(
            "%d of %d items have ended: %d succeeded, %d failed",
            len(standing.ended), self._batch.count, succeeded, len(standing.ended) - succeeded,
        )  # fmt: skip

    def _sent(self, index: int) -> None:
        self._journal.sent(index)

    # -- one item ------------------------------------------------------------------------------------------

    def _item(self, index: int) -> dict[str, Any]:
        return self._items[index - self._batch.first]

    async def _call(self, caller: Caller, index: int) -> None:
        number = self._attempts.get(index, 0) + 1
        begun = time.time()
        item = self._item(index)
        try:
            if self._unknown > 0:
                self._unknown -= 1
                await self._known(index)
                begun = time.time()
            memory = ItemMemory(self._context, index)
            attempt = self._made.attempt(index, item, number, memory)
            result = await caller(attempt)
            if result.extended_payloads:
                permit = self._made.permit(index, own=True)
                # Not among ``ask``'s few threads: it may wait for minutes.
                await asyncio.to_thread(append_children, permit, attempt.item_id, result.extended_payloads)
        except AttemptError as error:
            self._give_up_or_wait(index, number, begun, error)
        except Exception as error:
            told = AttemptError("internal-error", f"{type(error).__name__}: {error}")
            self._give_up_or_wait(index, number, begun, told)
            log.exception("Unexpected error of item %d", index)
        else:
            # What the item remembers stays until the run is deleted: it may be called again before this is recorded.
            self._succeeded(index, number, begun, result)
        finally:
            self._flying.pop(index, None)
            self._journal.flying.discard(index)
            if self._journal.due:
                self._row_due.set()
            self._wake.set()

    async def _known(self, index: int) -> None:
        """Until the journal says that an item is being called."""
        while index not in self._journal.standing.flying:
            kept = self._kept
            self._row_due.set()
            await kept.wait()

    def _succeeded(self, index: int, number: int, begun: float, result: Result) -> None:
        self._attempts.pop(index, None)
        self._journal.ended(index, _ended(True, number, begun, result.status_code), json.dumps(result.value))

    def _give_up_or_wait(self, index: int, number: int, begun: float, error: AttemptError) -> None:
        policy = policy_of(self._item(index))
        if not error.retriable or number >= policy.maximum_attempts:
            self._failed(index, number, begun, error)
            return
        wait = policy.wait_after(number - 1).total_seconds()
        self._attempts[index] = number
        heapq.heappush(self._waiting, (time.monotonic() + wait, index))
        self._journal.tried(index, number, round((time.time() + wait) * 1000))
        self._note("Item %d: attempt %d of %d failed, the next one in %g s: %s", index, number,
                   policy.maximum_attempts, wait, error)  # fmt: skip

    def _failed(self, index: int, number: int, begun: float, error: AttemptError) -> None:
        self._attempts.pop(index, None)
        body = json.dumps({"error": error.code, "message": error.message})
        self._journal.ended(index, _ended(False, number, begun, error.status_code), body)
        self._note("Item %d failed at attempt %d: %s", index, number, error)

    def _note(self, text: str, *arguments: Any) -> None:
        self._failures += 1
        if self._failures <= LOGGED:
            log.warning(text, *arguments)
        if self._failures == LOGGED:
            log.warning("Further failures are not logged; the run's items show them")


def _ended(ok: bool, number: int, begun: float, status_code: int | None) -> Ended:
    took = max(0, round((time.time() - begun) * 1000))
    return Ended(ok, number, round(begun * 1000), took, status_code, 0, 0)
