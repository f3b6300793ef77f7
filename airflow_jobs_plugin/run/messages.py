"""What is sent of a run and of its items: which, under which id, with which body."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.run.items import item_id, parameters_of
from airflow_jobs_plugin.run.retry import RETRIES
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery, DeliverySink
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body, item_names
from airflow_jobs_plugin.spec import Sink

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


def message_of_item(job_id: str, run_id: str, index: int, max_tries: int) -> str:
    """The id of an item's message. An item that was cleared and has run again is another one."""
    lives = max(0, max_tries - RETRIES)
    return f"msg_{item_id(job_id, run_id, index)}{f'_{lives}' if lives else ''}"


def message_of_run(job_id: str, run_id: str, clear_number: int) -> str:
    """The id of a run's message. A closing of its own after clearing is another one, with another body."""
    return f"msg_{item_id(job_id, run_id, -1 - clear_number)}"


def wanted(sink: Sink, item: dict[str, Any], outcome: dict[str, Any]) -> bool:
    """Whether the sink gets that item."""
    if sink.skip_on_fail and outcome["status"] != "completed":
        return False
    return sink.apis_to_send is None or item["api"] in sink.apis_to_send


def facts_of(context: Context, status: str, end_time: str, payloads: int, succeeded: int) -> RunFacts:
    """What deliveries say of the run."""
    ti, run = context["ti"], context["dag_run"]
    return RunFacts(
        workspace_id=settings.text("workspace_id"),
        project=settings.text("project_name"),
        job_id=ti.dag_id,
        run_id=ti.run_id,
        status=status,
        type="SCHEDULED" if run.run_type in ("scheduled", "backfill") else "MANUAL",
        start_time=run.start_date.isoformat() if run.start_date else None,
        end_time=end_time,
        payloads=payloads,
        successful_runs=succeeded,
        failed_runs=payloads - succeeded,
    )


def body_of(facts: RunFacts, item: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """The body of one item, as the plan wrote it and with its outcome decoded."""
    whole = {**item, "parameters": parameters_of(item)}
    return item_body(facts, whole, item_id(facts.job_id, facts.run_id, outcome["index"]), outcome)


def delivery_of(
    sink: DeliverySink, facts: RunFacts, item: dict[str, Any], outcome: dict[str, Any], message: str
) -> Delivery:
    """The delivery of one item by itself."""
    line = json.dumps(body_of(facts, item, outcome))
    body = (line + "\n" if sink.format == "jsonl" else line).encode()
    index = outcome["index"]
    names = item_names(facts, index, item_id(facts.job_id, facts.run_id, index), item["api"])
    return Delivery(message, io.BytesIO(body), len(body), CONTENT_TYPES[sink.format], names)
