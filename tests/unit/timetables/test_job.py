from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
import pytest
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction

import timetables.job
from airflow_jobs_plugin.spec import Schedule
from timetables.description import describe
from timetables.job import LATENESS, JobTimetable

HOURLY = {"intervals": [{"every": "1h"}]}
NO_CATCHUP = TimeRestriction(earliest=None, latest=None, catchup=False)


def original(timetable: JobTimetable) -> JobTimetable:
    return timetable


def round_trip(timetable: JobTimetable) -> JobTimetable:
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    return decode_timetable(json.loads(json.dumps(encode_timetable(timetable))))  # type: ignore[return-value]


@pytest.fixture(params=[original, round_trip])
def made(request: pytest.FixtureRequest) -> Callable[..., JobTimetable]:
    """Makes a timetable; every test runs again with one that has been serialized and read back."""
    return lambda schedule, job_id="job": request.param(JobTimetable(job_id, schedule))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def to(text: str) -> None:
        monkeypatch.setattr(timetables.job, "now", lambda: at(text))

    to("2026-11-23T10:30:00Z")
    return to


def following(timetable: JobTimetable, last: str | None = None, **restriction: Any) -> DagRunInfo | None:
    interval = DataInterval.exact(pendulum.parse(last)) if last else None  # type: ignore[arg-type]
    return timetable.next_dagrun_info(
        last_automated_data_interval=interval, restriction=NO_CATCHUP._replace(**restriction)
    )


def test_a_run_covers_its_nominal_time(made: Any, clock: Any) -> None:
    info = following(made(HOURLY))
    assert info is not None
    assert info.run_after == info.logical_date == at("2026-11-23T11:00:00Z")
    assert info.data_interval == DataInterval.exact(info.run_after)
    assert info.run_after.tzinfo is not None


@pytest.mark.parametrize("last", [None, "2026-11-20T10:00:00Z", "2026-11-23T10:00:00Z"])
def test_nothing_is_caught_up(made: Any, clock: Any, last: str | None) -> None:
    info = following(made(HOURLY), last)
    assert info is not None
    assert info.run_after == at("2026-11-23T11:00:00Z")


def test_next_means_strictly_after_now(made: Any, clock: Any) -> None:
    clock("2026-11-23T11:00:00Z")
    info = following(made(HOURLY))
    assert info is not None
    assert info.run_after == at("2026-11-23T12:00:00Z")


def test_a_scheduler_that_is_a_little_late_loses_no_run_of_a_dense_schedule(made: Any, clock: Any) -> None:
    dense = made({"intervals": [{"every": "2s"}]})
    clock("2026-11-23T10:30:07Z")
    info = following(dense, "2026-11-23T10:30:02Z")
    assert info is not None
    assert info.run_after == at("2026-11-23T10:30:04Z")
    late = at("2026-11-23T10:30:02Z") + LATENESS
    clock(late.isoformat())
    info = following(dense, "2026-11-23T10:30:02Z")
    assert info is not None
    assert info.run_after == late + timedelta(seconds=2)


def test_after_a_clock_went_back_the_schedule_does_not_wait_until_it_is_that_late_again(made: Any, clock: Any) -> None:
    """Airflow starts no second run of a time; see tests/faults/test_clock.py."""
    info = following(made(HOURLY), "2036-11-23T15:00:00Z")
    assert info is not None
    assert info.run_after == at("2026-11-23T11:00:00Z")


def test_clocks_of_two_machines_that_differ_a_little_name_no_run_time_twice(made: Any, clock: Any) -> None:
    clock("2026-11-23T10:59:55Z")
    info = following(made(HOURLY), "2026-11-23T11:00:00Z")
    assert info is not None
    assert info.run_after == at("2026-11-23T12:00:00Z")


def test_airflows_own_bounds_are_inclusive(made: Any, clock: Any) -> None:
    timetable = made(HOURLY)
    info = following(timetable, earliest=pendulum.parse("2026-11-24T08:00:00Z"))
    assert info is not None
    assert info.run_after == at("2026-11-24T08:00:00Z")
    assert following(timetable, latest=pendulum.parse("2026-11-23T10:59:59Z")) is None
    assert following(timetable, latest=pendulum.parse("2026-11-23T11:00:00Z")) is not None


def test_a_schedule_that_has_ended_has_no_next_run(made: Any, clock: Any) -> None:
    assert following(made({**HOURLY, "endAt": "2026-11-23T10:59:00Z"})) is None


