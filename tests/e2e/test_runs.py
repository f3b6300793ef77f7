"""Job files run end to end on a real Airflow: definition, DAG, mapped calls, webhook."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from typing import Any

import httpx
import psutil
import pytest
from standardwebhooks import Webhook

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from . import ways
from .conftest import PARALLELISM, Api, Jobs
from .test_appending import items_of
from .ways import either_way

pytestmark = pytest.mark.e2e

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook(receiver: WebhookReceiver, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"{receiver.url}/hook", **more}


def items(rest: httpx.Client, run: dict[str, Any]) -> list[dict[str, Any]]:
    return items_of(rest, run["dag_id"], run["dag_run_id"])


def report(airflow: AirflowStack, run: dict[str, Any]) -> dict[str, Any]:
    return airflow.xcom(run["dag_id"], run["dag_run_id"], "sink")


def calling(airflow: AirflowStack, api: Api) -> list[int]:
    """The task processes that have an open connection to the API."""
    found = []
    for child in airflow.processes["scheduler"].running()[1:]:
        try:
            if any(c.raddr and c.raddr.port == api.port for c in child.net_connections(kind="tcp")):
                found.append(child.pid)
        except psutil.NoSuchProcess:
            pass
    return found


@either_way
@pytest.mark.core
def test_every_item_is_called_once_and_the_whole_run_is_delivered_once(
    jobs: Jobs, api: Api, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write(
        "whole",
        payload=[{"api": "echo", "parameters": {"n": n, "text": "{{ ds }} ä"}} for n in range(12)],
        configuration={"maxConcurrentRequests": 4},
        sink=hook(receiver, headers={"X-Team": "ours"}),
    )
    run = jobs.run("whole")
    assert run["state"] == "success"

    calls = api.calls_by_item("whole")
    assert {n: len(made) for n, made in calls.items()} == dict.fromkeys(range(12), 1)
    assert [calls[n][0].body for n in range(12)] == [{"n": n, "text": "{{ ds }} ä"} for n in range(12)]
    keys = {made[0].headers["idempotency-key"] for made in calls.values()}
    assert len(keys) == 12

    (delivery,) = jobs.delivered("whole")
    assert delivery.headers["x-team"] == "ours"
    body = delivery.body
    assert body["projectJob"] == {"id": "whole"}
    assert body["projectJobRun"] | {"startTime": None, "endTime": None} == {
        "id": run["dag_run_id"], "status": "SUCCESS", "type": "MANUAL", "startTime": None, "endTime": None,
        "payloads": 12, "successfulRuns": 12, "failedRuns": 0,
    }  # fmt: skip
    assert body["results"][3] == {
        "apiInfo": {
            "name": "echo",
            "parameters": {"n": 3, "text": "{{ ds }} ä"},
            "runId": calls[3][0].headers["idempotency-key"],
            "result": {"status": "completed", "result": {"echo": calls[3][0].body, "call": 1}, "statusCode": 200},
        },
        "workspaceId": "airflow",
        "project": {"id": "default", "name": "default"},
        "projectJob": {"id": "whole"},
        "projectJobRun": {"id": run["dag_run_id"]},
    }
    assert [result["apiInfo"]["parameters"]["n"] for result in body["results"]] == list(range(12))


@either_way
@pytest.mark.core
def test_attempts_and_waits_are_the_items_own(rest: httpx.Client, jobs: Jobs, api: Api, airflow: AirflowStack) -> None:
    jobs.write(
        "patience",
        payload=[
            {"api": "flaky", "parameters": {"failures": 2}},
            {"api": "flaky", "parameters": {"failures": 9}},
            {"api": "flaky", "parameters": {"failures": 9}, "retry": {"maximumAttempts": 1}},
            {"api": "flaky", "parameters": {"failures": 4}, "retry": {"maximumAttempts": 6, "initialInterval": 0}},
            {"api": "echo", "parameters": {"n": 4}},
        ],
        configuration={
            "retry": {"maximumAttempts": 3, "initialInterval": "1s", "backoffCoefficient": 3, "maximumInterval": "2s"},
            "maxConcurrentRequests": 5,
            "toleratedFailurePercentage": 40,
        },
    )
    run = jobs.run("patience")
    assert run["state"] == "success"
    calls = api.calls_by_item("patience")
    assert [len(calls[n]) for n in range(5)] == [3, 3, 1, 5, 1]
    for made in calls.values():
        assert [int(call.headers["x-attempt"]) for call in made] == list(range(1, len(made) + 1))
        assert len({call.headers["idempotency-key"] for call in made}) == 1
    # What Airflow adds is the time from failing to being scheduled again and up: seconds at most, never less.
    for item, least in ((0, [1, 2]), (1, [1, 2]), (3, [0, 0, 0, 0])):
        waits = [later.time - earlier.time for earlier, later in itertools.pairwise(calls[item])]
        assert all(wanted <= wait < wanted + 8 for wait, wanted in zip(waits, least, strict=True)), (item, waits)
    found = items(rest, run)
    assert [(item["status"], item["attempts"]) for item in found] == [
        ("SUCCEEDED", 3), ("FAILED", 3), ("FAILED", 1), ("SUCCEEDED", 5), ("SUCCEEDED", 1),
    ]  # fmt: skip
    assert (found[1]["error"]["code"], found[1]["error"]["statusCode"]) == ("http-error", 503)
    assert "no luck, call 3" in found[1]["error"]["message"]
    assert report(airflow, run)["status"] == "COMPLETED"


@either_way
def test_no_more_items_run_at_once_than_the_job_allows(jobs: Jobs, api: Api) -> None:
    jobs.write(
        "narrow",
        payload=[{"api": "slow", "parameters": {"seconds": 0.7}} for _ in range(7)],
        configuration={"maxConcurrentRequests": 2},
    )
    assert jobs.run("narrow")["state"] == "success"
    assert api.most_at_once["narrow"] == 2


@either_way
@pytest.mark.core
def test_more_failures_than_tolerated_fail_the_run_and_are_delivered_all_the_same(
    jobs: Jobs, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write(
        "doomed",
        payload=[{"api": "fail", "parameters": {"status": 404}}, {"api": "echo"}, {"api": "echo"}],
        configuration={"retry": {"maximumAttempts": 1}, "toleratedFailurePercentage": 33},
        sink=hook(receiver),
    )
    run = jobs.run("doomed")
    assert run["state"] == "failed"
    (delivery,) = jobs.delivered("doomed")
    assert delivery.body["projectJobRun"]["status"] == "FAILURE"
    assert delivery.body["projectJobRun"]["failedRuns"] == 1
    assert delivery.body["results"][0]["apiInfo"]["result"] == {
        "status": "failed",
        "error": "http-error",
        "message": "POST /fail answered 404 Not Found: no luck, call 1",
        "statusCode": 404,
    }
    assert report(airflow, run)["delivery"]["status"] == "delivered"
    log = airflow.client.task_log("doomed", run["dag_run_id"], "sink")
    assert "1 of 3 items failed; tolerated: 33%" in log


@either_way
def test_a_trigger_may_bring_a_payload_with_more_attempts_than_any_item_had(
    jobs: Jobs, api: Api, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write(
        "override", payload=[{"api": "fail"}], configuration={"retry": {"maximumAttempts": 1}}, sink=hook(receiver)
    )
    conf = {
        "payload": [
            {"apiName": "flaky", "parameters": {"failures": 3}, "retry": {"maximumAttempts": 4}},
            {"api": "echo", "parameters": {"n": 1}},
        ]
    }
    run = jobs.run("override", conf)
    assert run["state"] == "success"
    assert [len(made) for _, made in sorted(api.calls_by_item("override").items())] == [4, 1]
    assert len(jobs.delivered("override")[0].body["results"]) == 2


@either_way
@pytest.mark.parametrize(
    ("conf", "where", "said"),
    [
        ({"payload": [{"api": "echo", "paramters": {}}]}, "plan", "conf: payload[0].paramters: unknown"),
        ({"paylod": [{"api": "echo"}]}, "plan", "conf: unknown key 'paylod'; did you mean 'payload'?"),
        ({"payload": [{"api": "echo"}] * 161}, "plan", "are more than [core] max_map_length (40) allows"),
        ({"payload": [{"parameters": {}}]}, "trigger", "payload"),
        ({"payload": []}, "trigger", "payload"),
        ({"payload": "echo"}, "trigger", "payload"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_told_before_anything_is_called(
    conf: dict, where: str, said: str, jobs: Jobs, api: Api, airflow: AirflowStack
) -> None:
    job_id = "strict-shared" if ways.shared() else "strict"
    if not (jobs.folder / f"{job_id}.job.json").exists():
        jobs.write(job_id, payload=[{"api": "echo"}])
    if where == "trigger":
        with pytest.raises(httpx.HTTPStatusError, match="400") as caught:
            airflow.trigger(job_id, conf)
        assert said in str(caught.value)
    else:
        run = jobs.run(job_id, conf)
        assert run["state"] == "failed"
        assert said in airflow.client.task_log(job_id, run["dag_run_id"], "plan").replace("\\n", "\n").replace(
            '\\"', '"'
        )
        states = {ti["task_id"]: ti["state"] for ti in airflow.task_instances(job_id, run["dag_run_id"])}
        assert states == {"plan": "failed", "payload": "upstream_failed", "sink": "failed"}
    assert api.calls(job_id) == []


def test_an_item_that_waited_in_the_queue_while_its_job_was_paused_does_not_call(
    jobs: Jobs, api: Api, airflow: AirflowStack
) -> None:
    count = PARALLELISM * 3
    jobs.write(
        "pausing",
        payload=[{"api": "slow", "parameters": {"seconds": 3}} for _ in range(count)],
        configuration={"maxConcurrentRequests": count},
    )
    run_id = airflow.trigger("pausing")

    def states() -> list[str]:
        return [ti["state"] for ti in airflow.task_instances("pausing", run_id, "payload")]

    # All are queued in the executor, and as many run as it has workers.
    airflow.client.wait_until("calls", lambda: len(api.calls("pausing")) >= PARALLELISM, 60)
    airflow.client.unpause("pausing", paused=True)
    paused_at = time.time()
    airflow.client.wait_until(
        "nothing queued or running", lambda: not {"queued", "running", "scheduled"} & set(states()), 60
    )
    called = api.calls("pausing")
    assert len(called) < count, "the test is to pause while some are queued"
    assert max(call.time for call in called) < paused_at + 1
    found = states()
    assert found.count("success") == len(called), "running items finish and keep their results"
    assert found.count("up_for_reschedule") > 0
    airflow.client.unpause("pausing")
    run = airflow.wait_for_run("pausing", run_id)
    assert run["state"] == "success"
    assert {n: len(made) for n, made in api.calls_by_item("pausing").items()} == dict.fromkeys(range(count), 1)
    assert all(call.headers["x-attempt"] == "1" for call in api.calls("pausing")), "waiting is no attempt"


def test_a_job_explains_itself_on_airflows_own_pages(jobs: Jobs, airflow: AirflowStack) -> None:
    secret = "hunter2-pages"
    jobs.write(
        "explained",
        payload=[
            {"api": "echo", "parameters": {"page": 2, "apiKey": secret}},
            {"api": "fail", "parameters": {"page": 3}, "retry": {"maximumAttempts": 1}},
        ],
        configuration={"maxConcurrentRequests": 3, "retry": {"maximumAttempts": 4, "initialInterval": "2s"}},
        sink={"type": "webhook", "url": f"http://me:{secret}@127.0.0.1:9/?key={secret}", "headers": {"X-Key": secret}},
        target={"headers": {"Authorization": f"Bearer {secret}"}},
    )
    details = airflow.api("GET", "dags/explained/details")
    assert [tag["name"] for tag in details["tags"]] == ["job"]
    assert details["description"] == "2 items, 3 at a time, 4 attempts each, on trigger, results to webhook"
    assert details["is_paused"] is False
    assert '"X-Key": "***"' in details["doc_md"]
    assert "http://***@127.0.0.1:9/?key=***" in details["doc_md"]
    form = details["params"]["payload"]
    assert form["value"] is None
    assert form["schema"]["type"] == ["array", "null"]
    assert "Replaces the job's own 2 items" in form["description"]
    assert secret not in json.dumps(details)

    run_id = airflow.trigger("explained")
    airflow.client.wait_until(
        "both items ended",
        lambda: {ti["state"] for ti in airflow.task_instances("explained", run_id, "payload")} == {"success", "failed"},
        60,
    )
    found = airflow.task_instances("explained", run_id, "payload")
    assert [ti["rendered_map_index"] for ti in found] == ["echo page=2 apiKey=***", "fail page=3"]
    # The sink cannot reach port 9; where it goes is said without its secrets.
    airflow.client.wait_until(
        "a failed delivery",
        lambda: airflow.task_instances("explained", run_id, "sink")[0]["state"] == "up_for_retry",
        60,
    )
    assert "http://***@127.0.0.1:9/?key=***" in airflow.client.task_log("explained", run_id, "sink")
    assert secret not in jobs.logs()
    airflow.api("PATCH", f"dags/explained/dagRuns/{run_id}", json={"state": "failed"})


@either_way
def test_secrets_are_in_no_table_but_where_the_run_keeps_its_parameters(jobs: Jobs, airflow: AirflowStack) -> None:
    import sqlalchemy

    secret = "hunter2-tables"
    jobs.write(
        "discreet",
        payload=[{"api": "echo", "parameters": {"n": 1}}],
        configuration={"proxy": None},
        target={"headers": {"Authorization": f"Bearer {secret}"}},
        sink={"type": "webhook", "url": "http://127.0.0.1:9/", "headers": {"X-Key": secret}, "secret": SECRET},
    )
    run_id = airflow.trigger("discreet")
    airflow.client.wait_until(
        "a failed delivery",
        lambda: any(
            ti["task_id"] == "sink" and ti["state"] == "up_for_retry"
            for ti in airflow.task_instances("discreet", run_id)
        ),
        60,
    )
    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(engine).get_table_names()
        assert "serialized_dag" in tables
        for table in tables:
            dump = connection.execute(sqlalchemy.text(f'SELECT t::text FROM "{table}" t')).scalars().all()
            text = "\n".join(dump)
            assert secret not in text, table
            assert SECRET not in text, table
    engine.dispose()
    logs = jobs.logs()
    assert secret not in logs
    assert SECRET not in logs
    airflow.api("PATCH", f"dags/discreet/dagRuns/{run_id}", json={"state": "failed"})


@either_way
def test_a_refused_delivery_is_tried_again_under_the_same_id_and_signed(
    jobs: Jobs, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write("insistent", payload=[{"api": "echo", "parameters": {"n": 1}}], sink=hook(receiver, secret=SECRET))
    receiver.script([503])
    run = jobs.run("insistent")
    assert run["state"] == "success"
    first, second = jobs.delivered("insistent")
    assert 10 <= second.time - first.time < 20, "the first wait is 10 seconds"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.raw == second.raw, "a repeat is the same message"
    for delivery in (first, second):
        assert Webhook(SECRET).verify(delivery.raw.decode(), dict(delivery.headers)) == delivery.body
    assert report(airflow, run)["delivery"] | {"bytes": 0} == {
        "status": "delivered", "to": f"{receiver.url}/hook", "statusCode": 200, "tries": 2, "bytes": 0,
        "id": first.headers["webhook-id"],
    }  # fmt: skip


@either_way
def test_a_receiver_that_is_gone_fails_the_run_at_once(
    jobs: Jobs, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write("unwanted", payload=[{"api": "echo"}], sink=hook(receiver))
    receiver.script([410])
    run = jobs.run("unwanted")
    assert run["state"] == "failed"
    assert len(jobs.delivered("unwanted")) == 1
    delivery = report(airflow, run)["delivery"]
    assert (delivery["status"], delivery["statusCode"], delivery["tries"]) == ("failed", 410, 1)
    assert "The results were not delivered" in airflow.client.task_log("unwanted", run["dag_run_id"], "sink")


@either_way
def test_a_set_up_that_is_wrong_is_told_and_not_tried_again(
    rest: httpx.Client, jobs: Jobs, airflow: AirflowStack
) -> None:
    jobs.write("lost", payload=[{"api": "echo"}], target={"connId": "no_such_connection"})
    jobs.write("hostless", payload=[{"api": "echo"}], target={"connId": "hostless"})
    for job_id, said in (("lost", "no_such_connection"), ("hostless", "has no host")):
        run = jobs.run(job_id)
        assert run["state"] == "failed"
        (item,) = items(rest, run)
        assert (item["error"]["code"], item["attempts"]) == ("configuration-error", 1)
        assert said in item["error"]["message"]


@either_way
def test_functions_run_where_the_configuration_allows_them(
    rest: httpx.Client, jobs: Jobs, airflow: AirflowStack
) -> None:
    jobs.write(
        "functions",
        payload=[
            {"api": "acme_jobs:add", "parameters": {"a": 1, "b": 2}},
            {"api": "acme_jobs:secret_agent"},
        ],
        target={"type": "python"},
        configuration={"toleratedFailurePercentage": 50},
    )
    run = jobs.run("functions")
    assert run["state"] == "success"
    allowed, refused = items(rest, run)
    assert allowed["result"] == {"sum": 3}
    assert (refused["error"]["code"], refused["attempts"]) == ("configuration-error", 1)
    assert "[jobs] python_targets" in refused["error"]["message"]


def test_an_item_whose_worker_is_killed_in_its_last_attempt_fails_without_another_call(
    rest: httpx.Client, jobs: Jobs, api: Api, airflow: AirflowStack
) -> None:
    jobs.write(
        "killed",
        payload=[
            {"api": "slow", "parameters": {"seconds": 20}, "retry": {"maximumAttempts": 1}},
            {"api": "echo"},
        ],
        configuration={"toleratedFailurePercentage": 50},
    )
    run_id = airflow.trigger("killed")
    airflow.client.wait_until("the call", lambda: 0 in api.calls_by_item("killed"), 60)
    time.sleep(0.5)
    victims = calling(airflow, api)
    assert len(victims) == 1
    os.kill(victims[0], signal.SIGKILL)
    run = airflow.wait_for_run("killed", run_id)
    assert run["state"] == "success"
    lost, fine = items(rest, run)
    assert (lost["status"], lost["error"]["code"]) == ("FAILED", "worker-lost")
    assert fine["status"] == "SUCCEEDED"
    assert len(api.calls_by_item("killed")[0]) == 1


def test_a_worker_that_is_shut_down_costs_one_attempt(
    rest: httpx.Client, jobs: Jobs, api: Api, airflow: AirflowStack
) -> None:
    jobs.write("drained", payload=[{"api": "slow", "parameters": {"seconds": 4}, "retry": {"maximumAttempts": 2}}])
    run_id = airflow.trigger("drained")
    airflow.client.wait_until("the call", lambda: api.calls("drained"), 60)
    time.sleep(0.5)
    os.kill(calling(airflow, api)[0], signal.SIGTERM)
    run = airflow.wait_for_run("drained", run_id)
    assert run["state"] == "success"
    assert [call.headers["x-attempt"] for call in api.calls("drained")] == ["1", "2"]
    assert items(rest, run)[0]["attempts"] == 2


@either_way
def test_results_and_parameters_arrive_as_they_are(
    jobs: Jobs, api: Api, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    odd = {"wei": 10**30, "__type": "dict", "__var": {"a": 1}, "__classname__": "x", "text": "ä\u2028</script>"}
    jobs.write("odd", payload=[{"api": "echo", "parameters": odd}], sink=hook(receiver))
    assert jobs.run("odd")["state"] == "success"
    info = jobs.delivered("odd")[0].body["results"][0]["apiInfo"]
    assert info["parameters"] == info["result"]["result"]["echo"] == odd


@either_way
@pytest.mark.core
def test_clearing_a_run_delivers_its_new_results_as_a_new_message(
    jobs: Jobs, receiver: WebhookReceiver, airflow: AirflowStack
) -> None:
    jobs.write(
        "second-chance",
        payload=[{"api": "flaky", "parameters": {"failures": 1}}, {"api": "echo"}],
        configuration={"retry": {"maximumAttempts": 1}},
        sink=hook(receiver),
    )
    run = jobs.run("second-chance")
    assert run["state"] == "failed"
    airflow.api(
        "POST",
        "dags/second-chance/clearTaskInstances",
        json={"dag_run_id": run["dag_run_id"], "only_failed": True, "dry_run": False, "reset_dag_runs": True},
    )
    airflow.client.wait_until("the second delivery", lambda: len(jobs.delivered("second-chance")) == 2, 60)
    first, second = jobs.delivered("second-chance")
    assert [d.body["projectJobRun"]["status"] for d in (first, second)] == ["FAILURE", "SUCCESS"]
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert airflow.wait_for_run("second-chance", run["dag_run_id"])["state"] == "success"


def test_marking_an_item_failed_by_hand_hangs_up_within_seconds(jobs: Jobs, api: Api, airflow: AirflowStack) -> None:
    jobs.write("interrupted", payload=[{"api": "slow", "parameters": {"seconds": 60}}])
    run_id = airflow.trigger("interrupted")
    airflow.client.wait_until("the call", lambda: api.calls("interrupted"), 60)
    before = time.monotonic()
    airflow.api(
        "PATCH",
        f"dags/interrupted/dagRuns/{run_id}/taskInstances/payload",
        params={"map_index": 0},
        json={"new_state": "failed"},
    )
    airflow.client.wait_until("nobody calls any more", lambda: not calling(airflow, api), 30)
    assert time.monotonic() - before < 10
    assert airflow.wait_for_run("interrupted", run_id)["state"] == "failed"
    assert len(api.calls("interrupted")) == 1
