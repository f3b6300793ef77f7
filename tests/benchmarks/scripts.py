"""Runs the scripts in ``benchmarks/``: the short form of each is a test, so that none rots.

The bounds are looser than the documented ones, because the machines of CI are shared: what fails here has become twice
as slow. A file each, first in the order of collection: they take long, and are to run beside each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def lines_of(*arguments: str) -> list[dict[str, Any]]:
    """What a command of Python prints as JSON lines."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def figures(script: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """The figures of a benchmark, by their names."""
    return {line["benchmark"]: line for line in lines_of(f"benchmarks/{script}", *arguments)}
