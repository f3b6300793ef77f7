"""What the next run time costs.  Run: python benchmarks/recurrence.py [--short]

Prints one JSON line per figure; peers are measured in the same process, in turns with the subject:
- ``next_after`` for a union of three calendars and an interval against croniter and MultipleCronTriggerTimetable on
  equivalent cron expressions;
- the sparsest legal schedule (a leap day on a given weekday in one zone) and one that never fires, cold and warm.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-jobs-bench-"))

ZONE = "Europe/Berlin"
CALENDARS = [
    {"dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}, "hour": {"start": 9, "end": 17}},
    {"dayOfMonth": 1},
    {"month": [1, 4, 7, 10], "dayOfMonth": 15, "hour": 6, "minute": 30},
]
CRONS = ["0 9-17 * * 1-5", "0 0 1 * *", "30 6 15 1,4,7,10 *"]


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}))


def medians(instants: list[datetime], *subjects: Callable[[datetime], Any]) -> list[float]:
    """Median microseconds of a call of each subject; they take turns on the same instants."""
    times: list[list[float]] = [[] for _ in subjects]
    for instant in instants[:20]:
        for subject in subjects:
            subject(instant)
    for instant in instants:
        for taken, subject in zip(times, subjects, strict=True):
            before = time.perf_counter()
            subject(instant)
            taken.append(time.perf_counter() - before)
    return [statistics.median(taken) * 1e6 for taken in times]


def against_peers(count: int) -> None:
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.trigger import MultipleCronTriggerTimetable
    from croniter import croniter

    from airflow_jobs_plugin.spec import Schedule
    from timetables.recurrence import next_after

    with_interval = Schedule.model_validate(
        {"calendars": CALENDARS, "intervals": [{"every": "7d", "offset": "3h"}], "timezone": ZONE}
    )
    calendars_only = Schedule.model_validate({"calendars": CALENDARS, "timezone": ZONE})
    zone = pendulum.timezone(ZONE)
    timetable = MultipleCronTriggerTimetable(*CRONS, timezone=zone)
    restriction = TimeRestriction(earliest=None, latest=None, catchup=True)

    def by_croniter(instant: datetime) -> datetime:
        local = instant.astimezone(zone)
        return min(croniter(cron, local).get_next(datetime) for cron in CRONS)

    def by_timetable(instant: datetime) -> Any:
        last = DataInterval.exact(pendulum.instance(instant))
        return timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)

    rng = random.Random(1)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    instants = [begin + timedelta(seconds=rng.randrange(4 * 365 * 86_400)) for _ in range(count)]
    for instant in instants[:200]:
        assert next_after(calendars_only, instant) == by_croniter(instant), instant
    ours, cron, peer = medians(instants, lambda t: next_after(with_interval, t), by_croniter, by_timetable)
    report("next run time against croniter", us=round(ours, 1), peer_us=round(cron, 1),
           times_faster=round(cron / ours, 1), bound=">= 10")  # fmt: skip
    report("next run time against MultipleCronTriggerTimetable", us=round(ours, 1), peer_us=round(peer, 1),
           times_faster=round(peer / ours, 1), bound=">= 10")  # fmt: skip


def extremes() -> None:
    from airflow_jobs_plugin.spec import Schedule
    from timetables.recurrence import next_after
    from timetables.zones import offsets

    after = datetime(2026, 1, 1, tzinfo=UTC)
    for name, calendar in (
        ("the sparsest schedule", {"month": 2, "dayOfMonth": 29, "dayOfWeek": "SUNDAY"}),
        ("a schedule that never fires", {"month": 2, "dayOfMonth": 30}),
    ):
        cold, warm = [], []
        for _ in range(20):
            schedule = Schedule.model_validate({"calendars": [calendar], "timezone": "Pacific/Chatham"})
            offsets.cache_clear()
            for times in (cold, warm):
                before = time.perf_counter()
                next_after(schedule, after)
                times.append((time.perf_counter() - before) * 1e3)
        report(name, cold_ms=round(statistics.median(cold), 3), warm_ms=round(statistics.median(warm), 4), bound="< 1")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="fewer rounds, for CI")
    against_peers(300 if arguments.parse_args().short else 3000)
    extremes()


if __name__ == "__main__":
    main()
