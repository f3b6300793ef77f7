"""Workers, schedulers, the API server, PostgreSQL and Redis die in the middle of runs."""

from __future__ import annotations

from functools import reduce
from operator import add
from pathlib import Path

import pytest

from .conftest import Tally
from .reckoning import Figures
from .topology import WORKERS
from .world import World

pytestmark = pytest.mark.e2e


def slow(count: int, seconds: float) -> list[dict[str, object]]:
    return [{"apiName": "slow", "parameters": {"seconds": seconds, "n": n}} for n in range(count)]


def reckoned(world: World, runs: list[tuple[str, str]], expected: int, deaths: int = 0) -> Figures:
    return reduce(add, [world.reckon(*run, expected=expected, deaths=deaths) for run in runs])


def test_workers_share_no_disk_with_the_api_server(world: World, tally: Tally) -> None:
    runs = world.start("apart", slow(6, 0.5), maxConcurrentRequests=3)
    touched: dict[str, set[Path]] = {name: set() for name in world.airflow.processes}

    def look() -> bool:
        for name, found in touched.items():
            for process in world.airflow.running(name):
                found |= files(process)
        return all(world.run(*run)["status"] == "SUCCESS" for run in runs)

    world.until("the end of both", look)
    tally(reckoned(world, runs, 6))
    machines = {name: world.airflow.machine(name) for name in touched}
    for name, found in touched.items():
        others = [machine for other, machine in machines.items() if other != name]
        assert not [path for path in found if any(path.is_relative_to(machine) for machine in others)]
    # And the task logs are where the tasks ran.
    assert all(any(machines[name].glob("logs/dag_id=apart-*")) for name in WORKERS)
    assert not any(machines["api-server"].glob("logs/dag_id=*"))


def files(process: object) -> set[Path]:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return {Path(process.cwd()), *(Path(file.path) for file in process.open_files())}
    except psutil.Error:
        return set()


def test_a_worker_is_killed_in_mid_call(world: World, tally: Tally) -> None:
    runs = world.start("one-worker", slow(8, 5), maxConcurrentRequests=4)
    world.until("calls in flight", lambda: world.airflow.in_flight("worker-1", world.api.port) >= 3)
    world.airflow.kill_component("worker-1")
    world.airflow.start_component("worker-1")
    tally(reckoned(world, runs, 8, deaths=1), killed="worker-1")
