"""The wall clock jumps an hour, of one machine or of all of them: every item is accounted for, and every run time.

The called API, the receiver and the test itself go by true time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from timetables.job import LATENESS

from .clocks import HOUR, Clocks, built
from .conftest import Tally
from .reckoning import Figures
from .test_faults import called, reckoned, slow
from .world import SHARED, World, started

pytestmark = [pytest.mark.e2e, pytest.mark.thorough]

#: Seconds between two run times of the scheduled jobs; an hour has a whole number of them.
PERIOD = 20
#: Seconds that anything may take.
PATIENCE = 150
RETRY = {"maximumAttempts": 5, "initialInterval": "2s"}
GROWING = {"apiName": "grow", "parameters": {"width": 2}}
FLAKY = {"apiName": "flaky", "parameters": {"failures": 1}}


@pytest.fixture(scope="module")
def clocks() -> Iterator[Clocks]:
    with built() as found:
        yield found


@pytest.fixture(scope="module")
def moved_world(redis_binary: str, clocks: Clocks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with started(tmp_path_factory.mktemp("clock"), redis_binary, clocks=clocks) as found:
        yield found


@pytest.fixture
def world(moved_world: World) -> Iterator[World]:
    """One whose clocks can be moved. They are right again after each test, and so is its token."""
    yield moved_world
    move(moved_world, 0)


def move(world: World, seconds: int) -> datetime:
    """Set all clocks so far ahead of true time; returns the moment by the clock before. Needs another token."""
    before = now(world)
    assert world.airflow.clocks is not None
    world.airflow.clocks.move(seconds)
    assert abs((now(world) - datetime.now(UTC)).total_seconds() - seconds) < 2, "PostgreSQL has not moved"
    world.log_in()
    return before


def now(world: World) -> datetime:
    """What time it is for the database."""
    connection = psycopg2.connect(world.airflow.postgres.url(None))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (found,) = cursor.fetchone() or ()
    finally:
        connection.close()
    return found  # type: ignore[no-any-return]


class Schedules:
    """Two jobs that run every ``PERIOD``, one with an item to a task instance and one with several."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.jobs = [f"{name}-alone", f"{name}-shared"]
        for job, size in zip(self.jobs, (1, SHARED), strict=True):
            schedule = {"intervals": [{"every": PERIOD * 1000}]}
            world.create(job, [{"apiName": "echo"}], configuration={"itemsPerTask": size}, schedule=schedule)

    def times(self, job: str) -> list[datetime]:
        """The run times that have had a run, in order, repeats included."""
        return sorted(datetime.fromisoformat(run["logical_date"]) for run in self._runs(job))

    def wait(self, count: int, since: datetime) -> None:
        """Until each has had so many runs at times in the half hour that begins then."""

        def enough() -> bool:
            until = since + timedelta(minutes=30)
            return all(sum(since < t <= until for t in self.times(job)) >= count for job in self.jobs)

        self._world.until(f"{count} runs after {since}", enough, PATIENCE)

    def before_a_run_time(self, seconds: float) -> None:
        """Sleep until so many seconds before the next run time."""
        time.sleep((PERIOD - seconds - time.time()) % PERIOD)

    def reckoned(self, deaths: int) -> Figures:
        """All runs so far, each accounted for."""
        runs = [(job, run["dag_run_id"]) for job in self.jobs for run in self._runs(job)]
        return reckoned(self._world, runs, 1, deaths=deaths, timeout=PATIENCE)

    def _runs(self, job: str) -> list[dict[str, Any]]:
        return self._world.airflow.client.pages(f"dags/{job}/dagRuns", "dag_runs", order_by="id")


@contextmanager
def scheduled(world: World, name: str) -> Iterator[Schedules]:
    """The two jobs, paused in the end."""
    schedules = Schedules(world, name)
    try:
        yield schedules
    finally:
        for job in schedules.jobs:
            world.ask("POST", f"/jobs/{job}/pause")


def gapless(times: list[datetime]) -> bool:
    """Whether each run time from the first to the last is there, once."""
    return times == [times[0] + timedelta(seconds=PERIOD) * n for n in range(len(times))]


def test_the_clock_of_one_worker_jumps_an_hour_ahead_and_back(world: World, clocks: Clocks, tally: Tally) -> None:
    runs = world.start("one-clock", [*slow(10, 3), GROWING], maxConcurrentRequests=4)
    world.until("calls in flight", lambda: world.airflow.in_flight("worker-1", world.api.port) >= 2)
    clocks.move(HOUR, "worker-1")
    # What grows comes last, and is likely to be called, and to append, where the clock is ahead.
    world.until("calls after that", called(world, runs, 9))
    clocks.move(0, "worker-1")
    figures = reckoned(world, runs, 13)
    # The other machines neither miss it nor take it for dead.
    assert figures.attempts == figures.calls == figures.items
    tally(figures)


