from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_throughput() -> None:
    found = figures("throughput.py", "--items", "16", "--latencies", "1", "--no-peer")
    assert found["items per second against the mapped HttpOperator"]["per_second"] > 0.4
    assert found["trigger to first call"]["median_s"] < 20
