from __future__ import annotations

import itertools
import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_jobs_plugin.spec import Calendar, Schedule
from timetables.recurrence import delay, next_after, previous_before, upcoming
from timetables.zones import offsets

VECTORS = Path(__file__).parents[2] / "vectors"
WEEKDAYS_NINE_TO_FIVE = {
    "year": "*",
    "month": "*",
    "dayOfMonth": "*",
    "dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"},
    "hour": {"start": 9, "end": 17},
    "minute": "0",
    "comment": "Run every weekday from 9am to 5pm at the start of every hour",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def schedule(**fields: Any) -> Schedule:
    return Schedule.model_validate(fields)


def times(spec: Schedule, after: str, count: int) -> list[str]:
    found = itertools.islice(upcoming(spec, at(after)), count)
    return [f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in found]


@pytest.mark.parametrize("case", json.loads((VECTORS / "schedules.json").read_text()), ids=lambda c: c["name"])
def test_agrees_with_temporals_own_cases(case: dict) -> None:
    intervals = [{k.removesuffix("_ms"): v for k, v in i.items()} for i in case["spec"]["intervals"]]
    spec = Schedule.model_validate({**case["spec"], "intervals": intervals})
    instant = at(case["after"])
    for expected in case["expected_next"] or [None]:
        found = next_after(spec, instant)
        assert found == (at(expected) if expected else None)
        instant = found  # type: ignore[assignment]


def test_the_example_of_the_source() -> None:
    spec = schedule(calendars=[WEEKDAYS_NINE_TO_FIVE])
    assert times(spec, "2026-11-20T15:30:00Z", 4) == [
        "2026-11-20T16:00:00Z", "2026-11-20T17:00:00Z", "2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z",
    ]  # fmt: skip


def test_intervals_count_from_the_epoch() -> None:
    assert times(schedule(intervals=[{"every": "55m"}]), "2022-06-01T00:00:00Z", 2) == [
        "2022-06-01T00:15:00Z", "2022-06-01T01:10:00Z",
    ]  # fmt: skip
    shifted = schedule(intervals=[{"every": "7d", "offset": "3h"}])
    assert times(shifted, "2026-11-23T00:00:00Z", 1) == ["2026-11-26T03:00:00Z"]
    assert next_after(schedule(intervals=[{"every": 1500}]), at("1970-01-01T00:00:00Z")) == at(
        "1970-01-01T00:00:01.500Z"
    )


def test_a_union_fires_once_where_its_parts_meet() -> None:
    spec = schedule(intervals=[{"every": "1d"}], calendars=[{"dayOfMonth": 1}, {"hour": [0, 12]}])
    assert times(spec, "2026-10-31T12:00:00Z", 3) == [
        "2026-11-01T00:00:00Z", "2026-11-01T12:00:00Z", "2026-11-02T00:00:00Z",
    ]  # fmt: skip


def test_after_means_strictly_after_to_the_microsecond() -> None:
    spec = schedule(intervals=[{"every": "1h"}])
    nine = at("2026-01-01T09:00:00Z")
    assert next_after(spec, nine) == nine + timedelta(hours=1)
    assert next_after(spec, nine - timedelta(microseconds=1)) == nine
    assert previous_before(spec, nine) == nine - timedelta(hours=1)
    assert previous_before(spec, nine + timedelta(microseconds=1)) == nine


def test_a_clock_time_that_does_not_exist_is_skipped() -> None:
    spec = schedule(calendars=[{"hour": 2, "minute": 30}], timezone="America/New_York")
    assert times(spec, "2026-03-07T00:00:00Z", 2) == ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"]


def test_a_clock_time_that_comes_twice_fires_twice() -> None:
    spec = schedule(calendars=[{"hour": 1, "minute": 30}], timezone="America/New_York")
    assert times(spec, "2026-10-31T12:00:00Z", 3) == [
        "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z",
    ]  # fmt: skip


def test_a_clock_time_that_comes_twice_does_so_for_yearly_calendars_too() -> None:
    spec = schedule(calendars=[{"month": 11, "dayOfMonth": 1, "hour": 1, "minute": 30}], timezone="America/New_York")
    assert times(spec, "2026-11-01T05:30:00Z", 2) == ["2026-11-01T06:30:00Z", "2027-11-01T05:30:00Z"]


def test_half_an_hour_of_daylight_saving() -> None:
    spec = schedule(calendars=[{"hour": [1, 2], "minute": [0, 15, 45]}], timezone="Australia/Lord_Howe")
    # In April 2026 the clock goes from 02:00 back to 01:30, in October from 02:00 on to 02:30.
    assert times(spec, "2026-04-04T14:30:00Z", 4) == [
        "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-04T15:30:00Z", "2026-04-04T15:45:00Z",
    ]  # fmt: skip
    assert times(spec, "2026-10-03T15:00:00Z", 2) == ["2026-10-03T15:15:00Z", "2026-10-03T15:45:00Z"]


