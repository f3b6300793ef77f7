"""Jobs over HTTP against a real Airflow: their whole life, races, rights and secrets."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from . import ways
from .conftest import Api, Jobs, bearer, token
from .ways import either_way

pytestmark = pytest.mark.e2e

ADD = {"apiName": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}
WORK: dict[str, Any] = {"payload": [ADD], "target": {"type": "python"}}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def create(rest: httpx.Client, job_id: str, **definition: Any) -> httpx.Response:
    if ways.shared() and rest.get(f"/jobs/{job_id}").is_success:
        # From the test before, which is the same but for how its items are driven. It is not deleted and made anew: a
        # parse that began before would meet that, as Airflow's DAG processor does not like.
        return _made_over(rest, job_id, ways.in_use(definition or WORK))
    response = rest.post("/jobs", json={"id": job_id, **ways.in_use(definition or WORK)})
    assert response.status_code == 201, response.text
    assert response.json() == {"id": job_id, "message": "created", "ready": True}
    return response


def _made_over(rest: httpx.Client, job_id: str, definition: dict[str, Any]) -> httpx.Response:
    root = str(rest.base_url).split("/jobs/api/")[0]
    runs = rest.get(f"{root}/api/v2/dags/{job_id}/dagRuns", params={"limit": 100}).json()["dag_runs"]
    for run in runs:
        rest.post(f"/jobs/{job_id}/runs/{run['dag_run_id']}/terminate")
        rest.delete(f"{root}/api/v2/dags/{job_id}/dagRuns/{run['dag_run_id']}").raise_for_status()
    response = rest.put(f"/jobs/{job_id}", json=definition)
    assert response.status_code == 200, response.text
    rest.post(f"/jobs/{job_id}/resume").raise_for_status()
    return response


def trigger(rest: httpx.Client, job_id: str, **kw: Any) -> str:
    response = rest.post(f"/jobs/{job_id}/trigger", **kw)
    assert response.status_code == 200, response.text
    return str(response.json()["jobRunId"])


def run_of(rest: httpx.Client, job_id: str, run_id: str) -> dict[str, Any]:
    response = rest.get(f"/jobs/{job_id}/runs/{run_id}")
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()["jobRun"]
    # Whatever the moment: every item is somewhere, and nowhere twice.
    counts = run["counts"]
    assert counts["total"] is None or counts["total"] == sum(n for name, n in counts.items() if name != "total")
    return run


def runs_with(rest: httpx.Client, job_id: str, **filters: str) -> list[str]:
    """The ids of a job's runs that a filter leaves, read page by page."""
    found: list[str] = []
    while True:
        page = {"pageSize": 7, "pageNumber": len(found) // 7 + 1}
        listed = rest.get(f"/jobs/{job_id}/runs", params={**page, **filters}).json()
        found += [run["id"] for run in listed["jobRuns"]]
        if len(listed["jobRuns"]) < 7:
            assert len(found) == listed["totalCount"]
            return found


ENDED = ("SUCCESS", "COMPLETED", "FAILURE", "TERMINATED", "CANCELED")


def wait_for(
    airflow: AirflowStack, rest: httpx.Client, job_id: str, run_id: str, *statuses: str, timeout: float = 240
) -> dict[str, Any]:
    """The run when it has one of the statuses. How long that takes is not the question: machines are shared."""

    def probe() -> Any:
        run = run_of(rest, job_id, run_id)
        assert run["status"] in statuses or run["status"] not in ENDED, json.dumps(run)
        return run if run["status"] in statuses else None

    found: dict[str, Any] = airflow.client.wait_until(f"{job_id} to be {' or '.join(statuses)}", probe, timeout)
    return found


def error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert set(body) == {"code", "category", "message", "details", "correlationId", "retirable"}
    return body


@either_way
def test_the_life_of_a_job(rest: httpx.Client, airflow: AirflowStack) -> None:
    payload = [{**ADD, "parameters": {"a": n, "b": 2}} for n in range(3)] + [{"apiName": "acme_jobs:secret_agent"}]
    create(rest, "alive", payload=payload, target={"type": "python"}, configuration={"toleratedFailurePercentage": 25})
    shown = rest.get("/jobs/alive").json()
    assert (shown["state"], shown["source"], shown["ready"]) == ("ACTIVE", "API", True)
    assert "alive" in [job["id"] for job in rest.get("/jobs").json()]

    run_id = trigger(rest, "alive", json={"note": "by hand"})
    run = wait_for(airflow, rest, "alive", run_id, "COMPLETED")
    assert (run["type"], run["note"], run["payloads"], run["failed_runs"]) == ("MANUAL", "by hand", 4, 1)
    assert run["created_at"] <= run["start_time"] <= run["end_time"]
    items = rest.get(f"/jobs/alive/runs/{run_id}/payloads").json()
    assert items["totalCount"] == 4
    assert [item["status"] for item in items["payloads"]] == ["SUCCEEDED"] * 3 + ["FAILED"]
    assert items["payloads"][2]["result"] == {"sum": 4}
    assert items["payloads"][3]["error"]["code"] == "configuration-error"
    failed = rest.get(f"/jobs/alive/runs/{run_id}/payloads", params={"status": "FAILED"}).json()
    assert [item["index"] for item in failed["payloads"]] == [3]
    page = rest.get(
        f"/jobs/alive/runs/{run_id}/payloads", params={"pageSize": 2, "pageNumber": 2, "sortBy": "-index"}
    ).json()
    assert ([item["index"] for item in page["payloads"]], page["totalCount"]) == ([1, 0], 4)
    assert [
        i["index"]
        for i in rest.get(f"/jobs/alive/runs/{run_id}/payloads", params={"search": "AGENT"}).json()["payloads"]
    ] == [3]

    lines = [json.loads(line) for line in rest.get(f"/jobs/alive/runs/{run_id}/results").text.splitlines()]
    assert [line["apiInfo"]["result"]["status"] for line in lines] == ["completed"] * 3 + ["failed"]
    rows = list(
        csv.DictReader(io.StringIO(rest.get(f"/jobs/alive/runs/{run_id}/results", params={"format": "csv"}).text))
    )
    assert [json.loads(row["result"]) if row["result"] else None for row in rows] == [
        {"sum": 2}, {"sum": 3}, {"sum": 4}, None,
    ]  # fmt: skip

    assert rest.delete("/jobs/alive").status_code == 204
    error(rest.get("/jobs/alive"), 404, "job-not-found")
    error(rest.get(f"/jobs/alive/runs/{run_id}"), 404, "job-not-found")
    assert airflow.client.request("GET", "/api/v2/dags/alive").status_code == 404


@either_way
def test_a_trigger_may_bring_its_own_payload(items_per_task: int, rest: httpx.Client, airflow: AirflowStack) -> None:
    create(rest, "overridden")
    own = [{**ADD, "parameters": {"a": 40, "b": n}} for n in range(2)]
    run_id = trigger(rest, "overridden", json={"payload": own})
    wait_for(airflow, rest, "overridden", run_id, "SUCCESS")
    items = rest.get(f"/jobs/overridden/runs/{run_id}/payloads").json()["payloads"]
    assert [item["result"] for item in items] == [{"sum": 40}, {"sum": 41}]
    for wrong, where in (
        ([{"parameters": {}}], "payload[0].api"),
        ([{"api": "x", "parametres": {}}], "did you mean 'parameters'"),
        ([{"api": "x"}] * (40 * items_per_task + 1), "max_map_length"),
    ):
        body = error(rest.post("/jobs/overridden/trigger", json={"payload": wrong}), 422, "invalid-definition")
        assert where in body["message"]


def test_many_triggers_in_one_moment_are_many_runs_and_one_key_is_one(rest: httpx.Client) -> None:
    create(rest, "popular")
    with ThreadPoolExecutor(20) as pool:
        runs = list(pool.map(lambda _: trigger(rest, "popular"), range(20)))
        assert len(set(runs)) == 20
        key = {"Idempotency-Key": "order-17"}
        same = set(pool.map(lambda _: trigger(rest, "popular", headers=key), range(20)))
    assert len(same) == 1
    other = rest.post("/jobs/popular/trigger", headers=key, json={"payload": [ADD]})
    error(other, 409, "idempotency-key-reused")
    listed = rest.get("/jobs/popular/runs", params={"pageSize": 5, "pageNumber": 2}).json()
    assert (len(listed["jobRuns"]), listed["totalCount"]) == (5, 21)
    for run_id in {*runs, *same}:
        rest.post(f"/jobs/popular/runs/{run_id}/terminate")


@either_way
@pytest.mark.core
def test_pausing_in_the_middle_of_a_run(rest: httpx.Client, airflow: AirflowStack, api: Api) -> None:
    payload = [{"apiName": "slow", "parameters": {"seconds": 3, "n": n}} for n in range(6)]
    create(rest, "halted", payload=payload, configuration={"maxConcurrentRequests": 2})
    run_id = trigger(rest, "halted")
    airflow.client.wait_until("two calls in flight", lambda: len(api.calls("halted")) == 2, 60)
    assert rest.post("/jobs/halted/pause").json() == {"message": "Paused"}
    assert run_of(rest, "halted", run_id)["status"] == "PAUSING"
    assert runs_with(rest, "halted", status="PAUSING") == [run_id]
    error(rest.post("/jobs/halted/trigger"), 409, "job-paused")
    paused = wait_for(airflow, rest, "halted", run_id, "PAUSED")
    assert runs_with(rest, "halted", status="PAUSED") == [run_id]
    assert runs_with(rest, "halted", status="PAUSING") == runs_with(rest, "halted", status="PENDING") == []
    # What was on its way has finished and kept its result; nothing else has called.
    assert paused["counts"]["succeeded"] == len(api.calls("halted")) == 2
    time.sleep(4)
    assert len(api.calls("halted")) == 2
    assert rest.get("/jobs/halted").json()["state"] == "PAUSED"

    assert rest.post("/jobs/halted/resume").json() == {"message": "Resumed"}
    run = wait_for(airflow, rest, "halted", run_id, "SUCCESS")
    assert run["counts"]["succeeded"] == 6
    assert {index: len(calls) for index, calls in api.calls_by_item("halted").items()} == dict.fromkeys(range(6), 1)


@either_way
@pytest.mark.core
def test_terminating_calls_that_are_in_flight(
    items_per_task: int, rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    payload = [{"apiName": "slow", "parameters": {"seconds": 120}}] * 12
    sink = {"type": "webhook", "url": f"{receiver.url}/never"}
    create(rest, "doomed", payload=payload, configuration={"maxConcurrentRequests": 10}, sink=sink)
    run_id = trigger(rest, "doomed")
    # Six workers: six calls, four items in the executor's queue, two that may not start yet. Where items share task
    # instances: all that may, and two that may not.
    in_flight = 6 if items_per_task == 1 else 10
    airflow.client.wait_until("calls in flight", lambda: connections(api) == in_flight, 60)
    response = rest.post(f"/jobs/doomed/runs/{run_id}/terminate", json={"reason": "wrong prices"})
    assert response.json() == {"message": "Terminated"}
    run = run_of(rest, "doomed", run_id)
    assert run["status"] == "TERMINATED"
    assert run["counts"] == {
        "total": 12, "pending": 0, "running": 0, "retrying": 0, "succeeded": 0, "failed": 0, "canceled": 12,
    }  # fmt: skip
    assert run["reason"]["details"]["why"] == "wrong prices"
    assert run["reason"]["details"]["by"] in run["reason"]["message"]
    airflow.client.wait_until("all calls canceled", lambda: connections(api) == 0, 15)
    time.sleep(3)
    assert len(api.calls("doomed")) == in_flight, "what was queued did not call"
    assert jobs.delivered("doomed") == []
    assert run_of(rest, "doomed", run_id)["counts"] == run["counts"]
    again = rest.post(f"/jobs/doomed/runs/{run_id}/terminate", json={"reason": "twice"})
    assert again.json() == {"message": "The run had ended already; nothing was changed"}
    assert run_of(rest, "doomed", run_id)["reason"] == run["reason"]
    items = rest.get(f"/jobs/doomed/runs/{run_id}/payloads").json()["payloads"]
    assert {item["error"]["code"] for item in items} == {"canceled"}


def callers_of(port: int) -> set[int]:
    """The other processes that are connected to a server of this one."""
    found = psutil.net_connections("tcp")
    pids = {c.pid for c in found if c.status == psutil.CONN_ESTABLISHED and c.raddr and c.raddr.port == port}
    return {pid for pid in pids if pid not in (None, os.getpid())}


def connections(api: Api) -> int:
    """How many clients are connected to the API at this moment."""
    found = psutil.net_connections("tcp")
    return sum(c.status == psutil.CONN_ESTABLISHED and bool(c.raddr) and c.raddr.port == api.port for c in found)


@either_way
def test_a_run_that_waits_is_canceled(rest: httpx.Client, airflow: AirflowStack) -> None:
    create(rest, "waiting")
    airflow.stop_component("scheduler")
    try:
        run_id = trigger(rest, "waiting")
        assert run_of(rest, "waiting", run_id)["counts"]["total"] is None
        rest.post(f"/jobs/waiting/runs/{run_id}/terminate")
    finally:
        airflow.start_component("scheduler")
        airflow.wait_healthy()
    time.sleep(3)
    assert run_of(rest, "waiting", run_id)["status"] == "CANCELED"


@either_way
def test_an_update_gives_new_runs_the_new_definition_and_leaves_started_ones_alone(
    rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    def definition(version: str, secret: str) -> dict[str, Any]:
        return {
            "payload": [{"apiName": "slow", "parameters": {"seconds": 1, "version": version}}] * 3,
            "configuration": {"maxConcurrentRequests": 1, "retry": {"maximumAttempts": 1}},
            "target": {"headers": {"X-Version": version, "X-Secret": secret}},
            "sink": {"type": "webhook", "url": f"{receiver.url}/{version}", "headers": {"X-Secret": secret}},
        }

    create(rest, "revised", **definition("old", "first-secret"))
    old = trigger(rest, "revised")
    airflow.client.wait_until("the first call", lambda: api.calls("revised"), 60)
    response = rest.put("/jobs/revised", json=ways.in_use(definition("new", "second-secret")))
    assert response.status_code == 200, response.text
    new = trigger(rest, "revised")
    for run_id in (old, new):
        wait_for(airflow, rest, "revised", run_id, "SUCCESS")
    for run_id, version, secret in ((old, "old", "first-secret"), (new, "new", "second-secret")):
        calls = [call for call in api.calls("revised") if call.headers["x-job-run-id"] == run_id]
        assert {(c.headers["x-version"], c.headers["x-secret"]) for c in calls} == {(version, secret)}, version
        (delivery,) = [d for d in jobs.delivered("revised") if d.body["projectJobRun"]["id"] == run_id]
        assert (delivery.path, delivery.headers["x-secret"]) == (f"/{version}", secret)


def test_two_clients_that_update_at_once(rest: httpx.Client) -> None:
    etag = create(rest, "contested").headers["ETag"]
    bodies = [{**WORK, "configuration": {"maxConcurrentRequests": n + 1}} for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda body: rest.put("/jobs/contested", json=body, headers={"If-Match": etag}), bodies)
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 11
    error(next(a for a in answers if a.status_code == 412), 412, "job-changed")
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
    shown = rest.get("/jobs/contested")
    assert shown.json()["configuration"]["maxConcurrentRequests"] == winner + 1
    error(rest.delete("/jobs/contested", headers={"If-Match": etag}), 412, "job-changed")
    assert rest.delete("/jobs/contested", headers={"If-Match": shown.headers["ETag"]}).status_code == 204


def test_jobs_that_are_created_at_once_are_all_kept_and_one_id_only_once(rest: httpx.Client) -> None:
    with ThreadPoolExecutor(12) as pool:
        same = list(pool.map(lambda _: rest.post("/jobs", json={"id": "wanted", **WORK}).status_code, range(12)))
        assert sorted(same) == [201] + [409] * 11
        ids = [f"crowd-{n}" for n in range(40)]
        made = list(pool.map(lambda job_id: rest.post("/jobs", json={"id": job_id, **WORK}).status_code, ids))
        assert made == [201] * 40
        assert {job["id"] for job in rest.get("/jobs", params={"search": "crowd-"}).json()} == set(ids)
        page = rest.get(
            "/jobs", params={"search": "crowd-", "pageSize": 7, "pageNumber": 2, "sortBy": "-id", "source": "API"}
        )
        assert (len(page.json()), page.headers["X-Total-Count"]) == (7, "40")
        gone = list(pool.map(lambda job_id: rest.delete(f"/jobs/{job_id}").status_code, ids))
    assert gone == [204] * 40


def parsed_late(airflow: AirflowStack, definition: dict[str, Any]) -> None:
    """What the DAG processor does at the end of a parse that began when that was a job's definition."""
    late = """
import json, sys
from airflow_jobs_plugin.control import registration
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.factory import build_dag
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import StoredJob
definition = json.loads(sys.argv[1])
stored = StoredJob(Job.model_validate(definition), definition, "API", "", 1)
transact(lambda s: registration.register(s, build_dag(stored, 1000), registration.factory_file(s)))
"""
    command = [sys.executable, "-P", "-c", late, json.dumps(definition)]
    subprocess.run(command, env=airflow.env, check=True, timeout=60, capture_output=True, cwd=airflow.home)


def test_a_parse_that_began_before_a_change_does_not_undo_it(rest: httpx.Client, airflow: AirflowStack) -> None:
    before = create(rest, "overtaken").headers["ETag"]
    changed = {**WORK, "configuration": {"maxConcurrentRequests": 7}}
    after = rest.put("/jobs/overtaken", json=changed).headers["ETag"]
    parsed_late(airflow, {"id": "overtaken", **WORK})
    shown = rest.get("/jobs/overtaken")
    assert shown.json()["configuration"]["maxConcurrentRequests"] == 7
    assert shown.headers["ETag"] == after
    error(rest.put("/jobs/overtaken", json=WORK, headers={"If-Match": before}), 412, "job-changed")
    error(rest.delete("/jobs/overtaken", headers={"If-Match": before}), 412, "job-changed")
    assert rest.delete("/jobs/overtaken", headers={"If-Match": after}).status_code == 204


def test_a_job_with_active_runs_is_deleted_by_force_only_and_does_not_come_back(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    work = {
        "payload": [{"apiName": "slow", "parameters": {"seconds": 120}}],
        "schedule": {"intervals": [{"every": "2s"}]},
    }
    create(rest, "stubborn", **work)
    trigger(rest, "stubborn")
    airflow.client.wait_until("a call", lambda: api.calls("stubborn"), 60)
    body = error(rest.delete("/jobs/stubborn"), 409, "job-has-active-runs")
    assert "history" in body["message"]
    assert rest.delete("/jobs/stubborn", params={"force": True}).status_code == 204
    calls = len(api.calls("stubborn"))
    # A parse that began before brings the DAG back.
    parsed_late(airflow, {"id": "stubborn", **work})
    assert airflow.api("GET", "dags/stubborn")["is_stale"] is True
    error(rest.get("/jobs/stubborn"), 404, "job-not-found")
    time.sleep(5)
    assert airflow.client.pages("dags/stubborn/dagRuns", "dag_runs") == []
    assert len(api.calls("stubborn")) == calls
    airflow.client.wait_until("no more calls", lambda: connections(api) == 0, 15)
    create(rest, "stubborn", **WORK)


def test_a_job_of_a_file_is_read_only(rest: httpx.Client, jobs: Jobs) -> None:
    jobs.write("written", **WORK)
    shown = rest.get("/jobs/written").json()
    assert (shown["source"], shown["location"]) == ("CODE", "written.job.json")
    for response in (rest.put("/jobs/written", json=WORK), rest.delete("/jobs/written")):
        error(response, 409, "job-is-code")
    error(rest.post("/jobs", json={"id": "written", **WORK}), 409, "job-exists")
    assert rest.get("/jobs", params={"source": "CODE", "search": "writ"}).json()[0]["id"] == "written"
    run_id = trigger(rest, "written")
    assert run_of(rest, "written", run_id)["status"] in ("PENDING", "SUCCESS")


def test_a_definition_that_is_wrong_names_every_fault(rest: httpx.Client) -> None:
    wrong = {
        "id": "wrong",
        "payload": [{"api": "x", "retry": {"maximumAttempts": 0}}],
        "schedule": {"intervals": [{"every": "0s"}]},
        "sinks": {},
    }
    body = error(rest.post("/jobs", json=wrong), 422, "invalid-definition")
    assert {detail["path"] for detail in body["details"]} == {
        "payload[0].retry.maximumAttempts", "schedule.intervals[0].every", "sinks",
    }  # fmt: skip
    report = rest.post("/jobs/validate", json=wrong).json()
    assert (report["valid"], len(report["errors"])) == (False, 3)
    good = rest.post("/jobs/validate", json={"id": "right", **WORK, "schedule": {"calendars": [{"hour": 3}]}}).json()
    assert good["valid"]
    assert len(good["nextRunTimes"]) == 10
    error(rest.get("/jobs/wrong"), 404, "job-not-found")
    error(rest.post("/jobs", content=b"{", headers={"Content-Type": "application/json"}), 400, "bad-request")
    error(rest.post("/jobs", content=b"x=1", headers={"Content-Type": "text/plain"}), 415, "unsupported-media-type")
    error(
        rest.post("/jobs", json={"id": "later", **WORK, "target": {"type": "run-api", "resultPath": "/x"}}),
        422,
        "invalid-definition",
    )
    preview = rest.post(
        "/schedules/preview",
        json={"schedule": {"calendars": [{"dayOfMonth": 1}]}, "after": "2026-11-24T00:00:00Z", "count": 2},
    ).json()
    assert preview == {
        "description": "on day 1 of every month at 00:00, UTC",
        "timezone": "UTC",
        "runTimes": ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"],
    }


@either_way
def test_secrets_go_in_and_never_come_out(
    rest: httpx.Client, airflow: AirflowStack, api: Api, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    import sqlalchemy

    marked = "marked-secret"
    definition = {
        "payload": [{"apiName": "echo", "parameters": {"n": 1}}],
        "target": {"headers": {"Authorization": f"Bearer {marked}-1"}},
        "sink": {
            "type": "webhook",
            "url": f"{receiver.url}/hook?key={marked}-2",
            "headers": {"X-Key": f"{marked}-3"},
            "secret": SECRET,
        },
        "notifications": [{"type": "webhook", "url": "https://example.com/", "headers": {"X": f"{marked}-4"}}],
        "auth_session": {"id": "x", "password": f"{marked}-5"},
    }
    answers = [rest.post("/jobs", json={"id": "discreet-rest", **ways.in_use(definition)})]
    run_id = trigger(rest, "discreet-rest")
    wait_for(airflow, rest, "discreet-rest", run_id, "SUCCESS")
    (call,) = api.calls("discreet-rest")
    assert call.headers["authorization"] == f"Bearer {marked}-1", "the call had it"
    (delivery,) = jobs.delivered("discreet-rest")
    assert delivery.headers["x-key"] == f"{marked}-3"
    assert delivery.path == f"/hook?key={marked}-2"

    # A proxy that is not there: what the call says of it is stored, logged and shown.
    once = {"maximumAttempts": 1}
    proxied = {"payload": [{"apiName": "echo", "retry": once}], "proxy": f"http://user:{marked}-6@127.0.0.1:9"}
    create(rest, "discreet-proxy", **proxied)
    failed = trigger(rest, "discreet-proxy")
    wait_for(airflow, rest, "discreet-proxy", failed, "FAILURE")
    answers += [rest.get(f"/jobs/discreet-proxy{end}") for end in ("", "/runs", f"/runs/{failed}/payloads")]
    assert "127.0.0.1:9" in answers[-1].text, "the error says which proxy"

    # Read, changed and written back: what is masked stays what it was.
    shown = rest.get("/jobs/discreet-rest").json()
    fields = ("payload", "configuration", "schedule", "sink", "target", "proxy", "auth_session", "notifications")
    edited = {name: shown[name] for name in fields} | {"configuration": {"maxConcurrentRequests": 2}}
    edited = ways.in_use(edited)
    answers.append(rest.put("/jobs/discreet-rest", json=edited))
    assert answers[-1].status_code == 200, answers[-1].text
    run_id = trigger(rest, "discreet-rest")
    wait_for(airflow, rest, "discreet-rest", run_id, "SUCCESS")
    assert api.calls("discreet-rest")[1].headers["authorization"] == f"Bearer {marked}-1"
    assert jobs.delivered("discreet-rest")[1].headers["webhook-signature"]

    # Nobody has the stored secrets sent to a place of their own.
    for elsewhere in (
        {"sink": {**shown["sink"], "url": "https://attacker.example/"}},
        {"target": {**shown["target"], "connId": "hostless"}},
        {"proxy": "http://attacker.example:3128"},
    ):
        stolen = rest.put("/jobs/discreet-rest", json={**edited, **elsewhere})
        body = error(stolen, 422, "invalid-definition")
        assert "give it again" in body["message"]
        answers.append(stolen)
    answers.append(rest.post("/jobs", json={"id": "masked", **edited}))
    assert "give the secret itself" in answers[-1].json()["message"]
    answers.append(rest.post("/jobs", json={"id": "bad-one", **definition, "sink": {**definition["sink"], "x": 1}}))

    paths = [f"/jobs/discreet-rest{rest_of}" for rest_of in ("", "/runs", f"/runs/{run_id}")]
    answers += [rest.get(path) for path in [*paths, "/jobs", f"{paths[2]}/payloads", f"{paths[2]}/results"]]
    for path in (
        "variables", "dags/discreet-rest", "dags/discreet-rest/details", f"dags/discreet-rest/dagRuns/{run_id}",
        "eventLogs?dag_id=discreet-rest&limit=100", "dagSources/discreet-rest",
        f"dags/discreet-rest/dagRuns/{run_id}/taskInstances", "importErrors",
    ):  # fmt: skip
        answers.append(airflow.client.request("GET", f"/api/v2/{path}"))
    for key in [v["key"] for v in airflow.api("GET", "variables", params={"limit": 100})["variables"]]:
        answers.append(airflow.client.request("GET", f"/api/v2/variables/{key}"))
    for answer in answers:
        assert marked not in answer.text, answer.url
        assert SECRET not in answer.text, answer.url

    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(engine).get_table_names():
            dump = connection.execute(sqlalchemy.text(f'SELECT t::text FROM "{table}" t')).scalars().all()
            text = "\n".join(dump)
            assert marked not in text, table
            assert SECRET not in text, table
    engine.dispose()
    logs = jobs.logs()
    assert marked not in logs
    assert SECRET not in logs
    for job_id in ("discreet-rest", "discreet-proxy"):
        rest.delete(f"/jobs/{job_id}")


@either_way
def test_runs_are_found_by_what_they_are_shown_as(rest: httpx.Client, airflow: AirflowStack) -> None:
    statuses = ("PENDING", "PAUSING", "PAUSED", "SUCCESS", "COMPLETED", "FAILURE", "TERMINATED", "CANCELED")
    create(rest, "assorted", payload=[ADD, {"apiName": "acme_jobs:secret_agent"}], target={"type": "python"})
    wait_for(airflow, rest, "assorted", trigger(rest, "assorted"), "FAILURE")
    tolerant = {"toleratedFailurePercentage": 50}
    lenient = {"payload": [ADD, {"apiName": "x:y"}], "target": WORK["target"], "configuration": tolerant}
    rest.put("/jobs/assorted", json=ways.in_use(lenient))
    wait_for(airflow, rest, "assorted", trigger(rest, "assorted"), "COMPLETED")
    rest.put("/jobs/assorted", json=ways.in_use({**WORK, "schedule": {"intervals": [{"every": "1s"}]}}))
    airflow.client.wait_until("two ticks", lambda: len(runs_with(rest, "assorted", type="SCHEDULED")) >= 2, 60)
    rest.put("/jobs/assorted", json=ways.in_use(WORK))
    wait_for(airflow, rest, "assorted", trigger(rest, "assorted"), "SUCCESS")
    airflow.client.wait_until("an end", lambda: runs_with(rest, "assorted", status="PENDING") == [], 60)
    run_id = trigger(rest, "assorted")
    rest.post(f"/jobs/assorted/runs/{run_id}/terminate")
    shown = {run["id"]: run for run in rest.get("/jobs/assorted/runs", params={"pageSize": 500}).json()["jobRuns"]}
    assert {run["status"] for run in shown.values()} >= {"FAILURE", "COMPLETED", "SUCCESS"}
    for status in statuses:
        assert runs_with(rest, "assorted", status=status) == [n for n in shown if shown[n]["status"] == status], status
    for kind in ("MANUAL", "SCHEDULED"):
        assert runs_with(rest, "assorted", type=kind) == [n for n in shown if shown[n]["type"] == kind], kind
    # A run that was terminated and then cleared is no longer what the mark says.
    airflow.api("POST", f"dags/assorted/dagRuns/{run_id}/clear", json={"dry_run": False})
    wait_for(airflow, rest, "assorted", run_id, "SUCCESS")
    assert run_id in runs_with(rest, "assorted", status="SUCCESS")


# -- who may do what ------------------------------------------------------------------------------------------------

DEFAULT = {"payload": [{"apiName": "echo"}]}  # names the default connection


LOOK = {"read", "validate"}
EDIT = {*LOOK, "trigger", "pause", "terminate", "create", "update", "delete"}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (None, set()),
        ("VIEWER", LOOK),
        ("USER", EDIT),
        ("OP", {*EDIT, "create-connection"}),
        ("ADMIN", {*EDIT, "create-connection"}),
    ],
)
def test_every_operation_asks_for_its_right(
    role: str | None, allowed: set[str], rest: httpx.Client, airflow: AirflowStack, strict: httpx.Client
) -> None:
    job_id = f"guarded-{(role or 'nobody').lower()}"
    create(rest, job_id)
    run_id = trigger(rest, job_id)
    wait_for(airflow, rest, job_id, run_id, "SUCCESS")
    headers = bearer(airflow, role=role) if role else {}
    one = f"/jobs/api/v1/jobs/{job_id}"
    new = {"id": f"{job_id}-new", **WORK}
    operations: list[tuple[str, str, str, Any]] = [
        ("read", "GET", "/jobs/api/v1/jobs", None),
        ("read", "GET", one, None),
        ("read", "GET", f"{one}/runs", None),
        ("read", "GET", f"{one}/runs/{run_id}", None),
        ("read", "GET", f"{one}/runs/{run_id}/payloads", None),
        ("read", "GET", f"{one}/runs/{run_id}/payloads/0", None),
        ("read", "GET", f"{one}/runs/{run_id}/results", None),
        ("read", "GET", "/jobs/openapi.json", None),
        ("read", "GET", "/jobs/docs", None),
        ("validate", "POST", "/jobs/api/v1/jobs/validate", new),
        ("validate", "POST", "/jobs/api/v1/schedules/preview", {"schedule": {"intervals": [{"every": "1d"}]}}),
        ("trigger", "POST", f"{one}/trigger", {}),
        ("terminate", "POST", f"{one}/runs/{run_id}/terminate", None),
        ("pause", "POST", f"{one}/pause", None),
        ("pause", "POST", f"{one}/resume", None),
        ("update", "PUT", one, WORK),
        ("create", "POST", "/jobs/api/v1/jobs", new),
        ("create-connection", "POST", "/jobs/api/v1/jobs", {"id": f"{job_id}-connected", **DEFAULT}),
        ("delete", "DELETE", f"{one}?force=true", None),
    ]
    for name, method, path, body in operations:
        for prefix in ("/jobs/api/v1", "/jobs/api/v1/workspace/any/projects/one"):
            if prefix != "/jobs/api/v1" and (name not in ("read", "pause") or not path.startswith("/jobs/api")):
                continue
            url = path.replace("/jobs/api/v1", prefix, 1)
            # A query that names another job, one that the caller might do this to, changes nothing.
            response = strict.request(method, url, json=body, headers=headers, params={"dag_id": "other", "jobId": "x"}
                                      if "?" not in url else None)  # fmt: skip
            if role is None:
                assert response.status_code == 401, (name, url, response.text)
            elif name in allowed:
                assert response.is_success, (name, url, response.text)
            else:
                assert response.status_code == 403, (name, url, response.text)
                assert response.json()["category"] == "authorization"
    for suffix in ("-new", "-connected"):
        rest.delete(f"/jobs/{job_id}{suffix}")


def test_health_tells_strangers_how_it_is_and_nobody_else_why(airflow: AirflowStack, strict: httpx.Client) -> None:
    for prefix in ("/jobs/api/v1", "/jobs/api/v1/workspace/any/projects/one"):
        url = f"{prefix}/health"
        stranger = strict.get(url)
        assert stranger.status_code in (200, 503)
        assert stranger.json()["version"] is None
        assert {part["message"] for part in stranger.json()["parts"]} == {None}
        assert strict.head(url).status_code in (200, 405, 503)
        known = strict.get(url, headers=bearer(airflow, role="VIEWER"))
        assert known.json()["version"] is not None
        # Who brings a token is told that it is none.
        assert strict.get(url, headers={"Authorization": "Bearer eyJ.not.true"}).status_code == 401
        assert strict.post(url, json={}).status_code in (401, 405)


@pytest.mark.parametrize("way", ["bearer", "x-api-key", "cookie"])
def test_a_token_may_come_in_three_ways(way: str, airflow: AirflowStack, strict: httpx.Client) -> None:
    def headers(text: str) -> dict[str, str]:
        return {
            "bearer": {"Authorization": f"Bearer {text}"},
            "x-api-key": {"x-api-key": text},
            "cookie": {"Cookie": f"_token={text}"},
        }[way]

    url = "/jobs/api/v1/jobs"
    assert strict.get(url, headers=headers(token(airflow, role="VIEWER"))).status_code == 200
    assert strict.get(url, headers=headers("eyJ.not.true")).status_code in (401, 403)
    expired = token(airflow, role="ADMIN", exp=datetime(2026, 1, 1, tzinfo=UTC))
    assert strict.get(url, headers=headers(expired)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "OWN"}, 200),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
    ids=str,
)
def test_a_cookie_is_no_permission_for_other_sites(
    headers: dict[str, str], status: int, rest: httpx.Client, airflow: AirflowStack, strict: httpx.Client
) -> None:
    rest.post("/jobs", json={"id": "forged", **WORK})
    own = f"http://{strict.base_url.host}:{strict.base_url.port}"
    cookie = {"Cookie": f"_token={token(airflow, role='ADMIN')}"}
    sent = {name: value.replace("OWN", own) for name, value in headers.items()}
    response = strict.post("/jobs/api/v1/jobs/forged/pause", headers={**sent, **cookie})
    assert response.status_code == status, response.text
    # Whatever it says of itself, a form is not JSON.
    form = strict.post(
        "/jobs/api/v1/jobs", content=b'{"id":"x"}', headers={**sent, **cookie, "Content-Type": "text/plain"}
    )
    assert form.status_code in (403, 415)
    assert strict.get("/jobs/api/v1/jobs", headers={**sent, **cookie}).status_code == 200


def test_the_command_line_starts_no_run_of_a_paused_job(rest: httpx.Client, airflow: AirflowStack) -> None:
    from airflow_jobs_plugin.demo.processes import StackError

    create(rest, "asleep", **WORK, schedule={"intervals": [{"every": "1d"}]})
    rest.post("/jobs/asleep/pause")
    with pytest.raises(StackError, match="the job 'asleep' is paused"):
        airflow.command("dags", "trigger", "asleep")
    dates = ("--from-date", "2026-01-01", "--to-date", "2026-01-03")
    with pytest.raises(StackError, match="the job 'asleep' is paused"):
        airflow.command("backfill", "create", "--dag-id", "asleep", *dates)
    assert rest.get("/jobs/asleep/runs").json()["totalCount"] == 0
    assert airflow.api("GET", "backfills", params={"dag_id": "asleep"})["total_entries"] == 0
