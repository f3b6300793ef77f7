"""APIs that start runs and are polled, through deaths and terminations, on a real Airflow."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.demo.stack import AirflowStack

from .test_appending import items_of
from .test_rest import callers_of, create, run_of, trigger, wait_for
from .ways import either_way

pytestmark = [pytest.mark.e2e, either_way]


class RunApi(LocalServer):
    """Starts runs that end when they are polled so often as their parameters say."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.runs: dict[str, dict[str, Any]] = {}
        self.canceled: list[str] = []

    def reply(self, request: Received) -> Reply:
        with self._lock:
            if request.path == "/run/start":
                run_id = f"r{len(self.runs)}"
                self.runs[run_id] = {**request.body, "polls": 0, "job": request.headers["x-job-id"]}
                return Reply(201, {"runId": run_id, "status": "pending"})
            _, _, run_id, what = request.path.split("/")
            run = self.runs[run_id]
            if what == "terminate":
                self.canceled.append(run_id)
                return Reply(200, {"message": "terminated"})
            run["polls"] += 1
            parameters = run["parameters"]
            if run["polls"] <= parameters.get("polls", 1):
                return Reply(200, {"runId": run_id, "status": "started"})
            more = [{"api": "leaf", "parameters": {"n": n}} for n in range(parameters.get("more", 0))]
            answer = {"runId": run_id, "status": "completed", "result": {"of": run["api"]}, "statusCode": 200}
            return Reply(200, {**answer, "extendedPayloads": more} if more else answer)

    def of(self, job_id: str) -> dict[str, dict[str, Any]]:
        return {run_id: run for run_id, run in self.runs.items() if run["job"] == job_id}


@pytest.fixture(scope="module")
def connected(airflow: AirflowStack) -> Iterator[RunApi]:
    with RunApi() as server:
        connection = {"connection_id": "platform", "conn_type": "http", "host": server.url}
        airflow.api("POST", "connections", json=connection)
        yield server


@pytest.fixture
def platform(connected: RunApi) -> RunApi:
    """The API, which knows of no run yet."""
    connected.runs.clear()
    connected.canceled.clear()
    return connected


TARGET = {
    "type": "run-api", "connId": "platform", "pollInterval": "200ms", "maxPollInterval": "500ms",
    "cancelPath": "/run/{runId}/terminate",
}  # fmt: skip


def test_runs_are_started_awaited_and_bring_more(rest: httpx.Client, airflow: AirflowStack, platform: RunApi) -> None:
    payload = [{"apiName": "scrape", "parameters": {"polls": 2, "more": 2}}]
    create(rest, "polled", payload=payload, target=TARGET)
    run_id = trigger(rest, "polled")
    wait_for(airflow, rest, "polled", run_id, "SUCCESS")
    items = items_of(rest, "polled", run_id)
    assert [item["result"] for item in items] == [{"of": "scrape"}, {"of": "leaf"}, {"of": "leaf"}]
    assert [item["parent"] for item in items] == [None, 0, 0]
    assert len(platform.of("polled")) == 3


@pytest.mark.core
def test_a_worker_that_dies_goes_back_to_the_run_that_it_had_started(
    rest: httpx.Client, airflow: AirflowStack, platform: RunApi
) -> None:
    payload = [{"apiName": "scrape", "parameters": {"polls": 40}, "retry": {"maximumAttempts": 1}}]
    create(rest, "reattached", payload=payload, target=TARGET)
    run_id = trigger(rest, "reattached")

    def polled(times: int) -> bool:
        return any(run["polls"] >= times for run in platform.of("reattached").values())

    airflow.client.wait_until("some polls", lambda: polled(3), 60)
    time.sleep(0.5)
    victims: set[int] = set()
    while not victims:  # between two polls there may be no connection
        victims = callers_of(platform.port)
    os.kill(victims.pop(), signal.SIGKILL)
    run = wait_for(airflow, rest, "reattached", run_id, "SUCCESS")
    assert run["counts"]["succeeded"] == 1
    (only,) = platform.of("reattached").values()
    assert only["polls"] > 40, "the one run that was started was waited for, although no attempt was left"
    assert platform.canceled == []


def test_terminating_cancels_the_run_on_the_other_side(
    rest: httpx.Client, airflow: AirflowStack, platform: RunApi
) -> None:
    create(rest, "called-off", payload=[{"apiName": "scrape", "parameters": {"polls": 10_000}}], target=TARGET)
    run_id = trigger(rest, "called-off")
    airflow.client.wait_until("a poll", lambda: any(r["polls"] for r in platform.of("called-off").values()), 60)
    rest.post(f"/jobs/called-off/runs/{run_id}/terminate")
    airflow.client.wait_until("the cancel call", lambda: platform.canceled == list(platform.of("called-off")), 20)
    assert run_of(rest, "called-off", run_id)["status"] == "TERMINATED"
