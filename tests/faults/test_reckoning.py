"""The reckoning finds what it is there to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import Ledger, Received

from .reckoning import Fault, Ledgers, reckon
from .soak import Ticks

RUN = {"id": "r", "job_id": "j", "status": "SUCCESS"}
ITEMS = [{"index": n, "id": f"key-{n}", "status": "SUCCEEDED", "attempts": 1} for n in range(2)]


def call(index: int, attempt: int = 1, key: str | None = None) -> Received:
    headers = {"x-job-id": "j", "x-job-run-id": "r", "x-item-index": str(index), "x-attempt": str(attempt)}
    return Received("POST", "/echo", {**headers, "idempotency-key": key or f"key-{index}"}, None, b"")


def delivery(indices: tuple[int, ...] = (0, 1), message: str = "m") -> Received:
    results = [{"apiInfo": {"runId": f"key-{n}", "result": {"status": "completed"}}} for n in indices]
    body = {"projectJob": {"id": "j"}, "projectJobRun": {"id": "r"}, "results": results}
    return Received("POST", "/", {"webhook-id": message}, body, json.dumps(body).encode())


def ledgers(calls: list[Received], deliveries: list[Received]) -> Ledgers:
    found = Ledgers(Ledger(), Ledger())
    for request in calls:
        found.api.add(request)
    for request in deliveries:
        found.receiver.add(request)
    return found


def test_what_agrees_is_counted() -> None:
    once = reckon(ledgers([call(0), call(1)], [delivery(), delivery()]), RUN, ITEMS, expected=2)
    assert (once.calls, once.deliveries, once.redelivered, once.lost, once.doubled) == (2, 1, 1, 0, 0)
    assert (once + once).items == 4
    repeated = reckon(ledgers([call(0), call(1), call(1)], [delivery()]), RUN, ITEMS, expected=2, deaths=1)
    assert repeated.repeated == 1


@pytest.mark.parametrize(
    ("calls", "deliveries", "items"),
    [
        ([call(0)], [delivery()], ITEMS),  # success without a call
        ([call(0), call(1)], [delivery()], ITEMS[:1]),  # an item that is not there
        ([call(0), call(1)], [delivery()], [ITEMS[0], {**ITEMS[1], "status": "RUNNING"}]),
        ([call(0), call(1), call(1)], [delivery()], ITEMS),  # a call twice
        ([call(0), call(1), call(1, 2)], [delivery()], ITEMS),  # an attempt that the run does not know
        ([call(0), call(1, key="other")], [delivery()], ITEMS),
        ([call(0), call(1), call(2)], [delivery()], ITEMS),  # an item that the run does not know
        ([call(0), call(1)], [], ITEMS),
        ([call(0), call(1)], [delivery((0,))], ITEMS),
        ([call(0), call(1)], [delivery(), delivery(message="n")], ITEMS),
        ([call(0), call(1)], [delivery((1, 0)), delivery()], ITEMS),  # repeats that differ
    ],
)
def test_what_does_not_agree_is_a_fault(
    calls: list[Received], deliveries: list[Received], items: list[dict[str, Any]]
) -> None:
    with pytest.raises(Fault):
        reckon(ledgers(calls, deliveries), RUN, items, expected=2)


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TICKS = [BEGIN + timedelta(seconds=2 * n) for n in range(20)]


def second(n: float) -> timedelta:
    return timedelta(seconds=n)


@pytest.mark.parametrize(
    ("ran", "missing", "twice"),
    [
        (lambda n: 1, 0, 0),
        (lambda n: n != 7, 1, 0),
        (lambda n: not 6 <= n <= 10, 5, 0),
        (lambda n: n < 18, 2, 0),
        (lambda n: 1 + (n == 4), 0, 1),
    ],
    ids=["all", "one is missing", "many are missing", "the end is missing", "twice"],
)
def test_run_times_are_accounted_for(ran: Callable[[int], int], missing: int, twice: int) -> None:
    runs = [(tick, tick, tick + second(1)) for n, tick in enumerate(TICKS) for _ in range(ran(n))]
    ticks = Ticks()
    ticks.add("j", TICKS, runs)
    assert (ticks.given_up, len(ticks.missing), len(ticks.twice)) == (0, missing, twice)
    assert ticks.due == 20
    assert ticks.once == 20 - missing - twice


@pytest.mark.parametrize(("seconds", "given_up", "missing"), [(11, 5, 0), (9, 0, 5)])
def test_a_run_that_was_created_too_late_explains_those_before_its_creation(
    seconds: int, given_up: int, missing: int
) -> None:
    late = TICKS[3] + second(seconds)
    runs = [(tick, tick, tick + second(1)) for n, tick in enumerate(TICKS) if not 3 <= n <= 8]
    ticks = Ticks()
    ticks.add("j", TICKS, [*runs, (TICKS[3], late, late + second(1))])
    assert (ticks.given_up, len(ticks.missing)) == (given_up, missing)


@pytest.mark.parametrize(("active", "given_up", "missing"), [(16, 4, 0), (15, 0, 4)])
def test_as_many_active_runs_as_may_be_explain_what_falls_due_meanwhile(
    active: int, given_up: int, missing: int
) -> None:
    runs = [(tick, tick, TICKS[19] + second(5)) for tick in TICKS[:active]]
    ticks = Ticks()
    ticks.add("j", [*TICKS[:active], *TICKS[16:]], runs)
    assert (ticks.given_up, len(ticks.missing)) == (given_up, missing)
