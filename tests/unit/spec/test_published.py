from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_jobs_plugin.spec import Calendar, Job
from airflow_jobs_plugin.spec.published import calendar_of, published


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ({"dayOfWeek": "mon"}, {"dayOfWeek": "MONDAY"}),
        ({"dayOfWeek": {"start": 1, "end": "fri"}}, {"dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}}),
        ({"dayOfWeek": [6, "sun"]}, {"dayOfWeek": ["SUNDAY", "SATURDAY"]}),
        (
            {"month": {"start": "jan", "end": "dec", "step": 3}},
            {"month": {"start": "JANUARY", "end": "OCTOBER", "step": 3}},
        ),
        ({"minute": "0", "hour": "*"}, {"minute": 0, "hour": "*"}),
        ({"second": [5, 1, 1]}, {"second": [1, 5]}),
        ({"year": 2027}, {"year": 2027}),
    ],
    ids=str,
)  # fmt: skip
def test_every_value_has_one_form(written: dict[str, Any], shown: dict[str, Any]) -> None:
    found = calendar_of(Calendar.model_validate(written))
    assert {name: found[name] for name in shown} == shown


numbers = st.lists(st.integers(0, 59), min_size=1, max_size=60)


@given(numbers, numbers, st.lists(st.integers(0, 6), min_size=1))
@settings(max_examples=200)
def test_a_published_calendar_matches_what_was_written(minutes: list[int], seconds: list[int], days: list[int]) -> None:
    calendar = Calendar.model_validate({"minute": minutes, "second": seconds, "dayOfWeek": days})
    assert Calendar.model_validate(calendar_of(calendar)) == calendar


def test_a_published_definition_is_the_same_definition() -> None:
    written = {
        "id": "x",
        "payload": [{"api": "a", "request_timeout": 1.5, "retry": {"initialInterval": "2s"}}, {"apiName": "b"}],
        "configuration": {"retry": {"maximumInterval": "1m"}, "maximumConcurrentRequests": 7, "maxRuns": 9},
        "schedule": {"intervals": [{"every": "7d", "offset": "3h"}], "calendars": [{"dayOfMonth": 1}], "jitter": "30s",
                     "skip": [{"month": "dec"}], "timezone": "Europe/Berlin", "startAt": "2026-01-01"},
        "sink": {"type": "webhook", "url": "https://example.com/", "skipOnFail": True},
        "target": {"type": "python"},
        "proxy": "http://proxy:3128",
        "auth_session": {"id": "s"},
        "notifications": [{"type": "webhook", "url": "https://example.com/"}],
    }  # fmt: skip
    job = Job.model_validate(written)
    assert Job.model_validate({**published(job), "id": "x"}) == job
    bare = Job.model_validate({"id": "x", "payload": [{"api": "a"}]})
    assert Job.model_validate({**published(bare), "id": "x"}) == bare
