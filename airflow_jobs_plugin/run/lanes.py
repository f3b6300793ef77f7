"""How the task instances of a run share its ``maxConcurrentRequests``: together never more, and no lane idle for long.

Each instance that runs shows, in an XCom of its own, how many lanes it claims and how many items it has for them. All
compute the same shares from that. Who is to have fewer starts no call until it is down to its share, and says so; who
is to have more claims it first, reads what the others claim *after* that, and uses it only if all of it together is
allowed. Of two that claim at the same time, at least one sees the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.run.items import PAYLOAD

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: XCom key of what an instance shows the others.
KEY = "lanes"
#: States of instances that make calls, or may be making them.
ACTIVE = frozenset({"running", "restarting"})


def shares(most: int, wants: dict[int, int]) -> dict[int, int]:
    """Lanes for each of those who want some: one at least, while there are enough, and the rest by how many they want,
    so that all of them are done at about the same time. Nobody gets more than wanted."""
    if sum(wants.values()) <= most:
        return dict(wants)
    hungry = sorted(n for n, want in wants.items() if want > 0)
    given = dict.fromkeys(wants, 0) | dict.fromkeys(hungry[:most], 1)
    left = most - len(hungry)
    if left <= 0:
        return given
    more = sum(wants.values()) - len(hungry)
    rests = []
    for n in hungry:
        whole, rest = divmod(left * (wants[n] - 1), more)
        given[n] += whole
        rests.append((-rest, n))
    for _, n in sorted(rests)[: most - sum(given.values())]:
        given[n] += 1
    return given


def coarse(want: int) -> int:
    """A number of lanes, or of items for them, to an eighth at least: so that others are not told of every item."""
    step = 1 << max(0, want.bit_length() - 4)
    return want // step * step


class Board:
    """What the instances of a run show each other, in Airflow's XComs."""

    def __init__(self, context: Context, index: int) -> None:
        self._ti: Any = context["ti"]
        self._index = index
        #: Whether Airflow still counts on this instance, as of the last look: terminating the run ends that, and so
        #: does marking the instance by hand.
        self.active = True

    def others(self) -> dict[int, tuple[int, int] | None]:
        """What every other instance that runs claims and wants; None of one that has not said anything yet."""
        ti = self._ti
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[PAYLOAD], run_ids=[ti.run_id]).get(ti.run_id, {})
        prefix = f"{PAYLOAD}_"
        active = {
            int(name.removeprefix(prefix)) for name, state in states.items() if state in ACTIVE and name != PAYLOAD
        }
        self.active = states.get(f"{prefix}{self._index}", "running") in ACTIVE
        if active <= {self._index}:
            return {}
        # All of them in one request, those that have ended included.
        values = ti.xcom_pull(task_ids=PAYLOAD, key=KEY) or []
        shown = {
            one["index"]: (one["claim"], one["want"]) for one in (values if isinstance(values, list) else [values])
        }
        return {index: shown.get(index) for index in active if index != self._index}

    def show(self, claim: int, want: int) -> None:
        """Let the others know."""
        self._ti.xcom_push(KEY, {"index": self._index, "claim": claim, "want": want})


class Lanes:
    """The lanes of one instance. ``allowed`` is how many calls it may have in flight."""

    def __init__(self, most: int, index: int, board: Board, call: Callable[..., Any]) -> None:
        self.most = most
        self._index = index
        self._board = board
        self._call = call
        self._shown = (0, 0)
        self.allowed = 0
        #: Whether there is nothing to wait for: neither are own calls to land nor others to leave lanes.
        self.settled = False

    async def settle(self, want: int, flying: Callable[[], int]) -> None:
        """Come to terms with the others; to be called about once a second, and sooner while not ``settled``.

        :param want: how many items there are to be called now, or very soon
        :param flying: how many calls are in flight
        """
        others = await self._call(self._board.others)
        want = coarse(want)
        # Who has not said anything yet is on the way up, and says what it wants before it claims anything.
        wants = {n: 0 if shown is None else shown[1] for n, shown in others.items()}
        # Alone, there is nobody to leave lanes to, and what is wanted may change before the next look.
        targets = shares(self.most, {**wants, self._index: want}) if others else {self._index: self.most}
        target = targets[self._index]
        if target <= self.allowed:
            # A lane that changes hands stands still for a moment, so what is of use and nobody is short of is kept.
            if self.allowed > want or self._is_short(others, targets):
                # Fewer from this moment on. What is in flight still counts until it has landed.
                self.allowed = target
            await self._show(max(self.allowed, min(flying(), self.most)), want)
            self.settled = self._shown[0] <= self.allowed
            return
        free = self.most - _claimed(others)
        raised = min(target, max(free, self.allowed))
        self.settled = not self._lacks(target, raised)
        await self._show(max(raised, flying()), want)
        if raised <= self.allowed:
            return
        claimed = _claimed(await self._call(self._board.others))
        if claimed + raised <= self.most:
            self.allowed = raised
        else:
            # Somebody was as fast. What was had before is still fine, since they saw it claimed.
            await self._show(max(self.allowed, flying()), want)
            self.settled = False

    def _is_short(self, others: dict[int, tuple[int, int] | None], targets: dict[int, int]) -> bool:
        return any(self._lacks(targets[n], shown[0]) for n, shown in others.items() if shown is not None)

    def _lacks(self, target: int, claim: int) -> bool:
        """Whether somebody has no lane, or clearly fewer than would be right."""
        return target - claim > (self.most // 16 if claim else 0)

    async def leave(self) -> None:
        """Leave all lanes to the others: nothing is in flight, and nothing will be."""
        self.allowed = 0
        await self._show(0, 0)

    async def _show(self, claim: int, want: int) -> None:
        if (claim, want) != self._shown:
            await self._call(self._board.show, claim, want)
            self._shown = (claim, want)


def _claimed(others: dict[int, tuple[int, int] | None]) -> int:
    return sum(shown[0] for shown in others.values() if shown is not None)
