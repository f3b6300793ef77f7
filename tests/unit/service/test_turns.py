from __future__ import annotations

import threading
import time

import anyio
import pytest

from airflow_jobs_plugin.service.turns import Turns


class Work:
    """What is done at a time, in all and of each key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: list[str] = []
        self.most = 0
        self.order: list[tuple[str, int]] = []

    def do(self, key: str, number: int) -> int:
        with self.lock:
            assert key not in self.now, "one at a time"
            self.now.append(key)
            self.most = max(self.most, len(self.now))
            self.order.append((key, number))
        time.sleep(0.01)
        with self.lock:
            self.now.remove(key)
        return number


def test_what_has_one_key_waits_and_others_go_on_as_far_as_there_are_threads() -> None:
    turns, work = Turns(2), Work()
    found: dict[tuple[str, int], int] = {}

    async def take(key: str, number: int) -> None:
        found[key, number] = await turns.take(key, lambda: work.do(key, number))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(6):
                for key in "abc":
                    group.start_soon(take, key, number)

    anyio.run(main)
    assert found == {(key, number): number for key in "abc" for number in range(6)}
    assert work.most == 2
    for key in "abc":
        assert [number for k, number in work.order if k == key] == list(range(6)), "in the order in which they came"
    assert not turns._of, "nothing is kept of keys that nobody waits for"


def test_those_who_wait_hold_no_thread_that_others_need() -> None:
    turns, gate = Turns(4), threading.Event()

    async def main() -> float:
        threads = anyio.to_thread.current_default_thread_limiter().total_tokens
        async with anyio.create_task_group() as group:
            for _ in range(2 * int(threads)):
                group.start_soon(turns.take, "run", lambda: gate.wait(10))
            await anyio.sleep(0.05)
            began = time.monotonic()
            await anyio.to_thread.run_sync(lambda: None)
            took = time.monotonic() - began
            gate.set()
        return took

    assert anyio.run(main) < 5


def test_what_goes_wrong_is_raised_and_the_next_has_its_turn() -> None:
    turns = Turns(1)

    def fail() -> None:
        raise ValueError("no")

    async def main() -> str:
        with pytest.raises(ValueError, match="no"):
            await turns.take("run", fail)
        return await turns.take("run", lambda: "next")

    assert anyio.run(main) == "next"
