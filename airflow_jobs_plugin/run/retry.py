"""The retry policy of payload items, in Airflow's terms."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.batches import is_batch
from airflow_jobs_plugin.run.items import policy_of
from airflow_jobs_plugin.spec.retry import MAX_ATTEMPTS

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: ``retries`` of the task ``payload``: the ceiling that Airflow applies to every item alike. How many attempts
#: an item has is its own affair, also for items of a trigger's override, which nobody knew when the DAG was
#: built; so the ceiling is what a policy may ask for at most, and the items' own policies decide below it.
RETRIES = MAX_ATTEMPTS - 1
#: How often a batch is begun at most, and what it waits before it comes again.
MAX_BATCH_TRIES, BATCH_RETRY_DELAY = 100, timedelta(seconds=2)


def attempt_number(try_number: int, max_tries: int) -> int:
    """The attempt (from 1) that a try is: clearing an item in Airflow starts its attempts anew.

    Clearing raises ``max_tries`` by the tries that were used up; what exceeds ``RETRIES`` was before it.
    """
    return max(1, try_number - lives(max_tries))


def lives(max_tries: int) -> int:
    """The tries that were used up before an instance was cleared last; 0 if it never was."""
    return max(0, max_tries - RETRIES)


def _of_batch(exception: BaseException, tries: int) -> RetryDecision:
    """A batch comes again whatever kept it from going on; how its items fare is their own affair."""
    if isinstance(exception, AttemptError) and not exception.retriable:
        return RetryDecision.fail("items have failed")
    if tries >= MAX_BATCH_TRIES:
        return RetryDecision.fail(f"the batch was begun {tries} times and is not at its end")
    return RetryDecision.retry(BATCH_RETRY_DELAY, "what was recorded stays, the rest is called")


class ItemRetryPolicy(RetryPolicy):
    """Exact waits and the item's own number of attempts. Needs an unmapped task with ``item``."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        # Airflow falls back to up to RETRIES immediate retries if this raises: nothing may escape.
        try:
            task: Any = context["task"]  # type: ignore[index]
            if is_batch(task.item):
                return _of_batch(exception, attempt_number(try_number, max_tries))
            policy = policy_of(task.item)
            attempt = attempt_number(try_number, max_tries)
            if isinstance(exception, AttemptError) and not exception.retriable:
                return RetryDecision.fail("another attempt cannot help")
            if attempt >= policy.maximum_attempts:
                return RetryDecision.fail(f"attempt {attempt} of {policy.maximum_attempts} failed")
            wait = policy.wait_after(attempt - 1)
            return RetryDecision.retry(wait, f"attempt {attempt} of {policy.maximum_attempts}; waiting {wait}")
        except Exception:
            log.exception("The retry policy cannot be applied; the item fails")
            return RetryDecision.fail("the retry policy cannot be applied")
