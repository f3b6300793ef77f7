from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_rest() -> None:
    found = figures("rest.py", "--jobs", "20", "--items", "300", "--rounds", "2")
    assert found["create to a run's start, few jobs"]["create_to_started_s"] < 5
    assert found["parse of all stored jobs"]["parse_s"] < 5
    assert found["list of all jobs"]["queries"] <= 4
    assert found["status of a large run"]["queries"] <= 5
