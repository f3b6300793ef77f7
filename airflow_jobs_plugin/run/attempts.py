"""What every attempt of a run's items has in common, whether a task instance drives one of them or many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.run.appending import append_url
from airflow_jobs_plugin.run.items import item_id, parameters_of
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.retry import RETRIES, lives
from airflow_jobs_plugin.run.server import run_token
from airflow_jobs_plugin.run.tokens import Permit, microseconds
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets.base import Attempt, Grant, Limits, Memory

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


T = TypeVar("T")


class Stopped(BaseException):
    """Raised by a signal into whatever is running. Not an Exception, so that nobody on the way swallows it."""


class Stopping:
    """How a task that is stopped from outside learns of it at once, whatever it is doing."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id
        self._cancel: Callable[[], None] | None = None

    def stop(self) -> None:
        """Called by a signal handler, in the main thread, between any two instructions."""
        if self._cancel is None:
            raise Stopped(f"{self._task_id} was stopped from outside")
        # Raised into an event loop, it would end whichever callback is running, and nothing else.
        self._cancel()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """``asyncio.run``. Raises ``Stopped`` when the coroutine has been canceled because of ``stop``."""
        return asyncio.run(self._stoppable(coroutine))

    async def _stoppable(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if TYPE_CHECKING:
            assert task is not None
        stopped = False

        def cancel() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        def stop() -> None:
            loop.call_soon_threadsafe(cancel)

        self._cancel = stop
        try:
            return await coroutine
        except asyncio.CancelledError:
            if stopped:
                raise Stopped(f"{self._task_id} was stopped from outside") from None
            raise
        finally:
            self._cancel = None


class Items:
    """Makes what belongs to single items of the run that a task runs in."""

    def __init__(self, context: Context, job: Job) -> None:
        ti, run = context["ti"], context["dag_run"]
        self.job_id, self.run_id = ti.dag_id, ti.run_id
        self.life = lives(ti.max_tries)
        self._run_after = microseconds(run.run_after)
        self._job = job

    def attempt(self, index: int, item: dict[str, Any], number: int, memory: Memory) -> Attempt:
        """Attempt ``number`` (from 1) of an item as ``plan`` wrote it. Raises ``AttemptError``."""
        job = self._job
        grant = None
        if getattr(job.target, "send_run_token", False):
            grant = Grant(append_url(self.job_id, self.run_id), run_token(self.permit(index, own=False)))
        return Attempt(
            job_id=self.job_id,
            run_id=self.run_id,
            index=index,
            number=number,
            item_id=item_id(self.job_id, self.run_id, index),
            api=item["api"],
            parameters=parameters_of(item),
            timeout=item["requestTimeout"],
            proxy=job.proxy or job.configuration.proxy,
            auth_session=job.auth_session,
            memory=memory,
            grant=grant,
        )

    def permit(self, index: int, *, own: bool) -> Permit:
        """To append on behalf of an item."""
        return Permit(self.job_id, self.run_id, self._run_after, index, own)

    def message(self, index: int) -> str:
        """The id of the message that an item is delivered in, if each has one of its own."""
        return message_of_item(self.job_id, self.run_id, index, RETRIES + self.life)


def limits() -> Limits:
    """What the configuration allows an attempt."""
    return Limits(settings.number("max_result_bytes"), settings.words("python_targets"))
