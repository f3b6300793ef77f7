"""How an item's last word is kept, and how all of them are read when the run closes.

An ended item has an *outcome*: its XCom ``return_value``, for failures too. It carries its index, because
slices of mapped XComs leave out instances that have none. The state of the task instance decides whether the
item succeeded: a process can die between storing an outcome and reporting success.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.items import PAYLOAD, PLAN
from airflow_jobs_plugin.run.server import LONGEST_WAIT, PATIENCE, is_away
from airflow_jobs_plugin.targets.base import Result

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Outcomes fetched at first. Then as many as come to ``SLICE_BYTES`` if all are like the largest of those before, since
#: each request has a cost of its own. What comes next may be larger than anything before, so
#: there are never more than come to ``MOST_BYTES`` with the largest results that ``[jobs] max_result_bytes`` allows.
SLICE = 32
SLICE_BYTES = 4 * 1024 * 1024
MOST_BYTES = 256 * 1024 * 1024

KEY = "return_value"

#: An item as the plan wrote it, and its outcome.
Brought = tuple[dict[str, Any], dict[str, Any]]

#: States of task instances that will not change by themselves any more.
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


def completed(index: int, attempts: int, result: Result) -> dict[str, Any]:
    """The outcome of an item that succeeded. The result is JSON text, as parameters are in the plan's list."""
    return {
        "index": index,
        "status": "completed",
        "attempts": attempts,
        "result": json.dumps(result.value),
        "statusCode": result.status_code,
    }


def failed(index: int, attempts: int, error: AttemptError) -> dict[str, Any]:
    """The outcome of an item that failed for good; ``error`` is the code, ``message`` says why."""
    return {
        "index": index,
        "status": "failed",
        "attempts": attempts,
        "error": error.code,
        "message": error.message,
        "statusCode": error.status_code,
    }


def store_outcome(context: Context, outcome: dict[str, Any]) -> None:
    """Keep the outcome of the item that is running.

    The call has been made, so an API server that is away is asked again, for ``PATIENCE``. Raises what Airflow raises.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    end, wait = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            context["ti"].xcom_push(KEY, outcome)
            return
        except AirflowRuntimeError as error:
            if not is_away(error) or time.monotonic() + wait > end:
                raise
            log.warning("The outcome could not be stored, trying again in %g s: %s", wait, error)
        time.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)


def decoded(outcome: dict[str, Any]) -> dict[str, Any]:
    """The outcome with its result as a JSON value."""
    return {**outcome, "result": json.loads(outcome["result"])} if "result" in outcome else outcome


def item_states(context: Context) -> dict[int, str | None]:
    """The state of every item of this run, by index; a list that was never expanded has one, under -1."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[PAYLOAD], run_ids=[ti.run_id])
    prefix = f"{PAYLOAD}_"
    return {
        int(name.removeprefix(prefix)) if name != PAYLOAD else -1: state
        for name, state in states.get(ti.run_id, {}).items()
    }


def planned_items(context: Context) -> list[dict[str, Any]] | None:
    """The run's list as it stands now; None if the plan failed."""
    return context["ti"].xcom_pull(task_ids=PLAN, map_indexes=None)  # type: ignore[no-any-return]


def read_outcomes(context: Context, states: dict[int, str | None], count: int) -> Iterator[dict[str, Any]]:
    """The outcome of each of ``count`` items, in index order, fetched in slices.

    An item that ended without a usable outcome gets one that says so.
    """
    stored = _stored(context)
    ahead = next(stored, None)
    for index in range(count):
        while ahead is not None and ahead["index"] < index:
            ahead = next(stored, None)
        outcome = ahead if ahead is not None and ahead["index"] == index else None
        yield reconciled(index, states.get(index), outcome)


def reconciled(index: int, state: str | None, outcome: dict[str, Any] | None) -> dict[str, Any]:
    """The outcome of an ended item: what it left behind, as far as the state of its instance bears it out.

    ``result`` is decoded here.
    """
    if outcome is not None and outcome["status"] == ("completed" if state == "success" else "failed"):
        return decoded(outcome)
    attempts = outcome["attempts"] if outcome else None
    if state == "success":
        # Marked by a person: it counts as done, and there is nothing to deliver.
        return {
            "index": index,
            "status": "completed",
            "attempts": attempts,
            "result": None,
            "statusCode": None,
        }
    if state == "failed":
        code, message = (
            "no-outcome",
            "the item failed without leaving an error: its worker died, or it was stopped",
        )
    else:
        code, message = "canceled", f"the item was not run to its end (state: {state or 'none'})"
    return {
        "index": index,
        "status": "failed",
        "attempts": attempts,
        "error": code,
        "message": message,
        "statusCode": None,
    }


def _stored(context: Context) -> Iterator[dict[str, Any]]:
    # Resolving the output of a mapped task gives a lazy sequence over the values that exist, by map index.
    output = context["dag"].get_task(PAYLOAD).output.resolve(context)
    most = max(1, MOST_BYTES // settings.number("max_result_bytes"))
    start, count = 0, min(SLICE, most)
    while True:
        try:
            part = output[start : start + count]
        except Exception:
            if count == 1:
                raise
            # Such as more than the API server can answer within its time. An API server that is away stays away.
            most = count = max(1, count // 8)
            log.warning("Outcomes from %d on could not be fetched; trying %d at a time", start, count, exc_info=True)
            continue
        yield from part
        if len(part) < count:
            return
        start += count
        count = max(1, min(most, SLICE_BYTES // max(map(_size, part))))


def _size(outcome: dict[str, Any]) -> int:
    """About how many bytes an outcome takes."""
    return 200 + len(outcome.get("result") or outcome.get("message") or "")
