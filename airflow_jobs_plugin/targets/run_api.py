"""The run-api target: an attempt starts a run, or finds the one that was started, and asks until it has ended.

What is said to the API, and what its answers mean, is in ``run_protocol``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.targets import RunApiTarget
from airflow_jobs_plugin.targets.base import Attempt, Caller, Limits, Result
from airflow_jobs_plugin.targets.exchange import Client, open_client
from airflow_jobs_plugin.targets.faults import invalid_response
from airflow_jobs_plugin.targets.run_protocol import RunCalls, ended, run_id_in

log = logging.getLogger(__name__)

#: Factor from one wait between polls to the next.
GROWTH = 1.5
#: Seconds that one poll may take: one that gets no answer must not cost the attempt the rest of its time.
POLL_SECONDS = 60.0
#: Seconds before the end of the attempt's time at which a run is asked for once more.
LAST_POLL = 2.0
#: Seconds that canceling the run may hold up an attempt that is over.
STOP_SECONDS = 3.0

#: Statuses of a poll that say nothing of the run, and may be over in a moment; so are all from 500 on.
_PASSING = (408, 425, 429)
#: Statuses with which a run that is to be canceled is known to be over, or unknown.
_GONE = (404, 409, 410)
#: Errors after which there is nothing to come back to.
_OVER = ("run-failed", "run-canceled", "run-not-found", "timeout")


@asynccontextmanager
async def open_run_api(spec: RunApiTarget, limits: Limits) -> AsyncIterator[Caller]:
    """Open the target's connection for any number of attempts."""
    async with open_client(spec.conn_id, spec.headers, limits) as client:
        yield _RunApiCaller(spec, client)


class _RunApiCaller:
    def __init__(self, spec: RunApiTarget, client: Client) -> None:
        self._spec = spec
        self._client = client

    async def __call__(self, attempt: Attempt) -> Result:
        return await _Attempt(RunCalls(self._spec, attempt), self._spec, self._client, attempt).made()


