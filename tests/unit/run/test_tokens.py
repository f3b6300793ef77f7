from __future__ import annotations

import time

import pytest

from airflow_jobs_plugin.run.tokens import PREFIX, Permit, sign, verify

PERMIT = Permit("prices", "manual__2026-11-25T10:00:00+00:00", 1_795_000_000_000_000, 3, own=False)


def test_a_token_says_what_it_allows() -> None:
    token = sign("key", PERMIT)
    assert token.startswith(PREFIX)
    assert verify("key", token) == PERMIT


def test_another_key_or_a_change_makes_it_worthless() -> None:
    token = sign("key", PERMIT)
    assert verify("other", token) is None
    assert verify("key", token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]) is None
    assert verify("key", "") is None
    assert verify("key", PREFIX) is None


def test_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__RUN_TOKEN_HOURS", "2")
    now = 1_800_000_000
    monkeypatch.setattr(time, "time", lambda: now)
    token = sign("key", PERMIT)
    monkeypatch.setattr(time, "time", lambda: now + 7199)
    assert verify("key", token) == PERMIT
    monkeypatch.setattr(time, "time", lambda: now + 7201)
    assert verify("key", token) is None


@pytest.mark.parametrize("ahead", [1, 3600, 7199])
def test_it_is_good_where_the_worker_s_clock_is_ahead_of_the_server_s(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__RUN_TOKEN_HOURS", "2")
    now = 1_800_000_000
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    token = sign("key", PERMIT)
    monkeypatch.setattr(time, "time", lambda: now)
    assert verify("key", token) == PERMIT


def test_a_clock_that_was_years_ahead_leaves_no_token_that_is_good_for_years(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__RUN_TOKEN_HOURS", "2")
    now = 1_800_000_000
    monkeypatch.setattr(time, "time", lambda: now + 7201)
    token = sign("key", PERMIT)
    monkeypatch.setattr(time, "time", lambda: now)
    assert verify("key", token) is None
