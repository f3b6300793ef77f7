from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_nested() -> None:
    found = figures("nested.py", "--items", "10", "--sizes", "20", "--rounds", "2")
    assert found["append to its item's call"]["median_s"] < 20
    assert found["append to a run"]["one_median_ms"] < 1000
    crawl = found["a crawl over four levels"]
    assert (crawl["status"], crawl["each_called_once"]) == ("SUCCESS", True)
