"""Items that share task instances, where that could show: deaths, pauses, lanes, waits, results, clearing."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Api, Jobs, noise
from .test_appending import append, echo, items_of
from .test_rest import callers_of, create, run_of, trigger, wait_for

pytestmark = pytest.mark.e2e


def slow(count: int, seconds: float) -> list[dict[str, Any]]:
    return [{"apiName": "slow", "parameters": {"seconds": seconds, "n": n}} for n in range(count)]


def called(api: Api, job_id: str) -> dict[int, int]:
    """How often each item was called."""
    return {index: len(calls) for index, calls in api.calls_by_item(job_id).items()}


def instances(airflow: AirflowStack, job_id: str, run_id: str) -> list[dict[str, Any]]:
    return airflow.task_instances(job_id, run_id, "payload")


def clear(airflow: AirflowStack, job_id: str, run_id: str, **which: Any) -> None:
    body = {"dag_run_id": run_id, "dry_run": False, "reset_dag_runs": True, "only_failed": False, **which}
    airflow.api("POST", f"dags/{job_id}/clearTaskInstances", json=body)


# -- deaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_process_that_dies_has_little_repeated_and_nothing_lost(
    sign: signal.Signals, rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    count, lanes, seconds = 300, 10, 0.1
    job_id = f"mown-{sign.name.lower()}"
    create(
        rest,
        job_id,
        payload=slow(count, seconds),
        # The death costs no item an attempt: there is none to spare.
        configuration={"itemsPerTask": count, "maxConcurrentRequests": lanes, "retry": {"maximumAttempts": 1}},
        sink={"type": "webhook", "url": f"{receiver.url}/mown"},
    )
    run_id = trigger(rest, job_id)
    airflow.client.wait_until("many calls", lambda: len(api.calls(job_id)) >= count // 2, 60, interval=0.05)
    (victim,) = callers_of(api.port)
    os.kill(victim, sign)
    died = time.time()
    run = wait_for(airflow, rest, job_id, run_id, "SUCCESS")
    assert run["counts"]["succeeded"] == count

    calls = api.calls_by_item(job_id)
    assert sorted(calls) == list(range(count)), "none is left out"
    again = {index: made for index, made in calls.items() if len(made) > 1}
    assert all(len(made) == 2 for made in again.values())
    assert all(len({call.headers["idempotency-key"] for call in made}) == 1 for made in again.values())
    assert {call.headers["x-attempt"] for made in calls.values() for call in made} == {"1"}
    # Killed, what had ended since the last word to Airflow is called again; a process that may have a last word has
    # only its calls in flight to repeat.
    unsaid = 1.5 if sign == signal.SIGKILL else 0.5
    assert all(made[0].time > died - seconds - unsaid for made in again.values())
    if sign == signal.SIGTERM:
        assert len(again) <= lanes + 2

    items = items_of(rest, job_id, run_id)
    assert {(item["status"], item["attempts"]) for item in items} == {("SUCCEEDED", 1)}
    (delivery,) = jobs.delivered(job_id)
    assert [body["apiInfo"]["result"]["result"]["echo"]["n"] for body in delivery.body["results"]] == list(range(count))


def test_an_item_that_kills_its_worker_each_time_fails_alone(rest: httpx.Client, airflow: AirflowStack) -> None:
    add = [{"apiName": "acme_jobs:add", "parameters": {"a": n, "b": 0}} for n in range(4)]
    wait = {"apiName": "acme_jobs:wait", "parameters": {"seconds": 2}}
    create(
        rest,
        "poisoned",
        payload=[wait, *add[:2], {"apiName": "acme_jobs:die"}, *add[2:], wait],
        target={"type": "python"},
        configuration={"itemsPerTask": 7, "maxConcurrentRequests": 3, "toleratedFailurePercentage": 20},
    )
    run_id = trigger(rest, "poisoned")

    def ended() -> Any:
        run = run_of(rest, "poisoned", run_id)
        return run["end_time"] and run

    run = airflow.client.wait_until("the end", ended, 180)
    items = items_of(rest, "poisoned", run_id)
    assert [item["status"] for item in items] == ["SUCCEEDED"] * 3 + ["FAILED"] + ["SUCCEEDED"] * 3
    assert items[3]["error"]["code"] == "worker-lost"
    assert run["status"] == "COMPLETED"
    (instance,) = instances(airflow, "poisoned", run_id)
    assert instance["try_number"] <= 8, "it was given up"


# -- pausing --------------------------------------------------------------------------------------------------------


def test_a_batch_of_a_paused_job_gives_its_worker_back_and_goes_on_where_it_was(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    create(rest, "resting", payload=slow(60, 0.5), configuration={"itemsPerTask": 60, "maxConcurrentRequests": 4})
    run_id = trigger(rest, "resting")
    airflow.client.wait_until("some calls", lambda: len(api.calls("resting")) >= 10, 60)
    rest.post("/jobs/resting/pause").raise_for_status()
    paused = time.time()
    run = wait_for(airflow, rest, "resting", run_id, "PAUSED")
    made = api.calls("resting")
    assert max(call.time for call in made) < paused + 2
    assert run["counts"]["succeeded"] == len(made), "what was on its way has ended and kept its result"
    assert (run["counts"]["pending"], run["counts"]["running"]) == (60 - len(made), 0)
    assert [ti["state"] for ti in instances(airflow, "resting", run_id)] == ["up_for_reschedule"]
    assert callers_of(api.port) == set()
    rest.post("/jobs/resting/resume").raise_for_status()
    wait_for(airflow, rest, "resting", run_id, "SUCCESS")
    assert called(api, "resting") == dict.fromkeys(range(60), 1)
    assert {item["attempts"] for item in items_of(rest, "resting", run_id)} == {1}


# -- lanes and waits ------------------------------------------------------------------------------------------------


def test_batches_together_use_the_lanes_of_their_run_and_never_more(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    lanes = 6
    create(rest, "motorway", payload=slow(100, 0.6), configuration={"itemsPerTask": 34, "maxConcurrentRequests": lanes})
    run_id = trigger(rest, "motorway")
    wait_for(airflow, rest, "motorway", run_id, "SUCCESS")
    assert api.most_at_once["motorway"] <= lanes
    calls = api.calls("motorway")
    assert called(api, "motorway") == dict.fromkeys(range(100), 1)
    # While there was work: until fewer than that many items were left to be called.
    begin, end = calls[0].time, calls[-lanes].time
    busy = sum(max(0.0, min(ended, end) - max(begun, begin)) for begun, ended in api.spans["motorway"])
    assert busy / (end - begin) >= 0.8 * lanes
    kinds = [int(call.headers["x-item-index"]) // 34 for call in calls]
    first_of_second = kinds.index(1)
    assert 0 in kinds[first_of_second:], "two batches were under way at a time"


def test_a_wait_is_exact_and_holds_up_nobody(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    policy = {"maximumAttempts": 2, "initialInterval": "4s"}
    patient = [{"apiName": "flaky", "parameters": {"failures": 1}, "retry": policy} for _ in range(5)]
    create(rest, "unhurried", payload=[*patient, *slow(10, 0.1)],
           configuration={"itemsPerTask": 15, "maxConcurrentRequests": 1})  # fmt: skip
    run_id = trigger(rest, "unhurried")
    airflow.client.wait_until("the others", lambda: len(api.calls_by_item("unhurried")) == 15, 60)
    waiting = run_of(rest, "unhurried", run_id)["counts"]
    wait_for(airflow, rest, "unhurried", run_id, "SUCCESS")
    calls = api.calls_by_item("unhurried")
    seconds = min(calls[n][1].time for n in range(5))
    assert max(calls[n][0].time for n in range(15)) < seconds, "the others did not wait"
    assert waiting["retrying"] + waiting["succeeded"] + waiting["running"] + waiting["pending"] == 15
    assert waiting["failed"] == 0
    late = [calls[n][1].time - calls[n][0].time - 4 for n in range(5)]
    assert min(late) >= 0
    assert statistics.median(late) < 0.5


# -- growing --------------------------------------------------------------------------------------------------------


def test_many_callers_append_to_a_run_that_is_under_way(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    create(rest, "besieged", payload=slow(6, 4), configuration={"itemsPerTask": 5, "maxConcurrentRequests": 8})
    run_id = trigger(rest, "besieged")
    airflow.client.wait_until("the calls", lambda: len(api.calls("besieged")) == 6, 60)

    def caller(number: int) -> list[tuple[dict[str, Any], int, dict[str, Any]]]:
        """Three appends, each to an item of the one before, each sent twice at a time."""
        parent, found = number, []
        for turn in range(3):
            payload = [echo(n) for n in range(number * 100 + turn * 10, number * 100 + turn * 10 + 3)]
            key = f"{number}-{turn}"

            def send(_: int, payload: Any = payload, key: str = key, parent: int = parent) -> httpx.Response:
                return append(rest, "besieged", run_id, *payload, key=key, parent=parent)

            with ThreadPoolExecutor(2) as pool:
                one, other = pool.map(send, range(2))
            assert (one.status_code, other.status_code) == (200, 200), (one.text, other.text)
            added = one.json()["payloads"]
            assert other.json()["payloads"] == added
            found += [(item, parent, sent) for item, sent in zip(added, payload, strict=True)]
            parent = added[1]["index"]
        return found

    with ThreadPoolExecutor(4) as pool:
        told = [entry for found in pool.map(caller, range(4)) for entry in found]
    run = wait_for(airflow, rest, "besieged", run_id, "SUCCESS")
    assert run["payloads"] == 6 + 4 * 3 * 3
    items = items_of(rest, "besieged", run_id)
    assert Counter(added["index"] for added, _, _ in told) == Counter(range(6, 42))
    for added, parent, sent in told:
        item = items[added["index"]]
        assert (item["id"], item["apiName"], item["parameters"]) == (added["id"], "echo", sent["parameters"])
        assert (item["parent"], item["depth"]) == (parent, items[parent]["depth"] + 1)
        assert item["result"]["echo"] == sent["parameters"]
    assert called(api, "besieged") == dict.fromkeys(range(42), 1)


# -- results --------------------------------------------------------------------------------------------------------


def test_results_arrive_as_they_are_also_large_ones(
    rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    limit = 2 * 1024 * 1024
    texts = [
        {"count": limit - 2, "letters": "abcdefghijklmnop"},  # with its quotes, as large as can be
        {"count": 300_000, "letters": "äß€漢"},
        {"count": 100_000, "letters": "😀🎉𝄞"},
        {"count": limit - 1, "letters": "abcdefghijklmnop"},
        {"count": 10, "letters": "\"\\\n\u2028"},
    ]  # fmt: skip
    create(
        rest,
        "voluminous",
        payload=[{"apiName": "big", "parameters": text} for text in texts],
        configuration={"itemsPerTask": 5, "toleratedFailurePercentage": 20},
        sink={"type": "webhook", "url": f"{receiver.url}/large"},
    )
    run_id = trigger(rest, "voluminous")
    wait_for(airflow, rest, "voluminous", run_id, "COMPLETED")
    items = items_of(rest, "voluminous", run_id)
    (delivery,) = jobs.delivered("voluminous")
    bodies = [body["apiInfo"]["result"] for body in delivery.body["results"]]
    for place, text in enumerate(texts):
        if place == 3:
            assert items[3]["error"]["code"] == bodies[3]["error"] == "result-too-big-error"
        else:
            assert items[place]["result"] == bodies[place]["result"] == noise(**text), place


def test_errors_arrive_whatever_they_say(rest: httpx.Client, airflow: AirflowStack) -> None:
    odd = {"apiName": "acme_jobs:odd", "retry": {"maximumAttempts": 1}}
    create(rest, "babbling", payload=[odd, odd], target={"type": "python"}, configuration={"itemsPerTask": 2})
    run_id = trigger(rest, "babbling")
    wait_for(airflow, rest, "babbling", run_id, "FAILURE")
    for item in items_of(rest, "babbling", run_id):
        assert item["error"]["code"] == "exception"
        assert item["error"]["message"] == "RuntimeError: a NUL , half a pair ?, and ä"


# -- clearing -------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_cleared_runs_anew_what_had_failed_in_it_or_all(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    flaky = {"apiName": "flaky", "parameters": {"failures": 1}, "retry": {"maximumAttempts": 1}}
    payload = [echo(0), flaky, echo(2), flaky, echo(4), echo(5)]
    create(rest, "twice", payload=payload, configuration={"itemsPerTask": 4})
    run_id = trigger(rest, "twice")
    assert wait_for(airflow, rest, "twice", run_id, "FAILURE")["counts"]["failed"] == 2
    clear(airflow, "twice", run_id, only_failed=True)
    run = wait_for(airflow, rest, "twice", run_id, "SUCCESS")
    assert run["counts"]["succeeded"] == 6
    assert called(api, "twice") == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 1}
    assert {item["attempts"] for item in items_of(rest, "twice", run_id)} == {1}, "attempts begin anew"

    clear(airflow, "twice", run_id, task_ids=[["payload", 1], "sink"])
    airflow.client.wait_until("the calls", lambda: called(api, "twice").get(5) == 2, 60)
    wait_for(airflow, rest, "twice", run_id, "SUCCESS")
    assert called(api, "twice") == {0: 1, 1: 2, 2: 1, 3: 2, 4: 2, 5: 2}
