"""The wall clock jumps an hour, of one machine or of all of them: every item is accounted for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from .clocks import HOUR, Clocks, built
from .conftest import Tally
from .test_faults import called, reckoned, slow
from .world import World, started

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def clocks() -> Iterator[Clocks]:
    with built() as found:
        yield found


@pytest.fixture(scope="module")
def world(redis_binary: str, clocks: Clocks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One whose clocks can be moved."""
    with started(tmp_path_factory.mktemp("clock"), redis_binary, clocks=clocks) as found:
        yield found


def ahead(world: World) -> float:
    """Seconds from true time to the database's."""
    connection = psycopg2.connect(world.airflow.postgres.url(None))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (found,) = cursor.fetchone()
            return (found - datetime.now(UTC)).total_seconds()
    finally:
        connection.close()


def show(world, runs, note):
    import sys
    for job, run in runs:
        r = world.run(job, run)
        print(f"{time.monotonic():.1f}", note, job, r["status"], file=sys.stderr)
        for ti in world.airflow.task_instances(job, run):
            print("    ", ti["task_id"], ti["map_index"], ti["state"], ti["try_number"], ti["start_date"], ti["end_date"], file=sys.stderr)
        for i in world.items(job, run):
            print("    item", i["index"], i["status"], i["attempts"], i.get("error"), file=sys.stderr)
        calls = world.ledgers.calls(run, job)
        print("    calls", {n: [c.headers["x-attempt"] for c in made] for n, made in calls.items()}, file=sys.stderr, flush=True)


def test_one(world: World, clocks: Clocks, tally: Tally) -> None:
    payload = [*slow(10, 3), {"apiName": "grow", "parameters": {"width": 2}}]
    runs = world.start("one-clock", payload, maxConcurrentRequests=4)
    world.until("calls in flight", lambda: world.airflow.in_flight("worker-1", world.api.port) >= 2)
    clocks.move(HOUR, "worker-1")
    show(world, runs, "ahead")
    try:
        world.until("calls after that", called(world, runs, 9), 60)
        show(world, runs, "before back")
    finally:
        clocks.move(0, "worker-1")
    try:
        tally(reckoned(world, runs, 13))
    finally:
        show(world, runs, "end")


def test_all(world: World, clocks: Clocks, tally: Tally) -> None:
    payload = [*slow(10, 3), {"apiName": "grow", "parameters": {"width": 2}}, {"apiName": "flaky", "parameters": {"failures": 1}}]
    runs = world.start("all-clocks", payload, maxConcurrentRequests=4, retry={"maximumAttempts": 3, "initialInterval": "2s"})
    world.until("calls in flight", called(world, runs, 3))
    t = time.monotonic()
    clocks.move(HOUR)
    assert abs(ahead(world) - HOUR) < 5
    world.log_in()
    show(world, runs, "ahead")
    try:
        tally(reckoned(world, runs, 14, deaths=1, timeout=120))
    finally:
        print("took", time.monotonic() - t, world.airflow.restarts)
        show(world, runs, "end")
        clocks.move(0)
        world.log_in()
