from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_jobs_plugin.spec import RetryOverride, RetryPolicy
from airflow_jobs_plugin.spec.retry import LONGEST_WAIT


def policy(**fields: object) -> RetryPolicy:
    return RetryPolicy.model_validate(fields)


def test_without_a_policy_there_are_three_attempts_and_no_delay() -> None:
    default = policy()
    assert default.maximum_attempts == 3
    assert [default.wait_after(i) for i in range(3)] == [timedelta(0)] * 3


def test_waits_grow_by_the_coefficient_up_to_the_maximum() -> None:
    backoff = policy(initialInterval="1s", backoffCoefficient=2, maximumInterval="5s")
    assert [backoff.wait_after(i).total_seconds() for i in range(5)] == [1, 2, 4, 5, 5]


def test_fractional_waits_are_kept_to_the_microsecond() -> None:
    assert policy(initialInterval=100, backoffCoefficient=1.5).wait_after(3) == timedelta(milliseconds=337.5)


def test_waits_that_no_clock_can_hold_are_cut_at_ten_years() -> None:
    assert policy(initialInterval="1s", backoffCoefficient=10).wait_after(999) == LONGEST_WAIT
    assert policy(backoffCoefficient=10).wait_after(999) == timedelta(0)


@given(
    st.integers(0, 10**9),
    st.floats(1, 50),
    st.integers(0, 999),
    st.one_of(st.none(), st.integers(10**9, 10**12)),
)
def test_wait_is_the_formula_of_the_specification(
    initial: int, coefficient: float, i: int, maximum: int | None
) -> None:
    wait = policy(initialInterval=initial, backoffCoefficient=coefficient, maximumInterval=maximum).wait_after(i)
    try:
        expected = initial * coefficient**i
    except OverflowError:
        expected = float("inf") if initial else 0
    expected = min(expected, maximum if maximum is not None else float("inf"), LONGEST_WAIT / timedelta(milliseconds=1))
    assert wait / timedelta(milliseconds=1) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"maximumAttempts": 0}, "maximumAttempts"),
        ({"maximumAttempts": 1001}, "maximumAttempts"),
        ({"maximumAttempts": True}, "maximumAttempts"),
        ({"maximumAttempts": "3"}, "maximumAttempts"),
        ({"backoffCoefficient": 0.5}, "backoffCoefficient"),
        ({"backoffCoefficient": float("inf")}, "backoffCoefficient"),
        ({"initialInterval": -1}, "initialInterval"),
        ({"initialInterval": "soon"}, "initialInterval"),
        ({"initialInterval": "2s", "maximumInterval": "1s"}, None),
    ],
)
def test_policies_out_of_bounds_are_refused(fields: dict, where: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        policy(**fields)
    assert [line["loc"] for line in caught.value.errors()] == [(where,) if where else ()]


def test_an_override_replaces_field_by_field() -> None:
    job = policy(maximumAttempts=4, initialInterval="1s", backoffCoefficient=3)
    item = RetryOverride.model_validate({"maximumAttempts": 9}).over(job)
    assert item == policy(maximumAttempts=9, initialInterval="1s", backoffCoefficient=3)
    assert RetryOverride.model_validate({"maximumAttempts": None}).over(job) == job
