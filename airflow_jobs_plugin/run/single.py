"""One item in a task instance of its own: an attempt of it is a try of the instance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError, ItemFailedError
from airflow_jobs_plugin.run import measured
from airflow_jobs_plugin.run.appending import append_children
from airflow_jobs_plugin.run.attempts import Items, Stopped, Stopping, limits
from airflow_jobs_plugin.run.items import policy_of
from airflow_jobs_plugin.run.memory import ItemMemory
from airflow_jobs_plugin.run.one_by_one import deliver_item
from airflow_jobs_plugin.run.outcomes import completed, failed, store_outcome
from airflow_jobs_plugin.run.rescheduling import later
from airflow_jobs_plugin.run.retry import attempt_number
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Attempt, Result

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)


class SingleItem:
    """An item, and the task instance that makes one attempt of it."""

    def __init__(self, context: Context, job: Job, item: dict[str, Any], stopping: Stopping) -> None:
        self._context, self._job, self._item, self._stopping = context, job, item, stopping
        ti = context["ti"]
        self._index = -1 if ti.map_index is None else ti.map_index
        self._made = Items(context, job)
        self._number = attempt_number(ti.try_number, ti.max_tries)
        self._most = policy_of(item).maximum_attempts

    def drive(self, name: str) -> None:
        """Make the attempt; returns if it succeeded.

        Raises a retriable ``AttemptError``, ``ItemFailedError`` if it was the last one, or
        ``AirflowRescheduleException`` if the job is paused.
        """
        try:
            if self._is_paused():
                log.info("The job is paused: this item goes on when it is resumed")
                # The scheduler does not look at paused DAGs, so nothing polls until then.
                raise later()
            self._attempt(name)
        except AttemptError as error:
            self._give_up_or_retry(error)
        except Stopped:
            self._give_up_or_retry(AttemptError("worker-lost", f"the worker was stopped during attempt {self._number}"))

    def _is_paused(self) -> bool:
        ti = self._context["ti"]
        try:
            return bool(ti.get_dag(ti.dag_id).is_paused)
        except Exception as error:
            raise AttemptError("internal-error", f"Airflow did not say whether the job is paused: {error}") from error

    def _attempt(self, name: str) -> None:
        number, memory = self._number, ItemMemory(self._context)
        if number > self._most:
            # Airflow restarts an item whose worker died without asking the retry policy.
            if not (self._job.target.type == "run-api" and memory.now()):
                text = f"the worker died during attempt {self._most} of {self._most}"
                raise AttemptError("worker-lost", text, retriable=False)
            number = self._number = self._most  # nothing is started anew: the last attempt's run is waited for
        try:
            attempt = self._made.attempt(self._index, self._item, number, memory)
            log.info("Attempt %d: %s", number, name)
            with measured.attempt(self._job.id):
                result: Result = self._stopping.run(_call(self._job, attempt))
        except AttemptError:
            raise
        except Exception as error:
            log.exception("Unexpected error")
            raise AttemptError("internal-error", f"{type(error).__name__}: {error}") from error
        # The call was made, and did what it does: it is not made again because what it brought has no place.
        if result.extended_payloads:
            permit = self._made.permit(self._index, own=True)
            count = append_children(permit, attempt.item_id, result.extended_payloads)
            log.info("The answer appended %d items to the run", count)
        outcome = self._outcome(completed(self._index, number, result))
        try:
            store_outcome(self._context, outcome)
        except Exception as error:
            text = f"the call succeeded and its result could not be stored: {type(error).__name__}: {error}"
            raise AttemptError("internal-error", text, retriable=False) from error
        measured.item(self._job.id, True)
        self._deliver(outcome)

    def _give_up_or_retry(self, error: AttemptError) -> None:
        if error.retriable and self._number < self._most:
            raise error
        # The last word on this item: kept like a result, so that closing the run finds it.
        outcome = self._outcome(failed(self._index, self._number, error))
        try:
            store_outcome(self._context, outcome)
        except Exception:
            log.exception("The error could not be stored; closing the run will not know it")
        else:
            measured.item(self._job.id, False)
            self._deliver(outcome)
        raise ItemFailedError(error.code, error.message, status_code=error.status_code, retriable=False) from None

    def _outcome(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """With the id of the message in which it is delivered, if each item has one of its own."""
        return {**outcome, "messageId": self._made.message(self._index)}

    def _deliver(self, outcome: dict[str, Any]) -> None:
        try:
            deliver_item(self._context, self._job, self._item, outcome)
        except Stopped:
            # The item has ended and its outcome is kept; closing the run sends what this worker no longer can.
            log.warning("Stopped while the result was being delivered; closing the run will try again")


async def _call(job: Job, attempt: Attempt) -> Result:
    async with open_target(job.target, limits()) as caller:
        return await caller(attempt)
