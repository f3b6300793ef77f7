from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_ui() -> None:
    found = figures("ui.py", "--jobs", "10", "--items", "300", "--rounds", "5")
    for run in ("large", "batched"):
        assert found[f"its page, {run}"]["median_ms"] < 600
        assert found[f"its last page of items, {run}"]["median_ms"] < 600
        assert found[f"a look at its progress, {run}"]["median_ms"] < 600
    assert found["the list of jobs"]["median_ms"] < 600