class _Attempt:
    """One attempt: the run that it started or found, and the time that is left for it."""

    def __init__(self, calls: RunCalls, spec: RunApiTarget, client: Client, attempt: Attempt) -> None:
        self._calls = calls
        self._spec = spec
        self._client = client
        self._attempt = attempt
        self._deadline = asyncio.get_running_loop().time() + attempt.timeout
        self._starting: asyncio.Task[str] | None = None
        self._run_id: str | None = None

    async def made(self) -> Result:
        """The attempt's result. Raises ``AttemptError``; where it is stopped from outside, so is its run."""
        try:
            return await self._made()
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            # Canceled, or stopped by a signal whose handler raised right here.
            await _undisturbed(self._abandon(), STOP_SECONDS)
            raise

    async def _made(self) -> Result:
        run_id, wait = await self._recalled(), 0.0
        if run_id is None:
            # A task of its own: a cancellation must not lose the id of a run that has just been started.
            self._starting = asyncio.create_task(self._start())
            run_id, wait = await asyncio.shield(self._starting), self._spec.poll_interval / 1000
        self._run_id = run_id
        try:
            return await self._ended(run_id, wait)
        except AttemptError as error:
            over = error.code in _OVER or not error.retriable
            # Nobody comes back to a run that is in no memory.
            if error.code == "timeout" or not over and self._attempt.memory is None:
                await self._stop()
            if over:
                await self._forget()
            raise

    async def _start(self) -> str:
        """Start a run and remember it. Returns its id."""
        call = self._calls.start()
        try:
            answer = await self._client.call(call, self._left())
        except AttemptError as error:
            if error.code == "timeout" and self._left() <= 0:
                raise AttemptError("timeout", f"no run was started within {self._attempt.timeout:g} s") from None
            raise
        run_id = run_id_in(answer.value)
        if run_id is None:
            raise invalid_response(
                f"POST {call.path} answered without a run's id; it should be a JSON object with a text 'runId'",
                answer.status,
            )
        self._run_id = run_id
        log.info("Started the run %s", run_id)
        if self._attempt.memory is not None:
            try:
                await self._attempt.memory.remember({"runId": run_id, **self._mark()})
            except Exception as error:
                # The run is under way and worth waiting for; only a dying worker would now start another one.
                log.warning("The run %s could not be remembered: %s: %s", run_id, type(error).__name__, error)
        return run_id

    async def _ended(self, run_id: str, wait: float) -> Result:
        """Ask until the run has ended. ``wait``: seconds before the first time."""
        call = self._calls.result(run_id)
        interval, asked, last = self._spec.poll_interval / 1000, 0.0, False
        trouble: AttemptError | None = None
        while True:
            wait, left = max(wait, asked), self._left()
            if wait >= left:
                if last or asked >= left:
                    await asyncio.sleep(max(left, 0))
                    raise self._timed_out(trouble)
                # A run may well have ended since it was asked for last.
                wait, last = max(left - LAST_POLL, left / 2), True
            await asyncio.sleep(wait)
            try:
                answer = await self._client.call(call, min(max(self._left(), 0), POLL_SECONDS))
            except AttemptError as error:
                if error.status_code in (404, 410):
                    text = f"the run {run_id} is not known any more: {error.message}"
                    raise AttemptError("run-not-found", text, status_code=error.status_code) from None
                if not _is_passing(error):
                    raise
                if error.code == "timeout" and self._left() <= 0:
                    raise self._timed_out(trouble) from None
                trouble, asked = error, error.retry_after or 0.0
                log.info("The run %s will be asked for again: %s", run_id, error.message)
            else:
                trouble, asked = None, 0.0
                result = ended(answer, run_id, call, self._client.redactor(call))
                if result is not None:
                    return result
            wait, interval = interval, min(interval * GROWTH, self._spec.max_poll_interval / 1000)

    def _timed_out(self, trouble: AttemptError | None) -> AttemptError:
        text = f"the run {self._run_id} did not end within {self._attempt.timeout:g} s"
        if trouble is not None:
            text += f"; asking for it failed at last: {trouble.message}"
        return AttemptError("timeout", text)

    async def _abandon(self) -> None:
        """The attempt is stopped: so is its run, or else it is left in memory for the next attempt."""
        if self._starting is not None and not self._starting.done():
            if self._spec.cancel_path is None and self._attempt.memory is None:
                self._starting.cancel()  # its answer would serve nothing
            try:
                await self._starting
            except (AttemptError, asyncio.CancelledError):
                return  # nothing was started, as far as can be known
        if await self._stop():
            await self._forget()

    async def _stop(self) -> bool:
        """Cancel the run where the target says how. Returns whether it will not go on."""
        call = self._calls.cancel(self._run_id) if self._run_id is not None else None
        if call is None:
            return False
        try:
            await self._client.call(call, STOP_SECONDS)
        except AttemptError as error:
            # Whatever else a 2xx answer has to say is of no interest.
            if error.status_code not in _GONE and not 200 <= (error.status_code or 0) < 300:
                log.warning("The run %s could not be canceled: %s", self._run_id, error.message)
                return False
        log.info("Canceled the run %s", self._run_id)
        return True

    async def _recalled(self) -> str | None:
        """The run that an earlier attempt of this item started, at this very API, and did not see the end of.

        An error of the memory is raised: a run that is not found would be started twice.
        """
        value = await self._attempt.memory.recall() if self._attempt.memory is not None else None
        if not isinstance(value, dict) or any(value.get(name) != known for name, known in self._mark().items()):
            return None
        run_id = run_id_in(value)
        if run_id is not None:
            log.info("Found the run %s, which an earlier attempt started", run_id)
        return run_id

    def _mark(self) -> dict[str, Any]:
        """What a remembered run id belongs to: another item's run, or one of another API, is none of ours."""
        return {
            "itemId": self._attempt.item_id,
            "connId": self._spec.conn_id,
            "resultPath": self._spec.result_path,
        }

    async def _forget(self) -> None:
        if self._attempt.memory is not None:
            try:
                await self._attempt.memory.remember(None)
            except Exception as error:
                # The next attempt then asks for this run, and learns that it is over.
                log.warning("The run %s could not be forgotten: %s: %s", self._run_id, type(error).__name__, error)

    def _left(self) -> float:
        """Seconds that are left for the attempt."""
        return self._deadline - asyncio.get_running_loop().time()


async def _undisturbed(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Finish ``work`` within ``seconds``, however often this is canceled meanwhile. Never raises."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except Exception as error:
            log.warning("Stopping the run was not finished: %s: %s", type(error).__name__, error)

    task = asyncio.create_task(bounded())
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            continue  # the first one goes on when this is done


def _is_passing(error: AttemptError) -> bool:
    """Whether a failed poll says nothing of the run."""
    if error.code == "http-error":
        return error.status_code is not None and (error.status_code >= 500 or error.status_code in _PASSING)
    return error.code in ("connection-error", "timeout")
