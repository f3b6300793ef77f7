from __future__ import annotations

import pytest

from .scripts import lines_of


@pytest.mark.parametrize("items_per_task", [1, 5])
def test_appends_that_race_lose_and_double_nothing(items_per_task: int) -> None:
    size = ("--rounds", "2", "--appenders", "12", "--calls", "6", "--items-per-task", str(items_per_task))
    found = lines_of("-m", "tests.torture.appends", *size)[-1]
    assert found["faults"] == 0
    assert found["acknowledged"] > 10
    assert found["refused"] > 0, "some appends came too late, as they should"
