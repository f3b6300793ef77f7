"""The items of a run as the plan task fixes them, and their identity."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_jobs_plugin.errors import DefinitionError
from airflow_jobs_plugin.spec import Job, PayloadItem, RetryPolicy, explain, parse_payload
from airflow_jobs_plugin.spec.base import did_you_mean
from airflow_jobs_plugin.spec.faults import quoted

#: Task ids of a job's DAG.
PLAN, PAYLOAD, SINK = "plan", "payload", "sink"

#: Field of the serialized ``plan`` task with the job's definition, and XCom key of ``plan`` with the run's terms.
DEFINITION, TERMS = "job_definition", "terms"

#: The one key that a trigger's ``conf`` may have.
OVERRIDE = "payload"

# Any fixed UUID would do: it separates these names from those of others.
_NAMESPACE = uuid.UUID("5f0c3d0e-9c55-4b0c-9a3a-6d1f5c1c7c11")


def item_id(job_id: str, run_id: str, index: int) -> str:
    """The item's identity over all its attempts: a UUID made from job, run and index."""
    return str(uuid.uuid5(_NAMESPACE, f"{job_id}\n{run_id}\n{index}"))


@dataclass(frozen=True)
class Terms:
    """What of the definition holds for all items of a run, appended ones included, fixed when the run begins."""

    retry: RetryPolicy
    request_timeout: float
    max_runs: int | None
    revision: int
    """Of the definition; 0 for a job file."""
    items_per_task: int = 1

    @classmethod
    def of(cls, job: Job, revision: int) -> Terms:
        """The terms of a run of that definition."""
        configuration = job.configuration
        return cls(
            configuration.retry,
            configuration.request_timeout,
            configuration.max_runs,
            revision,
            configuration.items_per_task,
        )

    @classmethod
    def read(cls, value: dict[str, Any]) -> Terms:
        """From what ``written`` returned."""
        retry = RetryPolicy.model_validate(value["retry"])
        return cls(retry, value["requestTimeout"], value["maxRuns"], value["revision"], value.get("itemsPerTask", 1))

    @cached_property
    def written_retry(self) -> dict[str, Any]:
        """The policy as a JSON object. Nobody changes it: all items without one of their own share it."""
        return self.retry.model_dump(by_alias=True)

    def written(self) -> dict[str, Any]:
        """The JSON object that ``plan`` leaves for whoever appends."""
        return {
            "retry": self.written_retry,
            "requestTimeout": self.request_timeout,
            "maxRuns": self.max_runs,
            "revision": self.revision,
            "itemsPerTask": self.items_per_task,
        }


def plan_items(job: Job, conf: dict[str, Any] | None, max_tasks: int, revision: int = 0) -> list[dict[str, Any]]:
    """The run's payload list: the trigger's override if it has one, else the definition's.

    Each item is ``{"api", "parameters", "retry", "requestTimeout"}`` with its *effective* policy (milliseconds)
    and time-out (seconds). Parameters are JSON text: on the way through XCom, Airflow's serialization would change
    objects with keys such as ``__type``, and its channel refuses large integers. A ``revision`` of the definition is
    noted in each item. Raises ``DefinitionError`` with every fault of the override, or when more than ``max_tasks``
    task instances would have to run the list.
    """
    items = override_of(job, conf)
    if items is None:
        items = job.payload
    if problem := too_many(len(items), job.configuration.items_per_task, max_tasks):
        raise DefinitionError(problem)
    terms = Terms.of(job, revision)
    return [planned(item, terms) for item in items]


def override_of(job: Job, conf: dict[str, Any] | None) -> list[PayloadItem] | None:
    """The payload of a trigger's ``conf``, or None where it has none. Raises ``DefinitionError``."""
    from pydantic import ValidationError

    if not conf:
        return None
    if unknown := [key for key in conf if key != OVERRIDE]:
        raise DefinitionError(
            f"conf: unknown key {quoted(unknown[0])}{did_you_mean(str(unknown[0]), [OVERRIDE])}; "
            'a trigger takes {"payload": [{"api": …, "parameters": {…}}, …]}'
        )
    if conf[OVERRIDE] is None:
        return None
    try:
        return parse_payload(conf[OVERRIDE], job.configuration)
    except ValidationError as error:
        raise DefinitionError("\n".join(f"conf: {fault}" for fault in explain(error))) from None


def unrunnable(job: Job, max_map_length: int) -> str | None:
    """What of a valid definition this version, or this set-up, cannot run; None if nothing."""
    return too_many(len(job.payload), job.configuration.items_per_task, max_map_length)


def too_many(count: int, items_per_task: int, limit: int) -> str | None:
    """What to say of a payload that Airflow would not map over; None if it would."""
    tasks = -(-count // items_per_task)
    if tasks <= limit:
        return None
    fitting = -(-count // limit)
    shared = f", {items_per_task} to a task instance," if items_per_task > 1 else ""
    return (
        f"payload: {count} items{shared} are more than [core] max_map_length ({limit}) allows; "
        f"set configuration.itemsPerTask to {fitting} or more, or raise AIRFLOW__CORE__MAX_MAP_LENGTH to at least "
        f"{tasks}"
    )


def planned(item: PayloadItem, terms: Terms) -> dict[str, Any]:
    """One item as the run keeps it."""
    return {
        "api": item.api,
        "parameters": json.dumps(item.parameters),
        "retry": item.retry.over(terms.retry).model_dump(by_alias=True) if item.retry else terms.written_retry,
        "requestTimeout": item.request_timeout or terms.request_timeout,
        **({"revision": terms.revision} if terms.revision else {}),
    }


def parameters_of(item: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an item as ``planned`` wrote it."""
    parameters: dict[str, Any] = json.loads(item["parameters"])
    return parameters


def policy_of(item: dict[str, Any]) -> RetryPolicy:
    """The effective policy of an item as ``planned`` wrote it."""
    return RetryPolicy.model_validate(item["retry"])
