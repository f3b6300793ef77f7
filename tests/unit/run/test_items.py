from __future__ import annotations

from typing import Any

import pytest

from airflow_jobs_plugin.errors import DefinitionError
from airflow_jobs_plugin.run.items import item_id, parameters_of, plan_items, policy_of, unrunnable
from airflow_jobs_plugin.spec import Job

JOB = Job.model_validate(
    {
        "id": "x",
        "payload": [
            {"api": "a", "parameters": {"n": 1}},
            {"api": "b", "retry": {"maximumAttempts": 9}, "requestTimeout": 5},
        ],
        "configuration": {"retry": {"maximumAttempts": 4, "initialInterval": "1s"}, "requestTimeout": 30},
    }
)  # fmt: skip


def test_the_plan_fixes_effective_policies_and_time_outs() -> None:
    first, second = plan_items(JOB, None, 10)
    assert (first["api"], parameters_of(first), first["requestTimeout"]) == ("a", {"n": 1}, 30)
    assert policy_of(first).maximum_attempts == 4
    assert second["requestTimeout"] == 5
    assert (policy_of(second).maximum_attempts, policy_of(second).initial_interval) == (9, 1000)


@pytest.mark.parametrize("conf", [None, {}, {"payload": None}])
def test_a_trigger_without_a_payload_runs_the_jobs_own(conf: Any) -> None:
    assert [item["api"] for item in plan_items(JOB, conf, 10)] == ["a", "b"]


def test_a_triggers_payload_replaces_the_list_and_keeps_the_jobs_policy() -> None:
    (item,) = plan_items(JOB, {"payload": [{"apiName": "c", "retry": {"maximumAttempts": 50}}]}, 10)
    assert (item["api"], policy_of(item).maximum_attempts, policy_of(item).initial_interval) == ("c", 50, 1000)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"paylod": []}, "conf: unknown key 'paylod'; did you mean 'payload'?"),
        ({"payload": []}, "conf: payload: List should have at least 1 item"),
        ({"payload": {"api": "a"}}, "conf: payload: Input should be a valid list"),
        ({"payload": [{"api": "a"}, {"apis": "b"}]}, "conf: payload[1].apis: unknown field 'apis'"),
        ({"payload": [{"api": "a", "retry": {"maximumInterval": 1}}]}, "conf: payload[0].retry: with the job's"),
        ({"payload": [{"api": "a"}] * 11}, "11 items are more than [core] max_map_length (10) allows"),
    ],
)  # fmt: skip
def test_a_wrong_trigger_is_refused_with_every_fault(conf: dict, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        plan_items(JOB, conf, 10)
    assert said in str(caught.value)


def test_an_items_identity_depends_on_job_run_and_index_alone() -> None:
    ids = {item_id(job, run, n) for job in ("a", "b") for run in ("r", "s") for n in range(3)}
    assert len(ids) == 12
    assert item_id("a", "r", 1) == item_id("a", "r", 1)


def test_what_this_set_up_cannot_run_is_said() -> None:
    assert unrunnable(JOB, 10) is None
    assert "2 items are more than [core] max_map_length (1)" in str(unrunnable(JOB, 1))
    assert "itemsPerTask to 2 or more" in str(unrunnable(JOB, 1))
    shared = JOB.model_copy(update={"configuration": JOB.configuration.model_copy(update={"items_per_task": 2})})
    assert unrunnable(shared, 1) is None
    run_api = Job.model_validate({"id": "x", "payload": [{"api": "a"}], "target": {"type": "run-api"}})
    assert unrunnable(run_api, 10) is None
    s3 = Job.model_validate({"id": "x", "payload": [{"api": "a"}], "sink": {"type": "s3", "bucket": "abc"}})
    assert unrunnable(s3, 10) is None
