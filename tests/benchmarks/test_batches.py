from __future__ import annotations

import pytest

from .scripts import figures


@pytest.mark.e2e
def test_batches() -> None:
    kinds = ("calls", "pause", "kill")
    found = figures("batches.py", "--scale", "0.05", "--peer-items", "0", "--only", *kinds)
    assert found["500 calls of 100 ms at 50 at once"]["calling_s"] < 15
    assert found["pausing a batch"]["last_answer_after_s"] < 6
    assert found["a batch of calls of 100 ms, its worker killed in the middle"]["repeated_calls"] < 300
