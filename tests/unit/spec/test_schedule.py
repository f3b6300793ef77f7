from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_jobs_plugin.spec import Calendar, Interval, Schedule

VECTORS = Path(__file__).parents[2] / "vectors"
PYTHON_NAMES = {"dayOfMonth": "day_of_month", "dayOfWeek": "day_of_week"}


def in_durations(spec: dict[str, Any]) -> dict[str, Any]:
    intervals = [{k.removesuffix("_ms"): v for k, v in i.items()} for i in spec.get("intervals", [])]
    return {**spec, "intervals": intervals}


@pytest.mark.parametrize(
    "case", json.loads((VECTORS / "calendar_fields.json").read_text()), ids=lambda c: c["upstream"]
)
def test_a_field_matches_the_numbers_that_temporal_matches(case: dict) -> None:
    numbers = getattr(
        Calendar.model_validate({case["field"]: case["value"]}),
        PYTHON_NAMES.get(case["field"], case["field"]),
    )
    assert set(case["match"]) <= set(numbers)
    assert not set(case["no_match"]) & set(numbers)


@pytest.mark.parametrize("case", json.loads((VECTORS / "invalid_schedules.json").read_text()), ids=lambda c: c["name"])
def test_what_temporal_refuses_is_refused(case: dict) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate(in_durations(case["spec"]))


@pytest.mark.parametrize("case", json.loads((VECTORS / "schedules.json").read_text()), ids=lambda c: c["name"])
def test_what_temporal_accepts_is_accepted(case: dict) -> None:
    Schedule.model_validate(in_durations(case["spec"]))


def test_the_example_of_the_source_is_valid() -> None:
    calendar = Calendar.model_validate(
        {
            "year": "*",
            "month": "*",
            "dayOfMonth": "*",
            "dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"},
            "hour": {"start": 9, "end": 17},
            "minute": "0",
            "comment": "Run every weekday from 9am to 5pm at the start of every hour",
        }
    )
    assert calendar.day_of_week == (1, 2, 3, 4, 5)
    assert calendar.hour == tuple(range(9, 18))
    assert calendar.minute == calendar.second == (0,)


@pytest.mark.parametrize(("name", "number"), [("tue", 2), ("SATUR", 6), ("Sunday", 0), (" mon ", 1)])
def test_names_are_read_in_any_case_and_by_unique_prefix(name: str, number: int) -> None:
    assert Calendar.model_validate({"dayOfWeek": name}).day_of_week == (number,)


@pytest.mark.parametrize(
    "fields",
    [
        {"dayOfWeek": "Tu"},
        {"month": "Ju"},
        {"dayOfWeek": "Frday"},
        {"hour": "noon"},
        {"hour": []},
        {"hour": None},
        {"hour": {"start": 18, "end": 3}},
        {"hour": {"start": 5, "end": 7, "step": 0}},
        {"minute": {"start": 5, "step": 10}},
        {"minute": {"start": 5, "end": 9, "step": 10}},
        {"minute": {"start": 5, "stop": 9}},
        {"minute": {"end": 9}},
        {"minute": True},
        {"minute": 1.5},
        {"second": "60"},
        {"year": 2101},
        {"dayOfMonth": 32},
        {"comment": "x" * 201},
        {"hours": 5},
    ],
    ids=str,
)
def test_values_that_match_nothing_or_are_unknown_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError) as caught:
        Calendar.model_validate(fields)
    assert [line["loc"] for line in caught.value.errors()] == [tuple(fields)]


@pytest.mark.parametrize(
    "fields",
    [
        {"every": 0},
        {"every": -1},
        {"every": "999ms"},
        {"every": 10**30},
        {"every": "200y"},
        {"every": "1h", "offset": "1h"},
        {"every": "1h", "offset": -1},
        {},
    ],
    ids=str,
)
def test_periods_and_offsets_out_of_bounds_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        Interval.model_validate(fields)


def test_bounds_are_instants_and_local_without_an_offset() -> None:
    schedule = Schedule.model_validate(
        {
            "intervals": [{"every": "1h"}],
            "timezone": "Europe/Berlin",
            "startAt": "2026-07-01T09:00:00",
            "endAt": "2026-07-01T09:00:00Z",
        }
    )
    assert schedule.start_at == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert schedule.end_at == datetime(2026, 7, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"timezone": "Europe/Berln"}, ("timezone",)),
        ({"timezone": "../../etc/passwd"}, ("timezone",)),
        ({"startAt": "soon"}, ("startAt",)),
        ({"startAt": 5}, ("startAt",)),
        ({"jitter": -1}, ("jitter",)),
        ({"startAt": "2026-02-01", "endAt": "2026-01-01"}, ()),
    ],
)
def test_the_rest_of_a_schedule_is_checked(change: dict, where: tuple) -> None:
    with pytest.raises(ValidationError) as caught:
        Schedule.model_validate({"intervals": [{"every": "1h"}], **change})
    assert [line["loc"] for line in caught.value.errors()] == [where]


def test_a_schedule_survives_a_round_trip_through_json() -> None:
    schedule = Schedule.model_validate(
        {
            "intervals": [{"every": "7d"}],
            "calendars": [{"dayOfWeek": "fri"}],
            "startAt": "2026-01-01",
            "jitter": "30s",
        }
    )
    assert Schedule.model_validate(json.loads(schedule.model_dump_json(by_alias=True))) == schedule