def test_a_zone_that_left_out_a_day() -> None:
    spec = schedule(calendars=[{"hour": 12}], timezone="Pacific/Apia")
    # There was no 30th of December 2011 in Samoa.
    assert times(spec, "2011-12-29T00:00:00Z", 3) == [
        "2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z",
    ]  # fmt: skip


def test_what_is_skipped_does_not_fire() -> None:
    spec = schedule(
        intervals=[{"every": "6h"}],
        skip=[{"dayOfWeek": ["SATURDAY", "SUNDAY"], "hour": "*", "minute": "*", "second": "*"}],
        timezone="Europe/Berlin",
    )
    assert times(spec, "2026-11-20T12:00:00Z", 3) == [
        "2026-11-20T18:00:00Z", "2026-11-23T00:00:00Z", "2026-11-23T06:00:00Z",
    ]  # fmt: skip


def test_bounds_are_inclusive() -> None:
    spec = schedule(intervals=[{"every": "1h"}], startAt="2026-01-01T09:00:00Z", endAt="2026-01-01T11:00:00Z")
    assert times(spec, "2020-01-01T00:00:00Z", 9) == [f"2026-01-01T{hour:02}:00:00Z" for hour in (9, 10, 11)]
    assert previous_before(spec, at("2030-01-01T00:00:00Z")) == at("2026-01-01T11:00:00Z")
    assert previous_before(spec, at("2026-01-01T09:00:00Z")) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"calendars": [{"month": 2, "dayOfMonth": 30}]},
        {"calendars": [{"month": [4, 6, 9, 11], "dayOfMonth": 31}]},
        {"calendars": [{"year": 2001}]},
        {"calendars": [{"year": 2027, "month": 2, "dayOfMonth": 29}], "timezone": "Europe/Berlin"},
        {"calendars": [{"hour": 3}], "skip": [{"hour": [2, 3]}]},
        {"intervals": [{"every": "1h"}], "endAt": "2020-01-01"},
    ],
    ids=str,
)
def test_what_never_fires_is_found_out_at_once(fields: dict) -> None:
    assert next_after(schedule(**fields), at("2026-01-01T00:00:00Z")) is None


