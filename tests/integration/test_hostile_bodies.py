"""The short form of the fuzzing of REST bodies, in a process of its own: it has a database and an app of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.thorough
def test_whatever_is_sent_is_answered_as_documented() -> None:
    # A seed that is drawn, and printed with the figures.
    command = [sys.executable, "-m", "tests.fuzz.bodies", "--inputs", "1000", "--processes", "1"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-3000:]
    assert "1,000 inputs" in ended.stdout
    assert " 0 broke something" in ended.stdout
