from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_throughput() -> None:
    found = figures("throughput.py", "--items", "16", "--latencies", "2", "--no-peer")
    assert found["items per second against the mapped HttpOperator"]["per_second"] > 0.4
    # The first run after a start waits for what Airflow makes when it is first asked.
    assert found["trigger to first call"]["all_s"][1] < 20