HALVES = [{"hour": {"start": 0, "end": 11}, "minute": "*"}, {"hour": {"start": 12, "end": 23}, "minute": "*"}]
DAYS = [{"dayOfWeek": day, "hour": "*", "minute": "*", "second": "*"} for day in range(7)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
@pytest.mark.parametrize(
    "fields",
    [
        {"calendars": [{"hour": "*", "minute": "*"}], "skip": HALVES},
        {"intervals": [{"every": "1m"}], "skip": HALVES},
        {"intervals": [{"every": "1s"}], "skip": DAYS},
        {"intervals": [{"every": 1001}], "skip": DAYS},
        {"intervals": [{"every": "3601s"}], "skip": DAYS},
        {"intervals": [{"every": "15m"}], "skip": [{"hour": "*", "minute": {"start": 0, "end": 59, "step": 15}}]},
        {"intervals": [{"every": "55m"}], "skip": [{"hour": "*", "minute": {"start": 0, "end": 59, "step": 5}}]},
        {"intervals": [{"every": "7d"}], "skip": [{"dayOfWeek": ["thu", "wed"], "hour": "*", "minute": "*"}]},
        {"intervals": [{"every": "1h"}], "calendars": [{"minute": 30}], "skip": [{"hour": "*", "minute": "*"}]},
    ],
    ids=str,
)
def test_what_skips_take_out_together_is_found_out_at_once(fields: dict[str, Any], zone: str) -> None:
    spec = schedule(**fields, timezone=zone)
    before = time.process_time()
    assert next_after(spec, at("2026-01-01T00:00:00Z")) is None
    assert previous_before(spec, at("2026-01-01T00:00:00Z")) is None
    # Milliseconds; the bound is for busy machines. A search goes through fifty years of seconds.
    assert time.process_time() - before < 0.5


def test_an_interval_is_found_between_many_skips() -> None:
    # One second of a Sunday, once a year, on a clock with daylight saving.
    skip = [
        {"hour": "*", "minute": "*", "second": {"start": 0, "end": 58}},
        {"hour": "*", "minute": {"start": 0, "end": 58}, "second": 59},
        {"hour": {"start": 0, "end": 22}, "minute": 59, "second": 59},
        {"dayOfWeek": {"start": 1, "end": 6}, "hour": 23, "minute": 59, "second": 59},
        {"month": {"start": 1, "end": 11}, "hour": 23, "minute": 59, "second": 59},
        {"dayOfMonth": {"start": 1, "end": 24}, "hour": 23, "minute": 59, "second": 59},
    ]
    spec = schedule(intervals=[{"every": "1s"}], skip=skip, timezone="Europe/Berlin")
    assert times(spec, "2026-01-01T00:00:00Z", 3) == [
        "2026-12-27T22:59:59Z", "2027-12-26T22:59:59Z", "2028-12-31T22:59:59Z",
    ]  # fmt: skip


def test_more_skips_than_are_worked_out_beforehand_still_skip() -> None:
    windows = [
        {"year": 2026, "month": 1 + n // 28, "dayOfMonth": 1 + n % 28, "hour": [n % 24, (n * 7) % 24]}
        for n in range(0, 330)
    ]
    spec = schedule(calendars=[{"hour": "*"}], skip=windows)
    begin = at("2026-01-01T00:00:00Z")
    found = list(itertools.takewhile(lambda t: t.year == 2026, upcoming(spec, begin - timedelta(seconds=1))))
    hours = [begin + timedelta(hours=n) for n in range(365 * 24)]
    assert found == [h for h in hours if not any(calendar_matches(c, h) for c in spec.skip)]


def test_the_sparsest_calendar_is_found_decades_away() -> None:
    spec = schedule(calendars=[{"month": 2, "dayOfMonth": 29, "dayOfWeek": "SUNDAY"}], timezone="Pacific/Chatham")
    assert times(spec, "2026-01-01T00:00:00Z", 3) == [
        "2032-02-28T10:15:00Z", "2060-02-28T10:15:00Z", "2088-02-28T10:15:00Z",
    ]  # fmt: skip


def test_naive_datetimes_are_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        next_after(schedule(intervals=[{"every": "1h"}]), datetime(2026, 1, 1))  # noqa: DTZ001


def test_jitter_is_deterministic_and_stays_before_the_next_time() -> None:
    spec = schedule(intervals=[{"every": "10s"}], jitter="1m")
    ticks = list(itertools.islice(upcoming(spec, at("2026-01-01T00:00:00Z")), 200))
    delays = [delay(spec, "job", tick) for tick in ticks]
    assert delays == [delay(spec, "job", tick) for tick in ticks]
    assert delays != [delay(spec, "other", tick) for tick in ticks]
    assert all(timedelta(0) <= d < timedelta(seconds=10) for d in delays)
    assert max(delays) > timedelta(seconds=8)
    assert delay(schedule(intervals=[{"every": "10s"}]), "job", ticks[0]) == timedelta(0)


# -- against an oracle that walks every second ---------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def calendar_matches(calendar: Calendar, local: datetime) -> bool:
    return (
        local.year in calendar.year
        and local.month in calendar.month
        and local.day in calendar.day_of_month
        and local.isoweekday() % 7 in calendar.day_of_week
        and local.hour in calendar.hour
        and local.minute in calendar.minute
        and local.second in calendar.second
    )


def walk(spec: Schedule, begin: datetime, seconds: int) -> list[datetime]:
    """All run times in [begin, begin + seconds), found by looking at every second on the zone's clock."""
    zone = ZoneInfo(spec.timezone)
    found = []
    for n in range(seconds):
        instant = begin + timedelta(seconds=n)
        local = instant.astimezone(zone)
        millis = (instant - EPOCH) // timedelta(milliseconds=1)
        fires = any((millis - i.offset) % i.every == 0 for i in spec.intervals)
        fires = fires or any(calendar_matches(c, local) for c in spec.calendars)
        if (
            fires
            and not any(calendar_matches(c, local) for c in spec.skip)
            and (spec.start_at is None or instant >= spec.start_at)
            and (spec.end_at is None or instant <= spec.end_at)
        ):
            found.append(instant)
    return found


# Moments around which clocks change, and one where nothing does.
CHANGES = {
    "America/New_York": ["2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"],
    "Europe/Berlin": ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"],
    "Australia/Lord_Howe": ["2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z"],
    "Pacific/Apia": ["2011-12-30T10:00:00Z", "2021-04-03T14:00:00Z"],
    "Asia/Kathmandu": ["2026-01-01T00:00:00Z"],
    "Africa/Casablanca": ["2026-02-15T02:00:00Z", "2026-03-22T02:00:00Z"],
    "America/Sao_Paulo": ["2018-02-18T02:00:00Z", "2018-11-04T03:00:00Z"],
    "UTC": ["2026-12-31T23:00:00Z"],
}


def numbers(low: int, high: int) -> st.SearchStrategy[Any]:
    one = st.integers(low, high)
    ranges = st.tuples(one, one).map(lambda pair: {"start": min(pair), "end": max(pair)})
    return st.one_of(one, st.just("*"), ranges, st.lists(st.one_of(one, ranges), min_size=1, max_size=3))


def calendars(sparse: bool) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        "hour": numbers(0, 23),
        "minute": numbers(0, 59),
        "second": numbers(0, 59) if not sparse else st.integers(0, 59),
    }
    days = {"dayOfMonth": numbers(1, 31), "dayOfWeek": numbers(0, 6), "month": numbers(1, 12)}
    return st.fixed_dictionaries({}, optional={**fields, **days})  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schedule, datetime]:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    moment = at(draw(st.sampled_from(CHANGES[zone])))
    begin = moment - timedelta(seconds=draw(st.integers(0, 7200)))
    fields: dict[str, Any] = {
        "timezone": zone,
        "calendars": draw(st.lists(calendars(sparse=True), max_size=3)),
        "intervals": draw(
            st.lists(
                st.integers(20, 5000).flatmap(
                    lambda s: st.fixed_dictionaries(
                        {"every": st.just(s * 1000), "offset": st.integers(0, s - 1).map(lambda o: o * 1000)}
                    )
                ),
                max_size=2,
            )
        ),
        "skip": draw(st.lists(calendars(sparse=False), max_size=4)),
    }
    if not fields["calendars"] and not fields["intervals"]:
        fields["calendars"] = [{"hour": "*", "minute": "*"}]
    if draw(st.booleans()):
        fields["startAt"] = (begin + timedelta(seconds=draw(st.integers(-100, 4000)))).isoformat()
    if draw(st.booleans()):
        fields["endAt"] = (begin + timedelta(seconds=draw(st.integers(4000, 9000)))).isoformat()
    return Schedule.model_validate(fields), begin


