from __future__ import annotations

import pytest
from itsdangerous import timed

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
    monkeypatch.setattr(timed.TimestampSigner, "get_timestamp", lambda self: now)
    token = sign("key", PERMIT)
    monkeypatch.setattr(timed.TimestampSigner, "get_timestamp", lambda self: now + 7199)
    assert verify("key", token) == PERMIT
    monkeypatch.setattr(timed.TimestampSigner, "get_timestamp", lambda self: now + 7201)
    assert verify("key", token) is None
