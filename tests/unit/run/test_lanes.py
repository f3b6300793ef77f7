from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_jobs_plugin.run.batches import tasks_at_once
from airflow_jobs_plugin.run.lanes import Lanes, coarse, shares


@given(st.integers(1, 60), st.dictionaries(st.integers(0, 9), st.integers(0, 10_000), min_size=1))
def test_shares_go_by_what_there_is_to_do_and_leave_nothing_unused(most: int, wants: dict[int, int]) -> None:
    given_ = shares(most, wants)
    total = sum(wants.values())
    assert sum(given_.values()) == min(most, total)
    hungry = sum(want > 0 for want in wants.values())
    for n, got in given_.items():
        assert 0 <= got <= wants[n]
        if hungry <= most:
            assert got >= min(1, wants[n]), "nobody stands still while others have lanes"
        if total > most >= hungry:
            # What is not divided to the last lane, and the one that everybody has.
            assert abs(got - most * wants[n] / total) <= hungry
    assert list(given_) == list(wants)


def test_one_who_wants_little_leaves_the_rest_to_others() -> None:
    assert shares(10, {0: 2, 1: 50}) == {0: 1, 1: 9}
    assert shares(10, {0: 2, 1: 5}) == {0: 2, 1: 5}
    assert shares(50, {0: 4000, 1: 4000}) == {0: 25, 1: 25}
    assert shares(50, {0: 1000, 1: 4000}) == {0: 11, 1: 39}
    assert shares(10, {4: 50, 7: 50, 9: 50}) == {4: 4, 7: 3, 9: 3}
    assert shares(1, {2: 5, 3: 5}) == {2: 1, 3: 0}
    assert shares(3, {2: 0, 3: 0}) == {2: 0, 3: 0}


@given(st.integers(0, 10**9))
def test_others_are_told_to_an_eighth(want: int) -> None:
    told = coarse(want)
    assert want * 7 / 8 <= told <= want
    assert want >= 16 or told == want


def test_those_who_share_the_lanes_are_done_at_about_the_same_time() -> None:
    """One begins while the other has had all lanes for a while."""
    left, most = {0: 1000, 1: 1400}, 50
    ended: dict[int, int] = {}
    for tick in range(100):
        for n, got in shares(most, {n: coarse(items) for n, items in left.items()}).items():
            left[n] = max(0, left[n] - got)
            if not left[n]:
                ended.setdefault(n, tick)
    assert abs(ended[0] - ended[1]) <= 1


@pytest.mark.parametrize(("lanes", "tasks"), [(1, 1), (2, 2), (50, 3), (64, 3), (200, 4), (1000, 16)])
def test_tasks_to_spare_so_that_one_can_start_while_another_ends(lanes: int, tasks: int) -> None:
    assert tasks_at_once(lanes, 1000) == tasks


@pytest.mark.parametrize(("lanes", "size", "tasks"), [(10, 4, 5), (50, 4, 15), (3, 2, 3), (200, 100, 4)])
def test_batches_that_are_too_small_for_all_lanes_run_in_as_many_tasks_as_it_takes(
    lanes: int, size: int, tasks: int
) -> None:
    assert tasks_at_once(lanes, size) == tasks