@settings(max_examples=120, deadline=None)
@given(cases())
def test_agrees_with_walking_every_second_around_changes_of_the_clock(case: tuple[Schedule, datetime]) -> None:
    spec, begin = case
    seconds = 3 * 3600
    expected = walk(spec, begin, seconds)
    end = begin + timedelta(seconds=seconds)
    inside = itertools.takewhile(lambda t: t < end, upcoming(spec, begin - timedelta(milliseconds=1)))
    assert list(inside) == expected
    backwards, instant = [], end
    while (found := previous_before(spec, instant)) is not None and found >= begin:
        backwards.append(found)
        instant = found
    assert backwards[::-1] == expected


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 4 * 366 * 86_400))
def test_next_and_previous_are_each_others_inverse_anywhere(case: tuple[Schedule, datetime], shift: int) -> None:
    spec, begin = case
    instant = begin + timedelta(seconds=shift)
    following = next_after(spec, instant)
    if following is not None:
        assert following > instant
        again = previous_before(spec, following)
        assert again is None or again <= instant
        assert next_after(spec, following - timedelta(milliseconds=1)) == following


def test_spans_are_those_of_the_zone_database_in_every_zone() -> None:
    # The pure Python implementation tells its transitions; those to come follow rules, and are sampled.
    from zoneinfo._zoneinfo import ZoneInfo as Transparent  # type: ignore[attr-defined]

    rng = random.Random(7)
    for name in sorted(available_timezones()):
        info, spans = ZoneInfo(name), offsets(name)
        changes = [t for t in Transparent.no_cache(name)._trans_utc if t > 0]
        moments = [t + d for t in changes for d in (-1, 0)] + [rng.randrange(0, 4_100_000_000) for _ in range(300)]
        for moment in moments:
            start, end, offset = spans.span(moment)
            assert start <= moment < end
            expected = datetime.fromtimestamp(moment, UTC).astimezone(info).utcoffset()
            assert timedelta(seconds=offset) == expected, (name, moment)


@pytest.mark.parametrize("unit", [1000, 1500, 1024])
def test_a_thousand_dense_intervals_with_skips_are_made_ready_at_once(unit: int) -> None:
    intervals = [{"every": unit * n, "offset": n % 7} for n in range(1, 1001)]
    skip = [{"hour": "*", "minute": {"start": 0, "end": 58}}]
    schedule = Schedule.model_validate({"intervals": intervals, "skip": skip})
    before = time.process_time()
    assert next_after(schedule, datetime(2026, 11, 26, tzinfo=UTC)) is not None
    assert time.process_time() - before < 2


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
def test_the_ends_of_time_are_no_error(zone: str) -> None:
    schedule = Schedule.model_validate({"calendars": [{"hour": 3}], "timezone": zone})
    first = next_after(schedule, datetime(1, 1, 1, tzinfo=UTC))
    assert first is not None
    assert first.year in (1999, 2000)
    assert next_after(schedule, datetime.max.replace(tzinfo=UTC)) is None
    assert previous_before(schedule, datetime(1, 1, 1, tzinfo=UTC)) is None
    last = previous_before(schedule, datetime.max.replace(tzinfo=UTC))
    assert last is not None
    assert last.year in (2100, 2101)
