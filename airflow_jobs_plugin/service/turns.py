"""Requests that would wait for the same lock, one after another: those who wait hold no thread and no connection.

The threads and database connections of an API server are for all of its requests, also for those that Airflow's tasks
make, which give up after five seconds. Fifty callers who append to one run would take all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")


class Turns:
    """Work in threads of its own, ``at_once`` at most, and one at a time for what has the same key."""

    def __init__(self, at_once: int) -> None:
        self._threads = CapacityLimiter(at_once)
        # A limiter lives as long as somebody uses it or waits for it.
        self._of: WeakValueDictionary[Hashable, CapacityLimiter] = WeakValueDictionary()

    async def take(self, key: Hashable, work: Callable[[], T]) -> T:
        """Do the work when it is its turn: those with one key in the order in which they came."""
        mine = self._of.get(key)
        if mine is None:
            mine = self._of[key] = CapacityLimiter(1)
        async with mine:
            return await to_thread.run_sync(work, limiter=self._threads)
