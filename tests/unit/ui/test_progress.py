"""How far a run is, from two looks at it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_jobs_plugin.control.runs import ItemCounts, RunView
from airflow_jobs_plugin.ui import progress
from airflow_jobs_plugin.ui.progress import Mark, Progress

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "time", lambda: NOW)


def run(ended: int, total: int | None = 1000, status: str = "PENDING", **changed: object) -> RunView:
    begun = datetime.fromtimestamp(NOW - 100, UTC)
    counts = ItemCounts(total, pending=(total or 0) - ended, succeeded=ended)
    found = RunView(
        "r",
        "j",
        status,
        True,
        begun,
        begun,
        begun,
        None,
        counts,
        None,
        None,
        None,
        None,
        {},
        None,  # type: ignore[arg-type]
    )
    return replace(found, **changed)  # type: ignore[arg-type]


def test_the_rate_is_that_since_the_last_mark_and_says_when_it_ends() -> None:
    found = Progress.of(run(400), Mark(NOW - 10, 300))
    assert found.rate == pytest.approx(10)
    assert found.end_at == datetime.fromtimestamp(NOW + 60, UTC)
    assert (found.percent, found.ended, found.mark) == (40, 400, Mark(NOW - 10, 300))
    assert found.elapsed == timedelta(seconds=100)


def test_a_mark_moves_on_and_an_impossible_one_is_forgotten() -> None:
    assert Progress.of(run(400), Mark(NOW - 31, 300)).mark == Mark(NOW, 400)
    assert Progress.of(run(400), Mark(NOW - 10, 500)).mark == Mark(NOW, 400)
    first = Progress.of(run(400), None)
    assert (first.rate, first.end_at, first.mark) == (None, None, Mark(NOW, 400))


def test_what_stands_still_or_is_paused_ends_at_no_time() -> None:
    assert Progress.of(run(400), Mark(NOW - 10, 400)).end_at is None
    assert Progress.of(run(400, status="PAUSED"), Mark(NOW - 10, 300)).end_at is None
    assert Progress.of(run(0, total=None), None).percent is None


def test_a_run_that_has_ended_has_the_rate_of_all_of_it() -> None:
    end = datetime.fromtimestamp(NOW - 50, UTC)
    found = Progress.of(run(1000, status="SUCCESS", end_time=end), Mark(NOW - 10, 0))
    assert (found.active, found.rate, found.percent) == (False, pytest.approx(20), 100)
    assert found.elapsed == timedelta(seconds=50)
    assert found.announcement.startswith("The run has ended: success")


def test_those_who_hear_the_page_hear_of_every_tenth_only() -> None:
    said = [Progress.of(run(ended), None).announcement for ended in range(300, 460, 10)]
    assert len(set(said)) == 2


def test_what_was_seen_changes_with_counts_and_status_alone() -> None:
    assert Progress.of(run(400), None).seen == Progress.of(run(400), Mark(NOW - 10, 300)).seen
    assert (
        len({Progress.of(run(ended, status=status), None).seen for ended in (1, 2) for status in ("PENDING", "PAUSED")})
        == 4
    )


@pytest.mark.parametrize("text", [None, "", "x", "1-2", "nan-1", "inf-1", f"{NOW + 9}-1", f"{NOW}--1", "1e400-1", "-"])
def test_a_mark_that_nobody_wrote_is_none(text: str | None) -> None:
    assert Mark.read(text) is None
    mark = Mark(NOW - 5, 7)
    assert Mark.read(mark.written()) == mark
    assert time.time() == NOW
