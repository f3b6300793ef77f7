from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from airflow_jobs_plugin.run.closing import close
from airflow_jobs_plugin.run.items import plan_items
from airflow_jobs_plugin.run.outcomes import planned_items
from airflow_jobs_plugin.spec import Job

JOB = Job.model_validate({"id": "x", "payload": [{"api": "a"}, {"api": "b"}]})


class Run:
    """A run without a sink, as its closing task sees it: what Airflow answers, and what was pushed."""

    def __init__(self, states: dict[str, str | None], planned: bool = True) -> None:
        self.pushed: dict[str, Any] = {}
        items = plan_items(JOB, None, 10) if planned else None
        ti = SimpleNamespace(
            dag_id="x",
            run_id="r",
            xcom_pull=lambda **_: items,
            get_task_states=lambda **_: {"r": states},
            xcom_push=lambda key, value: self.pushed.update({key: value}),
        )
        self.context: Any = {"ti": ti, "dag_run": SimpleNamespace(start_date=None)}


def test_a_run_whose_items_succeeded_closes_well() -> None:
    run = Run({"payload_0": "success", "payload_1": "success"})
    close(run.context, JOB, planned_items(run.context))
    assert run.pushed["return_value"]["status"] == "SUCCESS"


@pytest.mark.parametrize("state", ["failed", "skipped", "upstream_failed", "removed"])
def test_a_list_that_ended_before_it_was_expanded_closes_the_run(state: str) -> None:
    run = Run({"payload": state})
    with pytest.raises(AirflowFailException, match="2 of 2 items failed"):
        close(run.context, JOB, planned_items(run.context))
    assert run.pushed["return_value"]["failedRuns"] == 2


@pytest.mark.parametrize(
    "states", [{"payload_0": "success"}, {"payload_0": "success", "payload_1": "running"}, {"payload": None}]
)
def test_items_that_have_not_ended_are_waited_for(states: dict[str, str | None]) -> None:
    run = Run(states)
    with pytest.raises(AirflowRescheduleException):
        close(run.context, JOB, planned_items(run.context))
    assert run.pushed == {}


def test_a_run_without_a_plan_says_where_to_look() -> None:
    with pytest.raises(AirflowFailException, match="the log of the task 'plan'"):
        close(Run({}, planned=False).context, JOB, None)
