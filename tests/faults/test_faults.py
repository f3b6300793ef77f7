"""Components die, disks fill up and APIs misbehave in the middle of runs: every item is accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import disks
from .conftest import Tally
from .reckoning import Figures
from .soak import soak
from .topology import WORKERS
from .world import World

pytestmark = pytest.mark.e2e

Runs = list[tuple[str, str]]


def slow(count: int, seconds: float) -> list[dict[str, Any]]:
    return [{"apiName": "slow", "parameters": {"seconds": seconds, "n": n}} for n in range(count)]


def reckoned(world: World, runs: Runs, expected: int, deaths: int = 0, **kw: Any) -> Figures:
    return reduce(add, [world.reckon(*run, expected=expected, deaths=deaths, **kw) for run in runs])


def called(world: World, runs: Runs, count: int) -> Callable[[], bool]:
    """Whether each of the runs has made so many calls."""
    return lambda: all(sum(map(len, world.ledgers.calls(run, job).values())) >= count for job, run in runs)


def files(process: psutil.Process) -> set[Path]:
    try:
        return {Path(process.cwd()), *(Path(file.path) for file in process.open_files())}
    except psutil.Error:
        return set()  # it has ended


def test_a_worker_is_killed_in_mid_call(world: World, tally: Tally) -> None:
    runs = world.start("one-worker", slow(8, 4), maxConcurrentRequests=4)
    touched: dict[str, set[Path]] = {name: set() for name in world.airflow.processes}

    def look() -> bool:
        for name, found in touched.items():
            found.update(*map(files, world.airflow.running(name)))
        return world.airflow.in_flight("worker-1", world.api.port) >= 3

    world.until("calls in flight", look)
    world.airflow.crash("worker-1")
    figures = reckoned(world, runs, 8, deaths=1)
    assert figures.calls > figures.items
    tally(figures)
    # Components have no disk in common, and a task's log is where the task ran.
    machines = {name: world.airflow.machine(name) for name in touched}
    for name, found in touched.items():
        others = [machine for other, machine in machines.items() if other != name]
        assert not [path for path in found if any(path.is_relative_to(machine) for machine in others)]
    assert all(any(machines[name].glob("logs/dag_id=one-worker-*")) for name in WORKERS)
    assert not any(machines["api-server"].glob("logs/dag_id=*"))


@pytest.mark.thorough
def test_both_workers_are_killed_in_mid_call(world: World, tally: Tally) -> None:
    runs = world.start("both-workers", slow(8, 4), maxConcurrentRequests=4)
    world.until("calls of both", lambda: all(world.airflow.in_flight(w, world.api.port) >= 2 for w in WORKERS))
    for worker in WORKERS:
        world.airflow.kill_component(worker)
    time.sleep(3)
    for worker in WORKERS:
        world.airflow.start_component(worker)
    tally(reckoned(world, runs, 8, deaths=1))


@pytest.mark.thorough
def test_one_of_two_schedulers_is_killed(world: World, tally: Tally) -> None:
    payload = [*slow(5, 2), {"apiName": "grow", "parameters": {"width": 2}}]
    runs = world.start("scheduler", payload, maxConcurrentRequests=2)
    world.until("calls in flight", called(world, runs, 2))
    world.airflow.kill_component("scheduler")
    try:
        figures = reckoned(world, runs, 8)
    finally:
        world.airflow.start_component("scheduler")
    # The other one takes over what runs: it costs not even an attempt.
    assert figures.attempts == figures.items
    tally(figures)


@pytest.mark.thorough
def test_the_api_server_is_killed_during_creates_triggers_and_appends(world: World, tally: Tally) -> None:
    api = world.api
    api.released.clear()
    echo = {"apiName": "echo", "parameters": {}}
    retry = {"maximumAttempts": 10}
    growing = world.start("growing", [echo, {"apiName": "hold"}], maxConcurrentRequests=4, retry=retry)
    world.create("often", [echo], configuration={"itemsPerTask": 3})
    world.until("the calls that keep the runs open", called(world, growing, 2), 90)
    over = threading.Event()

    def created() -> list[str]:
        made = []
        while not over.wait(0.2):
            made.append(job := f"made-{len(made)}")
            answer = world.ask("POST", "/jobs", json={"id": job, "payload": [echo]})
            # The repetition of a request whose answer was lost finds what that one had made.
            assert answer.status_code in (201, 409), answer.text
        return made

    def triggered() -> list[str]:
        made: list[str] = []
        while len(made) < 6 and not over.wait(0.2):
            answer = world.ask("POST", "/jobs/often/trigger", headers={"Idempotency-Key": f"often-{len(made)}"})
            assert answer.status_code == 200, answer.text
            made.append(answer.json()["jobRunId"])
        return made

    def appended() -> int:
        count = 0
        while count < 20 and not over.wait(0.1):
            for job, run in growing:
                answer = world.ask(
                    "POST",
                    f"/jobs/{job}/runs/{run}/payloads",
                    headers={"Idempotency-Key": f"append-{count}"},
                    json={"payload": [{**echo, "parameters": {"append": count}}]},
                )
                assert answer.is_success, answer.text
            count += 1
        return count

    with ThreadPoolExecutor() as pool:
        work = [pool.submit(action) for action in (created, triggered, appended)]
        try:
            for _ in range(2):
                time.sleep(1.5)
                world.airflow.crash("api-server")
                world.ask("GET", "/jobs")
        finally:
            over.set()
        made, runs, appends = (future.result() for future in work)
    listed = [job["id"] for job in world.get("/jobs", pageSize=100, search="made-")]
    assert sorted(listed) == sorted(made)
    assert len(set(runs)) == len(runs) == world.get("/jobs/often/runs")["totalCount"]
    api.released.set()
    figures = reckoned(world, growing, 2 + appends, deaths=2) + reckoned(world, [("often", run) for run in runs], 1)
    for job, run in growing:
        told = [item["parameters"].get("append") for item in world.items(job, run)]
        assert sorted(n for n in told if n is not None) == list(range(appends))
    tally(figures, creates=len(made), triggers=len(runs), appends=2 * appends)


def test_postgresql_and_redis_are_killed_in_mid_run(world: World, tally: Tally) -> None:
    runs = world.start("stores", slow(10, 2), maxConcurrentRequests=3, retry={"maximumAttempts": 5})
    world.until("calls in flight", called(world, runs, 2))
    world.airflow.postgres.restart(killed=True, after=2)
    world.until("calls after that", called(world, runs, 6), 120)
    world.redis.restart(killed=True, after=2)
    tally(reckoned(world, runs, 10, deaths=1), restarted=sum(world.airflow.restarts.values()))


@pytest.mark.thorough
def test_the_disk_of_a_workers_logs_is_full(world: World, tally: Tally) -> None:
    retry = {"maximumAttempts": 5, "initialInterval": "2s"}
    with disks.full(world.airflow.machine("worker-1") / "logs") as filler:
        runs = world.start("full-disk", slow(6, 1), maxConcurrentRequests=3, retry=retry)
        world.until("calls", called(world, runs, 2), 90)
        filler.unlink()
        tally(reckoned(world, runs, 6, deaths=1))


def test_an_api_stalls_trickles_and_floods(world: World, tally: Tally) -> None:
    payload = [
        {"apiName": "stall", "requestTimeout": 3},
        {"apiName": "trickle", "requestTimeout": 3},
        {"apiName": "flood", "parameters": {"announced": True}},
        {"apiName": "flood"},
        {"apiName": "echo"},
    ]
    before = max(heaviest(world, name) for name in WORKERS)
    configuration = {"maxConcurrentRequests": 5, "retry": {"maximumAttempts": 1}, "toleratedFailurePercentage": 90}
    runs = world.start("hostile", payload, **configuration)
    most = 0.0

    def look() -> bool:
        nonlocal most
        most = max(most, *(heaviest(world, name) for name in WORKERS))
        return all(world.run(*run)["status"] == "COMPLETED" for run in runs)

    world.until("the end of both", look, 90)
    for run in runs:
        errors = [item["error"] and item["error"]["code"] for item in world.items(*run)]
        assert errors == ["timeout", "timeout", "result-too-big-error", "result-too-big-error", None]
    # 100 MB each; what is read of one is bounded by [jobs] max_result_bytes.
    assert most < before + 60
    tally(reckoned(world, runs, 5, status="COMPLETED"), heaviest_process_mb=round(most), before_mb=round(before))


def heaviest(world: World, name: str) -> float:
    """MB of memory of the largest process of a component."""
    found = 0.0
    for process in world.airflow.running(name):
        try:
            found = max(found, process.memory_info().rss / 1e6)
        except psutil.Error:
            pass  # it has ended
    return found


@pytest.mark.thorough
def test_every_run_time_of_dense_schedules_has_one_run(world: World, tally: Tally) -> None:
    figures = soak(world, jobs=3, every="10s", minutes=0.5)
    assert figures.pop("faults") == []
    ticks = figures.pop("ticks")
    assert ticks["once"] + ticks["givenUp"] == ticks["due"] >= 9
    tally(Figures(), ticks=ticks, **{name: figures[name] for name in ("runs", "items", "lost", "doubled")})
