"""What the task that closes a run is sent of items that share task instances, by a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.errors import JobsError
from airflow_jobs_plugin.run import harvest, server

LINES = [({"api": "a", "n": n}, {"index": n, "result": "x" * 100}) for n in range(3)]


class Airflow(LocalServer):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def reply(self, request: Received) -> Reply:
        if request.path.endswith("/counts"):
            return Reply(200, {"total": 3, "succeeded": 2, "open": 0})
        return Reply(200, self.sent, {"Content-Type": "application/x-ndjson"})


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    with Airflow() as found:
        monkeypatch.setenv("AIRFLOW__JOBS__API_URL", found.url)
        monkeypatch.setattr(server, "_key", lambda: "a key that only the server knows, and checks")
        yield found


def brought() -> harvest.Harvest:
    ti = SimpleNamespace(dag_id="prices", run_id="r1")
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(run_after=datetime(2026, 11, 25, tzinfo=UTC))}
    return harvest.of_batches(context)


@pytest.mark.parametrize("spool", [10, 10_000])
def test_outcomes_are_all_there_before_the_first_one_is_used(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, spool: int
) -> None:
    monkeypatch.setattr(harvest, "SPOOL_BYTES", spool)
    airflow.sent = b"".join(json.dumps(line).encode() + b"\n" for line in LINES) + b"\n"
    found = brought()
    assert (found.total, found.succeeded, found.open) == (3, 2, 0)
    first = next(reading := iter(found.read()))
    airflow.sent = b"nobody asks again"
    assert [first, *reading] == [tuple(line) for line in LINES]


def test_a_run_of_which_nothing_has_an_outcome_is_read_as_such(airflow: Airflow) -> None:
    airflow.sent = b"\n"
    assert list(brought().read()) == []


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_an_answer_that_breaks_off_is_not_taken_for_a_short_one(airflow: Airflow, lines: int) -> None:
    airflow.sent = b"".join(json.dumps(line).encode() + b"\n" for line in LINES[:lines])
    with pytest.raises(JobsError, match="broke off"):
        next(iter(brought().read()))
