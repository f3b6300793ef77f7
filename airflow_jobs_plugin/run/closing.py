"""Closing a run: every item has ended; judge the outcome, deliver the results, say so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException

from airflow_jobs_plugin.run import harvest, measured
from airflow_jobs_plugin.run.batches import is_batch
from airflow_jobs_plugin.run.delivering import Closing, RetryLater
from airflow_jobs_plugin.run.rescheduling import later
from airflow_jobs_plugin.spec import Job

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Ceiling of Airflow's retries for closing; the sink's window ends them long before.
RETRIES = 100
#: Wait before closing is tried again after the worker died or the API server was away.
RETRY_DELAY = timedelta(seconds=10)


@dataclass(frozen=True)
class Counts:
    """How the items of a run ended."""

    total: int
    succeeded: int

    @property
    def failed(self) -> int:
        return self.total - self.succeeded

    def status(self, tolerated_percentage: float) -> str:
        """SUCCESS (none failed), COMPLETED (failures within tolerance) or FAILURE."""
        if self.failed == 0:
            return "SUCCESS"
        # Exact: in binary floats 32.3 % of 1,000 is less than 323.
        tolerated = Fraction(repr(tolerated_percentage)) * self.total
        return "COMPLETED" if self.failed * 100 <= tolerated else "FAILURE"


class ClosingRetryPolicy(RetryPolicy):
    """Waits as the sink's window says; what is not a failed delivery waits ``RETRY_DELAY``."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, RetryLater):
            return RetryDecision.retry(exception.wait, f"not delivered; waiting {exception.wait}")
        return RetryDecision.default()


def close(context: Context, job: Job, items: list[dict[str, Any]] | None, judged: str | None = None) -> None:
    """Judge, deliver and report; returns if the run succeeded.

    :param judged: how the run was judged before, when its results are delivered anew: the definition that it went by
        may not be kept any more

    Raises ``AirflowFailException`` if it did not, ``AirflowRescheduleException`` if an item is still under way,
    and a retried ``DeliveryError`` while the sink's window is open.
    """
    if items is None:
        measured.run(context, "FAILURE")
        raise AirflowFailException("The plan failed, so nothing was called; the log of the task 'plan' says why")
    brought = harvest.of_batches(context) if is_batch(items[0]) else harvest.of_instances(context, items)
    if brought.open:
        log.warning("%d items have not ended; closing later", brought.open)
        raise later()
    counts = Counts(brought.total, brought.succeeded)
    status = judged or counts.status(job.configuration.tolerated_failure_percentage)
    log.info("%s: %d items, %d succeeded, %d failed", status, counts.total, counts.succeeded, counts.failed)

    report: dict[str, Any] = {
        "status": status,
        "payloads": counts.total,
        "successfulRuns": counts.succeeded,
        "failedRuns": counts.failed,
        "delivery": None,
    }
    if job.sink is not None:
        closing = Closing(context, job, counts.total, brought.read, status, counts.succeeded)
        try:
            report["delivery"] = closing.deliver()
        except RetryLater as error:
            # For whoever looks at the run meanwhile.
            context["ti"].xcom_push("return_value", {**report, "delivery": error.report})
            raise
    context["ti"].xcom_push("return_value", report)
    undelivered = bool(report["delivery"] and report["delivery"]["status"] == "failed")
    if not judged:  # else it was counted when it closed the first time
        measured.run(context, "FAILURE" if undelivered else status)
    if undelivered:
        measured.given_up(job.id)
        raise AirflowFailException(f"The results were not delivered: {report['delivery']['message']}")
    if status == "FAILURE":
        tolerated = "" if judged else f"; tolerated: {job.configuration.tolerated_failure_percentage:g}%"
        raise AirflowFailException(f"{counts.failed} of {counts.total} items failed{tolerated}")


__all__ = ["RETRIES", "RETRY_DELAY", "ClosingRetryPolicy", "Counts", "close"]
