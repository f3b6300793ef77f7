"""Pause and terminate where tasks wait in a broker's queue, outside of Airflow: CeleryExecutor over Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.stack import AirflowStack
from tests.redis_server import RedisServer, require_redis_server

from .conftest import FACTORY, Api
from .test_rest import connections, create, run_of, trigger, wait_for

pytestmark = pytest.mark.e2e

CONCURRENCY = 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The ``[celery]`` section with a broker of the test's own."""
    with RedisServer(require_redis_server(), tmp_path_factory.mktemp("redis")) as redis:
        yield {"broker_url": redis.url}


@pytest.fixture(scope="module")
def queueing(broker: dict[str, Any], api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    home: Path = tmp_path_factory.mktemp("queueing")
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_text(FACTORY)
    with AirflowStack(
        home / "dags",
        home=home,
        connections={"airflow_jobs_default": api.url},
        config={"celery": broker},
        workers=[CONCURRENCY],
        env={"C_FORCE_ROOT": "1"},
    ) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def remote(queueing: AirflowStack) -> Iterator[httpx.Client]:
    with queueing.jobs_api() as client:
        yield client


def waiting(airflow: AirflowStack, job_id: str, run_id: str) -> int:
    """How many items are in the broker's queue."""
    return sum(ti["state"] == "queued" for ti in airflow.task_instances(job_id, run_id, "payload"))


def test_what_waits_in_the_queue_when_a_job_is_paused_calls_nothing(
    queueing: AirflowStack, remote: httpx.Client, api: Api
) -> None:
    payload = [{"apiName": "slow", "parameters": {"seconds": 8, "n": n}} for n in range(8)]
    create(remote, "queued-pause", payload=payload, configuration={"maxConcurrentRequests": 8})
    run_id = trigger(remote, "queued-pause")
    queueing.client.wait_until("calls in flight", lambda: len(api.calls("queued-pause")) == CONCURRENCY, 90)
    queued = lambda: waiting(queueing, "queued-pause", run_id) == 8 - CONCURRENCY  # noqa: E731
    queueing.client.wait_until("the others in the queue", queued, 6)
    remote.post("/jobs/queued-pause/pause")
    paused = wait_for(queueing, remote, "queued-pause", run_id, "PAUSED")
    # The workers take every item from the queue, and none of them calls.
    queueing.client.wait_until("an empty queue", lambda: waiting(queueing, "queued-pause", run_id) == 0, 60)
    assert paused["counts"]["succeeded"] == len(api.calls("queued-pause")) == CONCURRENCY
    assert run_of(remote, "queued-pause", run_id)["counts"]["failed"] == 0
    remote.post("/jobs/queued-pause/resume")
    run = wait_for(queueing, remote, "queued-pause", run_id, "SUCCESS")
    assert run["counts"]["succeeded"] == 8
    calls = api.calls_by_item("queued-pause")
    assert {index: [c.headers["x-attempt"] for c in made] for index, made in calls.items()} == {
        index: ["1"] for index in range(8)
    }


def test_what_waits_in_the_queue_when_a_run_is_terminated_never_starts(
    queueing: AirflowStack, remote: httpx.Client, api: Api
) -> None:
    payload = [{"apiName": "slow", "parameters": {"seconds": 120}}] * 8
    create(remote, "queued-end", payload=payload, configuration={"maxConcurrentRequests": 6})
    run_id = trigger(remote, "queued-end")
    queueing.client.wait_until("calls in flight", lambda: len(api.calls("queued-end")) == CONCURRENCY, 90)
    before = time.monotonic()
    assert remote.post(f"/jobs/queued-end/runs/{run_id}/terminate").json() == {"message": "Terminated"}
    assert run_of(remote, "queued-end", run_id)["counts"]["canceled"] == 8
    queueing.client.wait_until("calls canceled", lambda: connections(api) == 0, 30)
    assert time.monotonic() - before < 15
    # Another job's items go through: the queue is empty again, and its workers are free.
    create(remote, "after-the-end", payload=[{"apiName": "echo"}])
    wait_for(queueing, remote, "after-the-end", trigger(remote, "after-the-end"), "SUCCESS")
    assert len(api.calls("queued-end")) == CONCURRENCY
    assert run_of(remote, "queued-end", run_id)["status"] == "TERMINATED"