def test_a_backfill_gets_every_time_from_its_start(made: Any, clock: Any) -> None:
    timetable = made(HOURLY)
    first = following(timetable, earliest=pendulum.parse("2026-01-01T00:00:00Z"), catchup=True)
    assert first is not None
    assert first.run_after == at("2026-01-01T00:00:00Z")
    second = following(timetable, "2026-01-01T00:00:00Z", earliest=pendulum.parse("2026-01-01T00:00:00Z"), catchup=True)
    assert second is not None
    assert second.run_after == at("2026-01-01T01:00:00Z")


def test_jitter_delays_the_run_and_not_its_nominal_time(made: Any, clock: Any) -> None:
    schedule = {**HOURLY, "jitter": "10m"}
    infos = [following(made(schedule, job_id)) for job_id in ("a", "a", "b")]
    delays = [info.run_after - info.logical_date for info in infos if info and info.logical_date]
    assert delays[0] == delays[1] != delays[2]
    assert all(timedelta(0) <= d < timedelta(minutes=10) for d in delays)


def test_a_manual_run_covers_its_own_instant(made: Any) -> None:
    instant = pendulum.parse("2026-11-23T10:31:07Z")
    assert made(HOURLY).infer_manual_data_interval(run_after=instant) == DataInterval.exact(instant)  # type: ignore[arg-type]


def test_what_is_serialized_is_the_definition_as_it_was_written() -> None:
    schedule = {"calendars": [{"dayOfWeek": "mon"}], "jitter": "30s"}
    assert JobTimetable("x", schedule).serialize() == {"jobId": "x", "schedule": schedule}
    later = {"jobId": "x", "schedule": schedule, "aFieldOfTheFuture": 1}
    assert JobTimetable.deserialize(later) == JobTimetable("x", schedule)
    assert JobTimetable("x", schedule) != JobTimetable("x", HOURLY)


WEEKDAYS = {"dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}}


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (HOURLY, "every hour"),
        ({"intervals": [{"every": "90m", "offset": "5m"}]}, "every 1 hour 30 minutes shifted by 5 minutes"),
        (
            {"intervals": [{"every": "7d"}], "calendars": [{"dayOfMonth": 1}], "timezone": "Europe/Berlin"},
            "every 7 days and on day 1 of every month at 00:00, Europe/Berlin",
        ),
        (
            {"calendars": [{**WEEKDAYS, "hour": {"start": 9, "end": 17}}]},
            "on Monday to Friday every hour from 09:00 to 17:00, UTC",
        ),
        ({"calendars": [{"hour": "*", "minute": "*"}]}, "every day every minute, UTC"),
        ({"calendars": [{"hour": "*", "minute": 15}]}, "every day every hour at minute 15, UTC"),
        (
            {"calendars": [{"hour": "*", "minute": "*", "second": [0, 30]}]},
            "every day at second 0, 30 of every minute, UTC",
        ),
        ({"calendars": [{"hour": 1, "minute": 2, "second": 3}]}, "every day at 01:02:03, UTC"),
        (
            {"calendars": [{"month": "FEB", "dayOfMonth": 29, "dayOfWeek": 0}]},
            "on day 29 of February if it is Sunday at 00:00, UTC",
        ),
        (
            {"calendars": [{"year": [2026, 2027, 2028, 2030], "month": [6, 7], "hour": 6}]},
            "every day of June, July at 06:00 in 2026 to 2028, 2030, UTC",
        ),
        (
            {**HOURLY, "skip": [{"dayOfWeek": "sun"}], "startAt": "2026-01-01", "endAt": "2026-02-01", "jitter": "30s"},
            "every hour, but not on Sunday at 00:00, UTC, from 2026-01-01 00:00:00 UTC, until 2026-02-01 00:00:00 UTC, "
            "up to 30 seconds later",
        ),
    ],
)
def test_schedules_are_described_in_one_line(schedule: dict, text: str) -> None:
    assert describe(Schedule.model_validate(schedule)) == text


def test_of_a_thousand_parts_the_first_are_described_and_the_rest_counted() -> None:
    days = [{"dayOfMonth": 1, "hour": hour, "comment": str(n)} for n in range(50) for hour in range(20)]
    text = describe(Schedule.model_validate({"intervals": [{"every": "1h"}], "calendars": days, "skip": days}))
    assert len(text) < 4000
    assert text.startswith("every hour and on day 1 of every month at 00:00 and ")
    assert " and 981 more, but not on day 1 " in text
    assert text.endswith(" nor 980 more, UTC")


def test_a_description_is_cut_where_airflow_has_no_room_for_it(made: Any) -> None:
    odd = [{"second": [n, 59], "minute": list(range(0, 60, 7)), "dayOfMonth": [1, 3, 5, n + 6]} for n in range(20)]
    description = made({"calendars": odd}).description
    assert len(description) == 1000
    assert description.endswith("…")


def test_the_clock_is_aware() -> None:
    assert timetables.job.now().tzinfo is UTC