def test_what_fails_where_the_clock_is_an_hour_ahead_is_tried_again_an_hour_later(
    world: World, clocks: Clocks, tally: Tally
) -> None:
    """Airflow counts the wait from the end that the worker's clock says. Items that share an instance wait in it."""
    clocks.move(HOUR, "worker-1", "worker-2")
    runs = world.start("late", [FLAKY, GROWING], retry={"maximumAttempts": 3, "initialInterval": "1s"})
    (alone, shared) = runs
    world.until("the end of the others", lambda: world.run(*alone)["counts"]["succeeded"] == 3)
    figures = reckoned(world, [shared], 4)
    clocks.move(0, "worker-1", "worker-2")
    time.sleep(5)
    assert [item["status"] for item in world.items(*alone)] == ["RETRYING", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    move(world, HOUR)  # an hour later
    figures += reckoned(world, [alone], 4)
    assert (figures.attempts, figures.calls) == (figures.items + 2, figures.items + 2)
    tally(figures)


def test_all_clocks_jump_an_hour_ahead(world: World, tally: Tally) -> None:
    payload = [*slow(6, 3), GROWING, FLAKY]
    with scheduled(world, "ahead") as schedules:
        schedules.wait(1, now(world) - timedelta(minutes=1))
        runs = world.start("all-ahead", payload, maxConcurrentRequests=3, retry=RETRY)
        world.until("calls in flight", called(world, runs, 2), PATIENCE)
        # The next run is on record, and will be an hour late.
        schedules.before_a_run_time(5)
        jump = move(world, HOUR)
        landed = jump + timedelta(seconds=HOUR)
        began = time.monotonic()
        figures = reckoned(world, runs, 10, deaths=1, timeout=PATIENCE)
        took = time.monotonic() - began
        schedules.wait(2, landed)
        for job in schedules.jobs:
            times = schedules.times(job)
            assert not [t for t in times if jump < t <= landed - LATENESS], "nothing is caught up"
            assert gapless([t for t in times if t <= jump])
            assert gapless([t for t in times if t > jump])
        planned = schedules.reckoned(deaths=1)
    tally(figures + planned, scheduled=planned.runs, seconds=round(took))


def test_all_clocks_jump_an_hour_back(world: World, tally: Tally) -> None:
    with scheduled(world, "back") as schedules:
        schedules.wait(1, now(world) - timedelta(minutes=1))
        runs = world.start("all-back", [*slow(6, PERIOD / 2 + 2), GROWING, FLAKY], maxConcurrentRequests=3, retry=RETRY)
        world.until("calls in flight", called(world, runs, 2), PATIENCE)
        schedules.before_a_run_time(5)
        jump = move(world, -HOUR)
        began = time.monotonic()
        on_demand = world.start("meanwhile", [*slow(2, 1), FLAKY], retry=RETRY)
        figures = reckoned(world, on_demand, 3, timeout=PATIENCE)
        took = time.monotonic() - began
        # Schedules go on with the clock as it is now.
        schedules.wait(2, jump - timedelta(seconds=HOUR))
        # What was running stands still until the clock is where it began, which is Airflow's doing. Here that is soon.
        assert [world.run(*run)["status"] for run in runs] == ["PENDING", "PENDING"]
        back = move(world, 0) + timedelta(seconds=HOUR)
        figures += reckoned(world, runs, 10, deaths=1, timeout=PATIENCE)
        schedules.wait(1, back)
        for job in schedules.jobs:
            times = schedules.times(job)
            assert len(set(times)) == len(times), "no run time has two runs"
        planned = schedules.reckoned(deaths=1)
    tally(figures + planned, scheduled=planned.runs, seconds=round(took))


def test_run_times_that_come_again_have_no_second_run(world: World, tally: Tally) -> None:
    with scheduled(world, "again") as schedules:
        schedules.wait(2, now(world) - timedelta(minutes=1))
        schedules.before_a_run_time(5)
        jump = move(world, -2 * PERIOD)
        schedules.wait(1, jump)
        for job in schedules.jobs:
            assert gapless(schedules.times(job))
        planned = schedules.reckoned(deaths=1)
    tally(planned, scheduled=planned.runs)
