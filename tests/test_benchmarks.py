"""The short form of each benchmark, so that none rots. The bounds are looser than the documented ones, because the
machines of CI are shared: what fails here has become twice as slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def figures(script: str, *arguments: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["benchmark"]: line for line in lines}


def test_dag_building() -> None:
    found = figures("dag_building.py", "--short")
    assert found["DAG from a job file against the bare construction"]["ratio"] < 3
    assert found["DAG from a job file against dag-factory"]["times_faster"] > 1
    parsing = found["parse 1,000 job files"]
    assert parsing["import_s"] < parsing["timeout_s"]
    assert found["a worker loads one job among 1,000 against one among 10"]["difference_ms"] < 5


def test_recurrence() -> None:
    found = figures("recurrence.py", "--short")
    assert found["next run time against croniter"]["times_faster"] > 5
    assert found["next run time against MultipleCronTriggerTimetable"]["times_faster"] > 5
    assert found["the sparsest schedule"]["cold_ms"] < 5
    assert found["a schedule that never fires"]["cold_ms"] < 5


@pytest.mark.e2e
def test_throughput() -> None:
    found = figures("throughput.py", "--items", "24", "--latencies", "1", "--no-peer")
    assert found["items per second against the mapped HttpOperator"]["per_second"] > 1
    assert found["trigger to first call"]["median_s"] < 20


@pytest.mark.e2e
def test_batches() -> None:
    kinds = ("calls", "pause", "kill")
    found = figures("batches.py", "--scale", "0.05", "--peer-items", "0", "--only", *kinds)
    assert found["500 calls of 100 ms at 50 at once"]["calling_s"] < 15
    assert found["pausing a batch"]["last_answer_after_s"] < 6
    assert found["a batch of calls of 100 ms, its worker killed in the middle"]["repeated_calls"] < 300


@pytest.mark.e2e
def test_rest() -> None:
    found = figures("rest.py", "--jobs", "20", "--items", "300", "--rounds", "3")
    assert found["create to a run's start, few jobs"]["create_to_started_s"] < 5
    assert found["parse of all stored jobs"]["parse_s"] < 5
    assert found["list of all jobs"]["queries"] <= 4
    assert found["status of a large run"]["queries"] <= 5


@pytest.mark.e2e
def test_ui() -> None:
    found = figures("ui.py", "--jobs", "10", "--items", "300", "--rounds", "5")
    for run in ("large", "batched"):
        assert found[f"its page, {run}"]["median_ms"] < 600
        assert found[f"its last page of items, {run}"]["median_ms"] < 600
        assert found[f"a look at its progress, {run}"]["median_ms"] < 600
    assert found["the list of jobs"]["median_ms"] < 600


@pytest.mark.e2e
def test_nested() -> None:
    found = figures("nested.py", "--items", "10", "--sizes", "20", "--rounds", "2")
    assert found["append to its item's call"]["median_s"] < 20
    assert found["append to a run"]["one_median_ms"] < 1000
    crawl = found["a crawl over four levels"]
    assert (crawl["status"], crawl["each_called_once"]) == ("SUCCESS", True)


@pytest.mark.parametrize("items_per_task", [1, 5])
def test_appends_that_race_lose_and_double_nothing(items_per_task: int) -> None:
    command = [sys.executable, "-m", "tests.torture.appends", "--rounds", "3", "--appenders", "12", "--calls", "6",
               "--items-per-task", str(items_per_task)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == 0
    assert found["acknowledged"] > 50
    assert found["refused"] > 0, "some appends came too late, as they should"
