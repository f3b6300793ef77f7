"""Which tries count, by what Airflow's scheduler tells of a task instance that its executor has lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.state import TaskInstanceState

from airflow_jobs_plugin import listener
from airflow_jobs_plugin.factory import build_dag
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import StoredJob

QUEUED = datetime(2026, 11, 25, tzinfo=UTC)
DEFINITION: dict[str, Any] = {"id": "prices", "payload": [{"api": "list"}]}


def lost(task_id: str, *, started: float | None, state: str = "up_for_retry", tries: int = 3) -> TaskInstance:
    """As the scheduler hands it over: with the task from the serialized DAG."""
    dag = build_dag(StoredJob(Job.model_validate(DEFINITION), DEFINITION, "CODE", ""), 1000)
    task = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task(task_id)
    ti: Any = TaskInstance(task, run_id="r1", map_index=0, state=TaskInstanceState(state), dag_version_id=None)
    ti.task, ti.try_number, ti.queued_dttm = task, tries, QUEUED
    ti.start_date = None if started is None else QUEUED + timedelta(seconds=started)
    return ti


@pytest.mark.parametrize("task_id", ["plan", "payload", "sink"])
@pytest.mark.parametrize("started", [None, -30])
def test_a_try_that_never_started_does_not_count(task_id: str, started: float | None) -> None:
    ti = lost(task_id, started=started)
    listener.on_task_instance_failed("running", ti, None)
    assert ti.try_number == 2, "the next one has the same number"


def test_a_try_that_started_counts() -> None:
    ti = lost("payload", started=0.5)
    listener.on_task_instance_failed("running", ti, None)
    assert ti.try_number == 3


def test_what_has_failed_for_good_stays_as_it_is() -> None:
    ti = lost("payload", started=None, state="failed")
    listener.on_task_instance_failed("running", ti, None)
    assert ti.try_number == 3


def test_tasks_of_others_are_let_be() -> None:
    ti = lost("payload", started=None)
    ti.task._task_module = "acme.operators"
    listener.on_task_instance_failed("running", ti, None)
    assert ti.try_number == 3
