from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_jobs_plugin.spec import format_duration, parse_duration
from airflow_jobs_plugin.spec.durations import MAX_DURATION

# Cases that vercel/ms asserts in its own tests (https://github.com/vercel/ms, version 2.1.3).
CASES = json.loads((Path(__file__).parents[2] / "vectors" / "durations.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["input"]))
def test_reads_what_ms_reads(case: dict) -> None:
    if case["expected_ms"] == "error":
        with pytest.raises(ValueError, match="duration"):
            parse_duration(case["input"])
    else:
        assert parse_duration(case["input"]) == case["expected_ms"]


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        [],
        1.5,
        "1 fortnight",
        " 1s",
        "1s ",
        "1s\n",
        "1e3",
        "١s",
        "1" * 101,
        "1" * 40,
        10**30,
        float("nan"),
    ],
)
def test_refuses_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match="duration|out of bounds"):
        parse_duration(value)  # type: ignore[arg-type]


def test_fractions_of_a_millisecond_are_rounded_half_up() -> None:
    assert [parse_duration(text) for text in ("1.4ms", "1.5ms", "0.0004s", "0.0005s")] == [1, 2, 0, 1]


def test_decimal_fractions_are_exact() -> None:
    # In binary floats 1.1 * 31557600000 is 34713360000.000004 and 0.07 * 60000 is 4200.000000000001.
    assert parse_duration("1.1y") == 34_713_360_000
    assert parse_duration("0.07m") == 4_200


@given(st.integers(0, MAX_DURATION))
def test_integers_are_milliseconds_written_either_way(milliseconds: int) -> None:
    assert parse_duration(milliseconds) == parse_duration(str(milliseconds)) == milliseconds


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    refusal = ""
    try:
        assert isinstance(parse_duration(text), int)
    except ValueError as error:
        refusal = str(error)
    assert refusal == "" or "duration" in refusal or "out of bounds" in refusal


def test_durations_are_written_for_people() -> None:
    assert format_duration(5_400_000) == "1 hour 30 minutes"
    assert format_duration(86_401_001) == "1 day 1 second 1 ms"
    assert format_duration(0) == "0 ms"
