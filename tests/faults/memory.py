"""How much memory the components of a topology have, over time."""

from __future__ import annotations

import time
from collections import defaultdict

import psutil

from .topology import Topology

#: Seconds that a process has to be old to be the component itself, and not a task that it runs.
SETTLED = 30.0


class Memory:
    """Samples of each component's lasting processes: the command and the pool below the nanny, not the nanny."""

    def __init__(self, airflow: Topology) -> None:
        self._airflow = airflow
        self._begun = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def sample(self) -> None:
        """Note what each component has now: MB, pages that processes share counted once."""
        now = time.monotonic() - self._begun
        for name in list(self._airflow.processes):
            sizes = [size for process in self._airflow.running(name) if (size := _size(process))]
            if sizes:
                self.samples[name].append((now, sum(sizes)))

    def figures(self, warm_up: float) -> dict[str, dict[str, float]]:
        """Of each component, from ``warm_up`` seconds on: first, last and most MB, and a line's MB per minute."""
        found = {}
        for name, samples in self.samples.items():
            warm = [(at, size) for at, size in samples if at >= warm_up]
            if len(warm) > 2:
                sizes = [size for _, size in warm]
                found[name] = {
                    "first": round(sizes[0]),
                    "last": round(sizes[-1]),
                    "most": round(max(sizes)),
                    "perMinute": round(60 * _slope(warm), 2),
                }
        return found


def _size(process: psutil.Process) -> float | None:
    try:
        if time.time() - process.create_time() < SETTLED:
            return None
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return None  # it has ended, or is not ours to look into


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    x = sum(a for a, _ in points) / len(points)
    y = sum(b for _, b in points) / len(points)
    across = sum((a - x) ** 2 for a, _ in points)
    return sum((a - x) * (b - y) for a, b in points) / across if across else 0.0
