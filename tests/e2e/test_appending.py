"""Runs that grow, on a real Airflow: by what APIs answer, over REST, with tokens, through deaths of every part."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from operator import mul
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Api, Gate, Jobs
from .test_rest import callers_of, create, error, run_of, trigger, wait_for
from .ways import either_way

pytestmark = [pytest.mark.e2e, either_way]


def items_of(rest: httpx.Client, job_id: str, run_id: str) -> list[dict[str, Any]]:
    """All items of a run, by index."""
    found: list[dict[str, Any]] = []
    while True:
        page = {"pageSize": 100, "pageNumber": len(found) // 100 + 1}
        answer = rest.get(f"/jobs/{job_id}/runs/{run_id}/payloads", params=page).json()
        found += answer["payloads"]
        if len(found) >= answer["totalCount"]:
            return found


def append(rest: httpx.Client, job_id: str, run_id: str, *payload: dict[str, Any], **kw: Any) -> httpx.Response:
    headers = {"Idempotency-Key": kw.pop("key")} if "key" in kw else {}
    return rest.post(f"/jobs/{job_id}/runs/{run_id}/payloads", json={"payload": list(payload), **kw}, headers=headers)


def echo(n: int) -> dict[str, Any]:
    return {"apiName": "echo", "parameters": {"n": n}}


def busy(rest: httpx.Client, airflow: AirflowStack, api: Api, job_id: str, seconds: float = 4, **more: Any) -> str:
    """A run with one item that is being called."""
    create(rest, job_id, payload=[{"apiName": "slow", "parameters": {"seconds": seconds}}], **more)
    run_id = trigger(rest, job_id)
    airflow.client.wait_until("the call", lambda: api.calls(job_id), 60)
    return run_id


@pytest.mark.parametrize(
    ("widths", "at_once"), [([2, 3, 4], 4), pytest.param([9, 10, 10], 16, marks=pytest.mark.thorough)]
)
def test_a_crawl_grows_from_one_item_over_four_levels(
    rest: httpx.Client,
    airflow: AirflowStack,
    api: Api,
    receiver: WebhookReceiver,
    jobs: Jobs,
    widths: list[int],
    at_once: int,
) -> None:
    levels = list(accumulate([1, *widths], mul))
    total = sum(levels)
    job_id = f"crawl-{total}"
    create(
        rest,
        job_id,
        payload=[{"apiName": "grow", "parameters": {"widths": widths}}],
        configuration={"maxConcurrentRequests": at_once},
        sink={"type": "webhook", "url": f"{receiver.url}/crawl"},
    )
    run_id = trigger(rest, job_id)
    run = wait_for(airflow, rest, job_id, run_id, "SUCCESS", timeout=240 + total)
    assert run["counts"]["succeeded"] == run["payloads"] == total
    calls = api.calls_by_item(job_id)
    assert {index: len(made) for index, made in calls.items()} == dict.fromkeys(range(total), 1)
    assert len({tuple(call[0].body.get("path", ())) for call in calls.values()}) == total
    assert api.most_at_once[job_id] <= at_once

    items = items_of(rest, job_id, run_id)
    assert Counter(item["depth"] for item in items) == dict(enumerate(levels))
    for item in items[1:]:
        parent = items[item["parent"]]
        assert item["depth"] == parent["depth"] + 1
        assert item["parameters"]["path"][:-1] == parent["parameters"].get("path", [])

    (delivery,) = jobs.delivered(job_id)
    assert delivery.time > max(call[0].time for call in calls.values()), "the sink came after the last item"
    bodies = [entry["apiInfo"] for entry in delivery.body["results"]]
    assert [body["parameters"] for body in bodies] == [item["parameters"] for item in items]
    assert {body["result"]["status"] for body in bodies} == {"completed"}


@pytest.mark.core
def test_only_an_attempt_that_succeeds_appends(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    more = {"next": [["echo", {"n": 1}], ["echo", {"n": 2}]]}
    payload = [
        {"apiName": "flaky", "parameters": {"failures": 2, **more}},
        {"apiName": "fail", "parameters": more, "retry": {"maximumAttempts": 1}},
    ]
    create(rest, "in-the-end", payload=payload, configuration={"toleratedFailurePercentage": 50})
    run_id = trigger(rest, "in-the-end")
    wait_for(airflow, rest, "in-the-end", run_id, "COMPLETED")
    items = items_of(rest, "in-the-end", run_id)
    assert [item["apiName"] for item in items] == ["flaky", "fail", "echo", "echo"]
    assert [item["parent"] for item in items] == [None, None, 0, 0]
    assert {index: len(calls) for index, calls in api.calls_by_item("in-the-end").items()} == {0: 3, 1: 1, 2: 1, 3: 1}


def test_functions_append_with_a_helper(rest: httpx.Client, airflow: AirflowStack) -> None:
    payload = [{"apiName": "acme_jobs:branch", "parameters": {"leaves": 3}}]
    create(rest, "tree", payload=payload, target={"type": "python"})
    run_id = trigger(rest, "tree")
    wait_for(airflow, rest, "tree", run_id, "SUCCESS")
    results = [item["result"] for item in items_of(rest, "tree", run_id)]
    assert results == [{"leaves": 3}, {"sum": 1}, {"sum": 2}, {"sum": 3}]


@pytest.mark.core
def test_items_are_appended_over_rest_once_per_key(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    run_id = busy(rest, airflow, api, "open", configuration={"maxRuns": 8})
    first = append(rest, "open", run_id, echo(1), echo(2), key="batch-1", parent=0)
    assert first.status_code == 200, first.text
    assert first.json()["message"] == "Appended"
    added = first.json()["payloads"]
    assert [(item["index"], item["apiName"]) for item in added] == [(1, "echo"), (2, "echo")]
    # Again, and many times at once: the same answer, and no more items.
    with ThreadPoolExecutor(10) as pool:
        repeats = list(
            pool.map(lambda _: append(rest, "open", run_id, echo(1), echo(2), key="batch-1", parent=0), range(10))
        )
    assert {answer.json()["message"] for answer in repeats} == {"Appended before with this Idempotency-Key"}
    assert all(answer.json()["payloads"] == added for answer in repeats)
    error(append(rest, "open", run_id, echo(3), key="batch-1", parent=0), 409, "idempotency-key-reused")

    # Wrong items, or more than there is room for: none is appended.
    wrong = append(rest, "open", run_id, echo(3), {"apiName": "echo", "parametres": {}})
    body = error(wrong, 422, "invalid-definition")
    assert body["details"][0]["path"] == "payload[1].parametres"
    assert (
        error(append(rest, "open", run_id, echo(3), parent=17), 422, "invalid-definition")["details"][0]["path"]
        == "parent"
    )
    full = error(append(rest, "open", run_id, *map(echo, range(10, 16))), 409, "too-many-items")
    assert "maxRuns (8)" in full["message"]
    assert append(rest, "open", run_id, *map(echo, range(3, 8))).status_code == 200

    run = wait_for(airflow, rest, "open", run_id, "SUCCESS")
    assert run["payloads"] == 8
    made = {index: len(calls) for index, calls in api.calls_by_item("open").items()}
    assert made == dict.fromkeys(range(8), 1)
    assert [call.headers["idempotency-key"] for call in api.calls_by_item("open")[1]] == [added[0]["id"]]
    # Once it has ended a repeat still answers, and anything new is refused.
    assert append(rest, "open", run_id, echo(1), echo(2), key="batch-1", parent=0).json()["payloads"] == added
    error(append(rest, "open", run_id, echo(9)), 409, "run-ended")
    error(append(rest, "open", "manual__nothing", echo(9)), 404, "run-not-found")
    error(append(rest, "nothing", run_id, echo(9)), 404, "run-not-found")


def test_a_run_that_was_triggered_just_now_takes_items_as_soon_as_it_has_a_list(
    rest: httpx.Client, airflow: AirflowStack
) -> None:
    add = {"apiName": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}
    create(rest, "eager", payload=[{"apiName": "acme_jobs:add", "parameters": {"a": 0, "b": 0}}] * 3,
           target={"type": "python"}, configuration={"maxConcurrentRequests": 1})  # fmt: skip
    run_id = trigger(rest, "eager")
    assert append(rest, "eager", run_id, add).json()["payloads"][0]["index"] == 3
    assert wait_for(airflow, rest, "eager", run_id, "SUCCESS")["payloads"] == 4


def test_an_appended_item_keeps_its_own_policy(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    policy = {"maximumAttempts": 1}
    run_id = busy(rest, airflow, api, "patient", configuration={"retry": policy})
    flaky = {"apiName": "flaky", "parameters": {"failures": 3}}
    own = {"maximumAttempts": 4, "initialInterval": "500ms"}
    append(rest, "patient", run_id, {**flaky, "retry": own}, {**flaky, "retry": {"maximumAttempts": 2}}, flaky)
    wait_for(airflow, rest, "patient", run_id, "FAILURE")
    items = items_of(rest, "patient", run_id)
    assert [(i["status"], i["attempts"], i["maximumAttempts"]) for i in items[1:]] == [
        ("SUCCEEDED", 4, 4), ("FAILED", 2, 2), ("FAILED", 1, 1),
    ]  # fmt: skip
    times = [call.time for call in api.calls_by_item("patient")[1]]
    assert all(after - before >= 0.5 for before, after in zip(times, times[1:], strict=False))


def test_what_grows_for_ever_is_stopped(rest: httpx.Client, airflow: AirflowStack) -> None:
    payload = [{"apiName": "grow", "parameters": {"widths": [1] * 20}}]
    create(rest, "endless", payload=payload)
    run_id = trigger(rest, "endless")
    run = wait_for(airflow, rest, "endless", run_id, "FAILURE")
    assert run["counts"]["failed"] == 1
    items = items_of(rest, "endless", run_id)
    assert [item["depth"] for item in items] == list(range(7))
    assert items[-1]["error"]["code"] == "append-refused"
    assert "max_append_depth" in items[-1]["error"]["message"]


def test_pausing_resuming_and_terminating_see_appended_items_as_any_other(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    run_id = busy(rest, airflow, api, "paused-crawl", seconds=1)
    rest.post("/jobs/paused-crawl/pause")
    wait_for(airflow, rest, "paused-crawl", run_id, "PAUSED")
    if run_of(rest, "paused-crawl", run_id)["status"] == "PAUSED":
        assert append(
            rest, "paused-crawl", run_id, echo(1), {"apiName": "slow", "parameters": {"seconds": 60}}
        ).is_success
    time.sleep(2)
    assert len(api.calls("paused-crawl")) == 1, "what was appended while paused waits"
    assert run_of(rest, "paused-crawl", run_id)["counts"]["pending"] == 2
    rest.post("/jobs/paused-crawl/resume")
    airflow.client.wait_until("both calls", lambda: len(api.calls("paused-crawl")) == 3, 60)
    # Where items share a task instance, what has ended is recorded within a second.
    airflow.client.wait_until(
        "the end of one", lambda: run_of(rest, "paused-crawl", run_id)["counts"]["succeeded"] == 2, 60
    )
    rest.post(f"/jobs/paused-crawl/runs/{run_id}/terminate")
    run = run_of(rest, "paused-crawl", run_id)
    assert (run["status"], run["counts"]["canceled"]) == ("TERMINATED", 1)
    error(append(rest, "paused-crawl", run_id, echo(2)), 409, "run-ended")


@pytest.mark.core
def test_a_run_that_had_grown_and_is_cleared_grows_anew(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    run_id = busy(rest, airflow, api, "again", seconds=2)
    append(rest, "again", run_id, *(echo(n) for n in range(4)))
    wait_for(airflow, rest, "again", run_id, "SUCCESS")
    airflow.api("POST", f"dags/again/dagRuns/{run_id}/clear", json={"dry_run": False})
    # At once: the list of before is still there, and the plan will write another one over it.
    assert append(rest, "again", run_id, echo(10)).json()["payloads"][0]["index"] == 1
    assert append(rest, "again", run_id, echo(11)).json()["payloads"][0]["index"] == 2
    run = wait_for(airflow, rest, "again", run_id, "SUCCESS")
    assert (run["counts"]["total"], run["counts"]["succeeded"]) == (3, 3), "what is no longer listed is not counted"
    items = items_of(rest, "again", run_id)
    assert [(item["status"], item["attempts"]) for item in items] == [("SUCCEEDED", 1)] * 3
    calls = api.calls_by_item("again")
    assert [[(call.body or {}).get("n") for call in calls[index]] for index in (1, 2, 3, 4)] == [
        [0, 10],
        [1, 11],
        [2],
        [3],
    ]


def test_a_run_that_only_delivers_anew_takes_no_items(
    rest: httpx.Client, airflow: AirflowStack, receiver: WebhookReceiver
) -> None:
    add = {"apiName": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}
    sink = {"type": "webhook", "url": f"{receiver.url}/again"}
    create(rest, "delivered", payload=[add], target={"type": "python"}, sink=sink)
    run_id = trigger(rest, "delivered")
    wait_for(airflow, rest, "delivered", run_id, "SUCCESS")
    rest.post(f"/jobs/delivered/runs/{run_id}/redeliver").raise_for_status()
    assert append(rest, "delivered", run_id, add).json()["code"] in ("run-closing", "run-ended")
    assert wait_for(airflow, rest, "delivered", run_id, "SUCCESS")["payloads"] == 1


# -- run tokens -----------------------------------------------------------------------------------------------------


def test_an_api_may_append_with_the_token_that_its_call_brought(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    run_id = busy(rest, airflow, api, "entrusted", target={"type": "http", "sendRunToken": True}, seconds=6)
    (call,) = api.calls("entrusted")
    url, token = call.headers["x-job-append-url"], call.headers["x-job-append-token"]
    bearer = {"Authorization": f"Bearer {token}"}
    with httpx.Client(trust_env=False, headers=bearer, timeout=30) as client:
        answer = client.post(
            url, json={"payload": [echo(1)]}, headers={"Idempotency-Key": call.headers["idempotency-key"]}
        )
        assert answer.status_code == 200, answer.text
        again = client.post(
            url, json={"payload": [echo(1)]}, headers={"Idempotency-Key": call.headers["idempotency-key"]}
        )
        assert again.json()["payloads"] == answer.json()["payloads"]
        # Good for this and for nothing else.
        for method, path in (
            ("GET", f"/jobs/entrusted/runs/{run_id}"),
            ("GET", f"/jobs/entrusted/runs/{run_id}/payloads"),
            ("GET", "/jobs"),
            ("POST", "/jobs/entrusted/trigger"),
            ("POST", f"/jobs/entrusted/runs/{run_id}/terminate"),
            ("POST", "/jobs/entrusted/runs/manual__other/payloads"),
            ("POST", f"/jobs/other/runs/{run_id}/payloads"),
            ("DELETE", "/jobs/entrusted"),
        ):
            body = {"payload": [echo(2)]} if path.endswith("/payloads") and method == "POST" else None
            response = client.request(method, f"{airflow.base_url}/jobs/api/v1{path}", json=body)
            assert response.status_code == 403, (method, path, response.text)
        assert client.get(f"{airflow.base_url}/api/v2/dags").status_code in (401, 403)
        forged = client.post(url, json={"payload": [echo(3)]}, headers={"Authorization": f"Bearer {token[:-2]}xx"})
        assert forged.status_code == 401
        assert client.post(url, json={"payload": [echo(3)], "parent": 5}).status_code == 422
    wait_for(airflow, rest, "entrusted", run_id, "SUCCESS")
    items = items_of(rest, "entrusted", run_id)
    assert [(item["apiName"], item["parent"], item["depth"]) for item in items] == [("slow", None, 0), ("echo", 0, 1)]


def test_nobody_gets_a_token_who_was_not_to_have_one(
    api: Api, rest: httpx.Client, airflow: AirflowStack, jobs: Jobs
) -> None:
    run_id = busy(rest, airflow, api, "discreet-crawl", seconds=0)
    wait_for(airflow, rest, "discreet-crawl", run_id, "SUCCESS")
    assert not [name for name in api.calls("discreet-crawl")[0].headers if name.startswith("x-job-append")]
    assert "ajr_" not in jobs.logs()
    key = airflow.api("GET", "variables/airflow_jobs%2Fsecrets%2Frun-token-key")
    assert key["value"] == "***"


# -- deaths ---------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_between_appending_and_success_appends_nothing_twice(
    rest: httpx.Client, airflow: AirflowStack, api: Api, gate: Gate
) -> None:
    create(rest, "mortal", payload=[{"apiName": "grow", "parameters": {"widths": [2]}}])
    before = gate.passed
    gate.opened.clear()
    try:
        run_id = trigger(rest, "mortal")
        airflow.client.wait_until("the append", lambda: gate.passed > before, 60)
        # Appended, and the worker has not been told.
        assert run_of(rest, "mortal", run_id)["counts"]["total"] == 3
        victims = list(callers_of(gate.port))
        assert len(victims) == 1
        os.kill(victims[0], signal.SIGKILL)
        airflow.client.wait_until("the second attempt", lambda: len(api.calls_by_item("mortal")[0]) == 2, 60)
    finally:
        gate.opened.set()
    run = wait_for(airflow, rest, "mortal", run_id, "SUCCESS")
    assert run["payloads"] == 3
    assert {index: len(calls) for index, calls in api.calls_by_item("mortal").items()} == {0: 2, 1: 1, 2: 1}


def test_an_answer_that_is_lost_is_asked_for_again(
    rest: httpx.Client, airflow: AirflowStack, api: Api, gate: Gate
) -> None:
    create(rest, "deaf", payload=[{"apiName": "grow", "parameters": {"widths": [2]}}])
    gate.drops = 2
    run_id = trigger(rest, "deaf")
    run = wait_for(airflow, rest, "deaf", run_id, "SUCCESS")
    assert gate.drops == 0
    assert run["payloads"] == 3
    assert {index: len(calls) for index, calls in api.calls_by_item("deaf").items()} == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize("component", ["scheduler", "api-server"])
def test_a_component_that_dies_while_callers_append_costs_nothing(
    component: str, rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    job_id = f"without-{component}"
    sink = {"type": "webhook", "url": f"{receiver.url}/{job_id}"}
    configuration = {"maxConcurrentRequests": 3}
    # As long as callers may need; the scheduler's death has the item called once more.
    run_id = busy(rest, airflow, api, job_id, seconds=20, sink=sink, configuration=configuration)
    acknowledged: dict[str, int] = {}
    lock, begun = threading.Lock(), threading.Event()

    def caller(number: int) -> None:
        for call in range(5):
            key = f"{number}-{call}"
            while key not in acknowledged:
                try:
                    item = {"apiName": "echo", "parameters": {"key": key}}
                    answer = append(rest, job_id, run_id, item, key=key)
                except httpx.TransportError:
                    time.sleep(0.2)
                    continue
                if answer.status_code < 500:
                    assert answer.status_code == 200, answer.text
                    with lock:
                        acknowledged[key] = answer.json()["payloads"][0]["index"]
            if len(acknowledged) > 4:
                begun.set()

    with ThreadPoolExecutor(6) as pool:
        calling = [pool.submit(caller, number) for number in range(6)]
        assert begun.wait(30)
        airflow.kill_component(component)
        if component == "api-server":
            # Until tasks that were queued have given up to start: that is no attempt of their items.
            time.sleep(15)
        airflow.start_component(component)
        airflow.wait_healthy()
        for future in calling:
            future.result()
    run = wait_for(airflow, rest, job_id, run_id, "SUCCESS")
    items = items_of(rest, job_id, run_id)
    found = Counter(item["parameters"]["key"] for item in items[1:])
    assert found == Counter(dict.fromkeys(acknowledged, 1)), "nothing lost, nothing doubled"
    assert {item["parameters"]["key"]: item["index"] for item in items[1:]} == acknowledged
    assert run["payloads"] == len(items) == 31
    (delivery,) = jobs.delivered(job_id)
    assert len(delivery.body["results"]) == 31
