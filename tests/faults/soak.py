"""Jobs on dense schedules for minutes: every run time once, every item accounted for, memory flat.

Run: python -m tests.faults.soak [--minutes 15] [--jobs 20] [--every 2s] [--items-per-task 10]

Each job has three items: one that is answered at once, one that fails at first and is tried again, and one that appends
two more. The jobs' run times are spread over ``every``, and lie between a ``startAt`` and an ``endAt``, so that all of
them are known beforehand, from ``next_after``. Each has one run, or was given up as the plugin says it gives up:
Airflow was late with an earlier one, or as many runs of the job as may be were active. Any other is missing. The logs
of Airflow's components have to tell of as many as have no run. Prints one JSON line; exits with 1 if anything is
missing, not told, lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_jobs_plugin.spec import Schedule, parse_duration
from timetables.job import LATENESS
from timetables.recurrence import next_after

from .memory import Memory
from .reckoning import Fault, Figures
from .world import World, started

ITEMS = [
    {"apiName": "echo", "parameters": {"n": 1}},
    {"apiName": "flaky", "parameters": {"failures": 1}},
    {"apiName": "grow", "parameters": {"width": 2}},
]
EXPECTED = len(ITEMS) + 2
RETRY = {"maximumAttempts": 3, "initialInterval": "200ms"}
SAMPLE_EVERY = 5.0
#: Seconds that creating the jobs may take, before their first run time.
AHEAD = 15
#: Seconds for the runs that are left at the end.
PATIENCE = 600
#: How long after a run's creation Airflow may look for the next run time.
MOMENT = timedelta(seconds=1)
#: ``[core] max_active_runs_per_dag``, Airflow's default.
MOST_ACTIVE = 16


@dataclass
class Ticks:
    """What became of all run times.

    :ivar due: how many there were
    :ivar once: those with exactly one run
    :ivar given_up: those without one that Airflow could not start in time: an earlier run of the job was created only
        after them, more than ``LATENESS`` late, or as many as may be were active
    :ivar missing: all others without one
    :ivar twice: those with more than one run, and runs at other times
    :ivar late: seconds from the run time to the run's creation, of each run
    """

    due: int = 0
    once: int = 0
    given_up: int = 0
    missing: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def add(self, job_id: str, ticks: list[datetime], runs: list[tuple[datetime, datetime, datetime]]) -> None:
        """Account for one job: its run times in order, and its runs' (run time, creation, end)."""
        counts = Counter(tick for tick, _, _ in runs)
        self.due += len(ticks)
        self.once += sum(counts[tick] == 1 for tick in ticks)
        self.twice += [f"{job_id} {tick}" for tick, count in counts.items() if count > 1 or tick not in set(ticks)]
        self.late += [(created - tick).total_seconds() for tick, created, _ in runs]
        for tick in ticks:
            if tick not in counts:
                late = any(
                    earlier < tick < created + MOMENT and created - earlier > LATENESS for earlier, created, _ in runs
                )
                active = sum(created <= tick < ended for _, created, ended in runs)
                if late or active >= MOST_ACTIVE:
                    self.given_up += 1
                else:
                    self.missing.append(f"{job_id} {tick}")

    def written(self) -> dict[str, Any]:
        """As a JSON object."""
        late = sorted(self.late) or [0.0]
        return {
            "due": self.due,
            "once": self.once,
            "givenUp": self.given_up,
            "missing": len(self.missing),
            "twice": len(self.twice),
            "lateMedian": round(late[len(late) // 2], 2),
            "lateMost": round(late[-1], 2),
        }


def soak(world: World, *, jobs: int, every: str, minutes: float, items_per_task: int = 10) -> dict[str, Any]:
    """Run it and wait for the last run; returns the figures, and under ``faults`` what is wrong."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=AHEAD + jobs / 4)
    until = begin + timedelta(minutes=minutes)
    schedules = _create(world, jobs, parse_duration(every), begin, until, items_per_task)
    memory = Memory(world.airflow)
    while datetime.now(UTC) < until:
        memory.sample()
        world.airflow.check()
        time.sleep(SAMPLE_EVERY)
    ticks, total, faults = Ticks(), Figures(), []
    for job_id, schedule in schedules.items():
        runs = world.until(f"the last run of {job_id}", lambda job=job_id: _ended(world, job), PATIENCE)
        instants = [tuple(_instant(run[name]) for name in ("logical_date", "queued_at", "end_date")) for run in runs]
        ticks.add(job_id, _all(schedule, begin, until), instants)
        for run in runs:
            try:
                total += world.reckon(job_id, run["dag_run_id"], expected=EXPECTED)
            except (Fault, AssertionError) as fault:
                faults.append(str(fault))
    told = _told(world)
    if told != ticks.due - ticks.once:
        faults.append(f"{ticks.due - ticks.once} run times have no run, and the logs tell of {told}")
    return {
        "jobs": jobs,
        "every": every,
        "minutes": minutes,
        "ticks": ticks.written() | {"told": told},
        **total.written(),
        "restarts": sum(world.airflow.restarts.values()),
        "memory": memory.figures(60 * minutes / 3),
        "faults": [*ticks.missing, *ticks.twice, *faults],
    }


def _create(
    world: World, jobs: int, period: int, begin: datetime, until: datetime, items_per_task: int
) -> dict[str, Schedule]:
    schedules = {}
    for number in range(jobs):
        written = {
            "intervals": [{"every": period, "offset": number * period // jobs}],
            "startAt": begin.isoformat(),
            "endAt": until.isoformat(),
        }
        configuration = {"retry": RETRY, "itemsPerTask": items_per_task, "maxConcurrentRequests": 3}
        job_id = f"soak-{number}"
        world.create(job_id, ITEMS, configuration=configuration, schedule=written)
        schedules[job_id] = Schedule.model_validate(written)
    if datetime.now(UTC) > begin:
        raise RuntimeError(f"creating {jobs} jobs took until after their first run time")
    return schedules


def _told(world: World) -> int:
    """How many run times have passed without a run, as the logs of Airflow's components say."""
    texts = [log.read_text(errors="replace") for log in (world.airflow.home / "logs").glob("*.log")]
    return sum(int(n) for text in texts for n in re.findall(r"soak-\d+ missed (\d+) run times", text))


def _all(schedule: Schedule, begin: datetime, until: datetime) -> list[datetime]:
    found = []
    tick = next_after(schedule, begin - timedelta(milliseconds=1))
    while tick is not None and tick <= until:
        found.append(tick)
        tick = next_after(schedule, tick)
    return found


def _ended(world: World, job_id: str) -> list[dict[str, Any]] | None:
    """All scheduled runs of a job, once none of them goes on and none is to come."""
    runs = world.airflow.client.pages(f"dags/{job_id}/dagRuns", "dag_runs", order_by="id")
    if any(run["state"] in ("queued", "running") for run in runs):
        return None
    coming = world.get(f"/jobs/{job_id}")["next_run_time"]
    late = coming is not None and datetime.now(UTC) - _instant(coming) < 3 * LATENESS
    return None if late else runs


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def main() -> int:
    """The command of the module's docstring."""
    from tests.redis_server import BINARY

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--every", default="2s")
    parser.add_argument("--items-per-task", type=int, default=10)
    arguments = parser.parse_args()
    binary = shutil.which(BINARY)
    if binary is None:
        parser.error(f"no {BINARY}: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="airflow-jobs-soak-") as home, started(Path(home), binary) as world:
        figures = soak(world, **vars(arguments))
    print(json.dumps(figures))
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