class World:
    """The instances of a run as Airflow shows them to each other."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.shown: dict[int, tuple[int, int]] = {}


class OneBoard:
    def __init__(self, world: World, index: int) -> None:
        self._world, self._index = world, index

    def others(self) -> dict[int, tuple[int, int] | None]:
        world = self._world
        return {n: world.shown.get(n) for n in world.running if n != self._index}

    def show(self, claim: int, want: int) -> None:
        self._world.shown[self._index] = (claim, want)


class Instance:
    """One that drives a batch: every call takes a while, and it may end, or die with calls in flight."""

    def __init__(self, world: World, index: int, most: int, items: int, chance: random.Random) -> None:
        self.world, self.index, self.chance = world, index, chance
        self.left, self.flying = items, 0
        self.lanes = Lanes(most, index, OneBoard(world, index), self._slowly)  # type: ignore[arg-type]
        self.done = False

    async def _slowly(self, function: Any, *arguments: Any) -> Any:
        # Requests take a while before they are done and after that, so that everything may race.
        await asyncio.sleep(self.chance.uniform(0, 0.004))
        found = function(*arguments)
        await asyncio.sleep(self.chance.uniform(0, 0.004))
        return found

    async def run(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.1))
        self.world.running.add(self.index)
        ticking = asyncio.create_task(self._tick())
        while self.left or self.flying:
            while self.left and self.flying < self.lanes.allowed:
                self.left -= 1
                self.flying += 1
                asyncio.get_running_loop().call_later(self.chance.uniform(0.001, 0.02), self._land)
            await asyncio.sleep(0.001)
        ticking.cancel()
        self.world.running.discard(self.index)
        self.done = True

    def _land(self) -> None:
        self.flying -= 1

    async def _tick(self) -> None:
        while True:
            await self.lanes.settle(self.left + self.flying, lambda: self.flying)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(12))
def test_together_never_more_than_allowed_and_no_lane_idle_for_long(seed: int) -> None:
    chance = random.Random(seed)
    most = chance.choice((1, 2, 5, 16, 50))
    world = World()
    count = chance.randint(2, 6)
    instances = [Instance(world, n, most, chance.randint(20, 400), chance) for n in range(count)]
    worst, used, looks = 0, 0, 0

    async def watch() -> None:
        nonlocal worst, used, looks
        while not all(one.done for one in instances):
            flying = sum(one.flying for one in instances)
            worst = max(worst, flying)
            waiting = sum(one.left for one in instances if one.index in world.running)
            if waiting > most:
                used += flying
                looks += 1
            await asyncio.sleep(0.002)

    async def play() -> None:
        await asyncio.wait_for(asyncio.gather(watch(), *(one.run() for one in instances)), 60)

    asyncio.run(play())
    assert worst <= most
    if looks > 50 and most > 1:
        assert used / looks > 0.4 * most, "lanes stood idle while there was work"


def settled(most: int, shown: dict[int, tuple[int, int]], want: int, flying: int = 0, allowed: int = 0) -> Lanes:
    """Instance 0 after one look at what the others show."""
    world = World()
    world.running, world.shown = {0, *shown}, dict(shown)

    async def at_once(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    lanes = Lanes(most, 0, OneBoard(world, 0), at_once)  # type: ignore[arg-type]
    lanes.allowed = allowed
    asyncio.run(lanes.settle(want, lambda: flying))
    return lanes


def test_a_lane_or_two_that_nobody_is_short_of_stays_where_it_is() -> None:
    lanes = settled(50, {1: (24, 4096)}, want=4096, flying=26, allowed=26)
    assert (lanes.allowed, lanes.settled) == (26, True)
    # The other one does not wait for them, either.
    lanes = settled(50, {1: (26, 4096)}, want=4096, flying=24, allowed=24)
    assert (lanes.allowed, lanes.settled) == (24, True)


def test_who_has_far_too_many_or_all_leaves_some() -> None:
    lanes = settled(50, {1: (10, 4096)}, want=4096, flying=40, allowed=40)
    assert (lanes.allowed, lanes.settled) == (25, False), "they are free when the calls in them have ended"
    assert settled(50, {1: (0, 4096)}, want=4096, flying=0, allowed=50).allowed == 25
    # Of few lanes each one counts.
    assert settled(5, {1: (1, 4096)}, want=4096, flying=4, allowed=4).allowed == 3


def test_who_waits_for_a_last_call_keeps_no_lane_but_its_own() -> None:
    assert settled(50, {1: (46, 4096)}, want=1, flying=1, allowed=4).allowed == 1
