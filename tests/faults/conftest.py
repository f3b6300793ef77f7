"""One topology for all fault tests of a module, and what they counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.redis_server import require_redis_server

from .reckoning import Figures
from .world import World, started


@pytest.fixture(scope="session")
def redis_binary() -> str:
    return require_redis_server()


@pytest.fixture(scope="module")
def world(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with started(tmp_path_factory.mktemp("faults"), redis_binary) as found:
        yield found


class Tally:
    """Keeps what a test counted, for the summary at the end."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __call__(self, figures: Figures, **more: Any) -> None:
        self._record("figures", json.dumps({**figures.written(), **more}))


@pytest.fixture
def tally(record_property: Any) -> Tally:
    return Tally(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for r in terminalreporter.getreports("passed") if r.when == "call"]
    lines = [(r.nodeid, text) for r in reports for name, text in r.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("nothing lost, nothing doubled")
    for nodeid, text in lines:
        terminalreporter.write_line(f"{nodeid.split('::')[-1]} {text}")
