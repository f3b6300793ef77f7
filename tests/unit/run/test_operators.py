"""Which definition a closing run goes by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.run.notes import REDELIVER
from airflow_jobs_plugin.run.operators import SinkOperator
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import StoredJob

from .conftest import Run


def changed(run: Run, tolerated: int, **sink: Any) -> Job:
    assert run.job.sink is not None
    configuration = run.job.configuration.model_copy(update={"tolerated_failure_percentage": tolerated})
    return run.job.model_copy(update={"configuration": configuration, "sink": run.job.sink.model_copy(update=sink)})


def closes(run: Run, kept: dict[int, Job], newest: Job) -> dict[str, Any]:
    """Close the run as the sink task does; the third of its four items has failed."""
    items = [{**item, "revision": 1} for item in run.items]
    states = {f"payload_{n}": "failed" if n == 2 else "success" for n in range(4)}
    ti = run.context["ti"]
    ti.xcom_pull, ti.get_task_states = lambda **_: items, lambda **_: {"r1": states}
    output = SimpleNamespace(resolve=lambda context: run.outcomes)
    run.context["dag"] = SimpleNamespace(
        stored=StoredJob(newest, {}, "CODE", "", revision=2, earlier=kept),
        get_task=lambda task_id: SimpleNamespace(output=output),
    )
    SinkOperator(task_id="sink").execute(run.context)
    report: dict[str, Any] = run.pushed["return_value"]
    return report


def test_a_redelivery_takes_the_newest_sink_and_nothing_else_of_the_newest_definition(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    moved = f"{inbox.url}/moved"
    run.store.set(REDELIVER, {"clearNumber": 0, "again": False})
    with pytest.raises(AirflowFailException, match="1 of 4 items failed"):
        closes(run, {1: changed(run, 0)}, changed(run, 100, url=moved))
    assert run.pushed["return_value"]["status"] == "FAILURE"
    assert [request.path for request in inbox.ledger.all()] == ["/moved"]


def test_a_redelivery_keeps_the_judgement_also_where_the_definition_is_not_kept(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    run.store.set(REDELIVER, {"clearNumber": 0, "again": False, "status": "COMPLETED"})
    assert closes(run, {}, changed(run, 0))["status"] == "COMPLETED"
    assert inbox.delivered()[0]["projectJobRun"]["status"] == "COMPLETED"
