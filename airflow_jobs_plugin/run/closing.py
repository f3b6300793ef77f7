"""Closing a run: every item has ended; judge the outcome, deliver the results, say so."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.run.items import item_id, parameters_of
from airflow_jobs_plugin.run.outcomes import ENDED, item_states, read_outcomes
from airflow_jobs_plugin.run.rescheduling import later
from airflow_jobs_plugin.sinks import sink_for
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery, DeliverySink
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body, run_body, run_lines, run_names
from airflow_jobs_plugin.spec import Job

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Ceiling of Airflow's retries for closing; the sink's window ends them long before.
RETRIES = 100
#: Wait before closing is tried again after the worker died or the API server was away.
RETRY_DELAY = timedelta(seconds=10)
#: Bodies up to this size stay in memory, larger ones go to a temporary file.
SPOOL_BYTES = 4 * 1024 * 1024


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


class _DeliveryRetry(DeliveryError):
    """A delivery that failed and will be tried again after ``wait``."""

    def __init__(self, message: str, wait: timedelta) -> None:
        super().__init__(message)
        self.wait = wait


class ClosingRetryPolicy(RetryPolicy):
    """Waits as the sink's window says; what is not a failed delivery waits ``RETRY_DELAY``."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, _DeliveryRetry):
            return RetryDecision.retry(exception.wait, f"not delivered; waiting {exception.wait}")
        return RetryDecision.default()


def close(context: Context, job: Job, items: list[dict[str, Any]] | None) -> None:
    """Judge, deliver and report; returns if the run succeeded.

    Raises ``AirflowFailException`` if it did not, ``AirflowRescheduleException`` if an item is still under way,
    and a retried ``DeliveryError`` while the sink's window is open.
    """
    if items is None:
        raise AirflowFailException("The plan failed, so nothing was called; the log of the task 'plan' says why")
    states = item_states(context)
    if states.get(-1) in ENDED:
        # Ended before it was expanded, by hand or because the run was: no item was or will be called.
        states = dict.fromkeys(range(len(items)), states[-1])
    open_items = [n for n in range(len(items)) if states.get(n) not in ENDED]
    if open_items:
        log.warning("%d items have not ended, the first is %d; closing later", len(open_items), open_items[0])
        raise later()
    counts = Counts(len(items), sum(states[n] == "success" for n in range(len(items))))
    status = counts.status(job.configuration.tolerated_failure_percentage)
    log.info("%s: %d items, %d succeeded, %d failed", status, counts.total, counts.succeeded, counts.failed)

    report: dict[str, Any] = {
        "status": status,
        "payloads": counts.total,
        "successfulRuns": counts.succeeded,
        "failedRuns": counts.failed,
        "delivery": None,
    }
    if job.sink is not None:
        report["delivery"] = _delivered(context, job, items, states, counts, status)
    context["ti"].xcom_push("return_value", report)
    if report["delivery"] and report["delivery"]["status"] == "failed":
        raise AirflowFailException(f"The results were not delivered: {report['delivery']['message']}")
    if status == "FAILURE":
        raise AirflowFailException(
            f"{counts.failed} of {counts.total} items failed; tolerated: "
            f"{job.configuration.tolerated_failure_percentage:g}%"
        )


def _delivered(
    context: Context,
    job: Job,
    items: list[dict[str, Any]],
    states: dict[int, str | None],
    counts: Counts,
    status: str,
) -> dict[str, Any]:
    """Deliver once over all tries of this task; returns what became of it."""
    if TYPE_CHECKING:
        assert job.sink is not None
    ti, run, store = context["ti"], context["dag_run"], context["task_state_store"]
    # What is remembered belongs to this closing: clearing the run closes it anew.
    mark = f"delivery-{run.clear_number or 0}"
    memory: Any = store.get(mark) or {"since": datetime.now(UTC).isoformat(), "failures": 0, "done": None}
    if memory["done"]:
        done: dict[str, Any] = memory["done"]
        return done
    store.set(mark, memory)

    facts = RunFacts(
        workspace_id=settings.text("workspace_id"),
        project=settings.text("project_name"),
        job_id=ti.dag_id,
        run_id=ti.run_id,
        status=status,
        type="SCHEDULED" if run.run_type in ("scheduled", "backfill") else "MANUAL",
        start_time=run.start_date.isoformat() if run.start_date else None,
        end_time=memory["since"],
        payloads=counts.total,
        successful_runs=counts.succeeded,
        failed_runs=counts.failed,
    )
    sink = sink_for(job.sink)
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as body:
        pieces = run_lines if sink.format == "jsonl" else run_body
        for piece in pieces(facts, _results(context, job, items, states, facts)):
            body.write(piece)
        # A closing of its own after clearing is another message, with another body.
        message = f"msg_{item_id(ti.dag_id, ti.run_id, -1 - (run.clear_number or 0))}"
        delivery = Delivery(message, body, body.tell(), CONTENT_TYPES[sink.format], run_names(facts))
        done = _try(sink, delivery, memory, store, mark)
    memory["done"] = done
    _remember(store, mark, memory)
    return done


def _remember(store: Any, mark: str, memory: dict[str, Any]) -> None:
    """Note what was delivered. What is not noted would be delivered once more, if this process died then."""
    for wait in (0.5, 2, 5):
        try:
            store.set(mark, memory)
            return
        except Exception:
            log.warning("The delivery could not be noted, trying again in %s s", wait, exc_info=True)
            time.sleep(wait)
    log.error("The delivery could not be noted: should this task be tried again, it is repeated under the same id")


def _try(sink: DeliverySink, delivery: Delivery, memory: dict[str, Any], store: Any, mark: str) -> dict[str, Any]:
    elapsed = datetime.now(UTC) - datetime.fromisoformat(memory["since"])
    try:
        receipt = sink.deliver(delivery)
    except DeliveryError as error:
        memory["failures"] += 1
        wait = sink.window.wait(memory["failures"], elapsed, error.retry_after) if error.retriable else None
        if wait is not None:
            store.set(mark, memory)
            raise _DeliveryRetry(str(error), wait) from None
        return {
            "status": "failed",
            "to": sink.destination(),
            "message": str(error),
            "statusCode": error.status_code,
            "tries": memory["failures"],
        }
    log.info("Delivered %d bytes to %s", delivery.size, sink.destination())
    return {"status": "delivered", **receipt, "bytes": delivery.size, "tries": memory["failures"] + 1}


def _results(
    context: Context, job: Job, items: list[dict[str, Any]], states: dict[int, str | None], facts: RunFacts
) -> Iterator[dict[str, Any]]:
    sink = job.sink
    for outcome in read_outcomes(context, states, len(items)):
        index = outcome["index"]
        item = items[index]
        if sink is not None and (
            (sink.skip_on_fail and outcome["status"] != "completed")
            or (sink.apis_to_send is not None and item["api"] not in sink.apis_to_send)
        ):
            continue
        item = {**item, "parameters": parameters_of(item)}
        yield item_body(facts, item, item_id(facts.job_id, facts.run_id, index), outcome)


__all__ = ["RETRIES", "RETRY_DELAY", "ClosingRetryPolicy", "Counts", "close"]
