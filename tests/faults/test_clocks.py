"""The clock of all machines jumps an hour, forward and back, in the middle of runs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_jobs_plugin.spec import Schedule
from timetables.recurrence import next_after

from .conftest import Tally
from .world import World, started

pytestmark = [pytest.mark.e2e, pytest.mark.thorough]

#: What Debian's package ``faketime`` brings.
LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1",)
SCHEDULE = {"intervals": [{"every": "5s"}]}


class Clock:
    """The wall clock of Airflow's components; what is measured in seconds since a start goes on as before."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds = 0
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Set it so many seconds off the true time. They see it within a second."""
        self.seconds = seconds
        self._file.write_text(f"{seconds:+d}\n")

    def now(self) -> datetime:
        """The time that they see."""
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "offset")


@pytest.fixture(scope="module")
def world(redis_binary: str, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if not found:
        reason = "no libfaketime: apt-get install faketime"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    env = {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock._file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with started(tmp_path_factory.mktemp("clocks"), redis_binary, env=env) as world:
        yield world


def test_a_jump_of_an_hour_and_back_loses_and_doubles_nothing(world: World, clock: Clock, tally: Tally) -> None:
    world.create("ticking", [{"apiName": "echo"}], schedule=SCHEDULE, configuration={"itemsPerTask": 3})
    world.until("scheduled runs", lambda: len(_ticks(world)) >= 2)
    slow = [{"apiName": "slow", "parameters": {"seconds": 3, "n": n}} for n in range(6)]
    retry = {"maximumAttempts": 5}
    runs = world.start("jumping", slow, maxConcurrentRequests=3, retry=retry)
    world.until("calls in flight", lambda: len(world.api.ledger) >= 6)
    before = clock.now()
    clock.jump(3600)
    figures = [world.reckon(*run, expected=6, deaths=1) for run in runs]
    # Nothing is caught up of the hour that was not, and the schedule goes on after it.
    world.until("runs of the new hour", lambda: max(_ticks(world)) > before + timedelta(minutes=60))
    skipped = [tick for tick in _ticks(world) if before + timedelta(minutes=1) < tick < before + timedelta(minutes=59)]
    assert skipped == []

    back = world.start("jumping-back", slow, maxConcurrentRequests=3, retry=retry)
    world.until("calls in flight", lambda: any(world.ledgers.calls(run, job) for job, run in back))
    clock.jump(0)
    time.sleep(10)
    figures += [world.reckon(*run, expected=6, deaths=1) for run in back]
    world.ask("POST", "/jobs/ticking/pause")
    # An hour is lived through twice, and no run time of it is run twice.
    assert max(Counter(_ticks(world)).values()) == 1
    assert all(next_after(Schedule.model_validate(SCHEDULE), t - timedelta(milliseconds=1)) == t for t in _ticks(world))
    tally(sum(figures[1:], figures[0]), ticks=len(_ticks(world)))


def _ticks(world: World) -> list[datetime]:
    runs = world.airflow.client.pages("dags/ticking/dagRuns", "dag_runs", order_by="id")
    return [datetime.fromisoformat(run["logical_date"]) for run in runs if run["run_type"] == "scheduled"]
