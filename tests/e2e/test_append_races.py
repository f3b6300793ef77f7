"""Callers who append while items end and the run tries to close, on a real scheduler and over REST.

``tests/torture`` has the same at the database, in hundreds of rounds.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Api, Jobs
from .test_appending import append, busy, echo, items_of
from .test_rest import create, error, trigger, wait_for
from .ways import either_way

pytestmark = [pytest.mark.e2e, either_way]


class Callers:
    """Callers of one run, who repeat whatever they have no answer to. Some hang up before they have one."""

    def __init__(
        self,
        rest: httpx.Client,
        airflow: AirflowStack,
        api: Api,
        job_id: str,
        run_id: str,
        seed: str,
        callers: int,
        calls: int,
    ) -> None:
        self.rest, self.airflow, self.api, self.job_id, self.run_id = rest, airflow, api, job_id, run_id
        self.callers, self.calls = callers, calls
        self.acknowledged: dict[str, list[int]] = {}
        self.refused: Counter[str] = Counter()
        self.broken_off: Counter[str] = Counter()
        self._seed = seed
        self._random = random.Random(seed)
        #: The calls before which all callers wait until the run has nothing left to do, and the last one of them until
        #: it has begun to close.
        half = calls // 2
        self._at_the_end = {call for call in range(half, calls - 1) if call == half or self._random.random() < 0.5}
        self._at_the_end.add(calls - 1)
        self._left = len(self._at_the_end)
        self._together = threading.Barrier(callers, self._await_the_end)
        self._lock = threading.Lock()

    def call(self) -> None:
        """Make all calls, or as many as the run takes."""
        with ThreadPoolExecutor(self.callers) as pool:
            for calling in [pool.submit(self._call, number) for number in range(self.callers)]:
                calling.result()

    def _call(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        for call in range(self.calls):
            if call in self._at_the_end:
                try:
                    self._together.wait()
                except threading.BrokenBarrierError:
                    pass  # another caller has been refused
            key = f"{number}-{call}"
            payload = [{"apiName": "echo", "parameters": {"key": key, "n": n}} for n in range(chance.randint(1, 3))]
            if not self._append(chance, key, payload):
                self._together.abort()
                return
            if chance.random() < 0.2:
                assert self._append(chance, key, payload), "an answer that was given is given again"

    def _await_the_end(self) -> None:
        """Until every item has been called, and a moment more: what comes then races with closing, or is too late."""
        self._left -= 1
        # All callers wait here, so that every item is one that was acknowledged, or the first.
        listed = 1 + sum(map(len, self.acknowledged.values()))
        end = time.monotonic() + 600
        while len(self.api.calls(self.job_id)) < listed and time.monotonic() < end:
            time.sleep(0.05)
        if self._left:
            time.sleep(self._random.uniform(0, 0.8))
            return
        sink = f"dags/{self.job_id}/dagRuns/{self.run_id}/taskInstances/sink"
        while self.airflow.api("GET", sink)["state"] is None and time.monotonic() < end:
            time.sleep(0.02)

    def _append(self, chance: random.Random, key: str, payload: list[dict[str, Any]]) -> bool:
        """Whether the run took the items."""
        while fate := chance.choice((None,) * 7 + ("half-way", "unread", "answered")):
            self._break_off(fate, key, payload)
        answer = append(self.rest, self.job_id, self.run_id, *payload, key=key)
        with self._lock:
            if answer.status_code == 409:
                assert key not in self.acknowledged, f"{key} was acknowledged, and then refused"
                self.refused[answer.json()["code"]] += 1
                return False
            assert answer.status_code == 200, answer.text
            indexes = [item["index"] for item in answer.json()["payloads"]]
            assert self.acknowledged.setdefault(key, indexes) == indexes
            return True

    def _break_off(self, fate: str, key: str, payload: list[dict[str, Any]]) -> None:
        """Make a request and hang up: half-way, before its answer, or when the answer begins."""
        self.broken_off[fate] += 1
        body = json.dumps({"payload": payload}).encode()
        url = self.rest.base_url
        connection = HTTPConnection(url.host, url.port, timeout=120)
        try:
            connection.putrequest("POST", f"{url.path}jobs/{self.job_id}/runs/{self.run_id}/payloads")
            for name, value in {
                "Authorization": self.rest.headers["Authorization"],
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Idempotency-Key": key,
            }.items():
                connection.putheader(name, value)
            connection.endheaders()
            connection.send(body[: len(body) // 2] if fate == "half-way" else body)
            if fate == "answered":
                connection.getresponse()
        finally:
            connection.close()


@pytest.mark.core
@pytest.mark.parametrize(
    ("callers", "calls", "number"),
    [(8, 3, 0), *(pytest.param(50, 20, number, marks=pytest.mark.thorough) for number in range(1, 4))],
)
def test_appends_that_race_with_closing_lose_and_double_nothing(
    rest: httpx.Client,
    airflow: AirflowStack,
    api: Api,
    receiver: WebhookReceiver,
    jobs: Jobs,
    items_per_task: int,
    callers: int,
    calls: int,
    number: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job_id = f"raced-{number}"
    create(
        rest,
        job_id,
        payload=[{"apiName": "slow", "parameters": {"seconds": 2}}],
        configuration={"maxConcurrentRequests": 16},
        sink={"type": "webhook", "url": f"{receiver.url}/{job_id}"},
    )
    run_id = trigger(rest, job_id)
    airflow.client.wait_until("the first call", lambda: api.calls(job_id), 60)
    made = Callers(rest, airflow, api, job_id, run_id, f"{number}/{items_per_task}", callers, calls)
    made.call()
    assert made.refused, "whoever waits until the run closes is refused"
    run = wait_for(airflow, rest, job_id, run_id, "SUCCESS", timeout=240 + callers * calls)

    items = items_of(rest, job_id, run_id)
    with capsys.disabled():
        told = {"acknowledged": len(made.acknowledged), "refused": dict(made.refused), **made.broken_off}
        print(f"\n{job_id}, {items_per_task} to a task: {len(items)} items, {json.dumps(told)}")
    assert run["payloads"] == run["counts"]["succeeded"] == len(items)
    found: dict[str, list[int]] = {}
    for item in items[1:]:
        found.setdefault(item["parameters"]["key"], []).append(item["index"])
    assert found == made.acknowledged, "nothing lost, nothing doubled, and nothing of what was refused"
    calls_made = api.calls_by_item(job_id)
    counts = {index: len(of_item) for index, of_item in calls_made.items()}
    attempts = {index: items[index]["attempts"] for index, count in counts.items() if count > 1}
    assert counts == dict.fromkeys(range(len(items)), 1), f"called again; attempts of these: {attempts}"
    (delivery,) = jobs.delivered(job_id)
    assert delivery.time > max(of_item[0].time for of_item in calls_made.values()), "nothing ran after the sink"
    delivered = [entry["apiInfo"]["parameters"] for entry in delivery.body["results"]]
    assert delivered == [item["parameters"] for item in items]
    late = append(rest, job_id, run_id, {"apiName": "echo", "parameters": {}}, key="late")
    error(late, 409, "run-ended")
    again = append(rest, job_id, run_id, *_payload(items, made, "0-0"), key="0-0")
    assert [item["index"] for item in again.json()["payloads"]] == made.acknowledged["0-0"]


def test_callers_who_wait_for_their_turn_hold_nobody_else_up(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    job_id, callers = "crowded", 60  # more than the API server has threads, 40, and database connections, 15
    run_id = busy(rest, airflow, api, job_id, seconds=60)
    engine = create_engine(airflow.postgres.url("psycopg2"))
    lock = text("SELECT id FROM dag_run WHERE dag_id = :job_id AND run_id = :run_id FOR UPDATE")
    with ThreadPoolExecutor(callers) as pool:
        with engine.begin() as connection:
            assert connection.execute(lock, {"job_id": job_id, "run_id": run_id}).all()
            appending = [pool.submit(append, rest, job_id, run_id, echo(n), key=str(n)) for n in range(callers)]
            time.sleep(2)
            for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/runs/{run_id}"):
                assert rest.get(path, timeout=15).is_success
            assert not any(one.done() for one in appending), "they wait for the lock"
        answers = [one.result() for one in appending]
    engine.dispose()
    assert {answer.status_code for answer in answers} == {200}
    indexes = [item["index"] for answer in answers for item in answer.json()["payloads"]]
    assert sorted(indexes) == list(range(1, callers + 1))
    assert rest.post(f"/jobs/{job_id}/runs/{run_id}/terminate").is_success


def test_callers_whose_run_has_no_list_yet_hold_nobody_else_up(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    run_id = busy(rest, airflow, api, "listed", seconds=60)
    create(rest, "unlisted", payload=[{"apiName": "echo"}])
    airflow.stop_component("scheduler")
    try:
        unlisted = [trigger(rest, "unlisted") for _ in range(5)]  # more than there are threads for appends
        with ThreadPoolExecutor(10) as pool:
            began = time.monotonic()
            appending = [pool.submit(append, rest, "unlisted", run, echo(1)) for run in unlisted for _ in range(2)]
            time.sleep(0.5)
            assert append(rest, "listed", run_id, echo(1)).is_success
            assert not any(one.done() for one in appending), "they wait for the scheduler"
            for one in appending:
                error(one.result(), 409, "run-not-planned")
            # Each waits for five seconds, and all of them at the same time.
            assert time.monotonic() - began < 20
    finally:
        airflow.start_component("scheduler")
        airflow.wait_healthy()
    for job_id, run in [("listed", run_id), *(("unlisted", run) for run in unlisted)]:
        assert rest.post(f"/jobs/{job_id}/runs/{run}/terminate").is_success


def _payload(items: list[dict[str, Any]], made: Callers, key: str) -> list[dict[str, Any]]:
    return [{"apiName": "echo", "parameters": items[index]["parameters"]} for index in made.acknowledged[key]]
