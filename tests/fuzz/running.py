"""Many inputs in several processes: counted, timed, and each that breaks something told with its number."""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

#: An input: its verdict, such as ``accepted``. Raises for what does not hold.
Judge = Callable[[str, int], str]
#: Inputs that a process takes at a time.
BATCH = 500
#: Megabytes by which one input may raise what a process has ever had in memory.
MOST_MEGABYTES = 256


@dataclass
class Tally:
    """What came of some inputs."""

    verdicts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    """Number of the input, the fault in a line, and where it came from."""
    slowest: tuple[float, int] = (0.0, -1)
    """Seconds of the processor, and the input's number."""

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.verdicts += other.verdicts
        self.faults += other.faults
        self.slowest = max(self.slowest, other.slowest)


def judged(judge: Judge, seed: str, numbers: range, now: Any = None) -> Tally:
    """Judge these inputs, in this process."""
    tally = Tally()
    for number in numbers:
        if now is not None:
            now.value = number
        memory, began = _peak(), time.process_time()
        try:
            tally.verdicts[judge(seed, number)] += 1
            if (grown := _peak() - memory) > MOST_MEGABYTES:
                raise MemoryError(f"took {grown} MB")
        except Exception as error:
            tally.verdicts["broken"] += 1
            line = f"{type(error).__name__}: {ascii(str(error))[:600]}"
            tally.faults.append((number, line, "".join(traceback.format_tb(error.__traceback__)[-4:])[:3000]))
        tally.slowest = max(tally.slowest, (time.process_time() - began, number))
    return tally


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


_judge: Judge
_now: Any


def _begin(make: Callable[[], Judge], numbers: Any, free: Any) -> None:
    global _judge, _now
    with free.get_lock():
        _now = numbers[free.value]
        free.value += 1
    _judge = make()


def _work(seed: str, numbers: range) -> Tally:
    return judged(_judge, seed, numbers, _now)


def run(make: Callable[[], Judge], seed: str, numbers: range, processes: int, seconds: float | None = None) -> Tally:
    """Judge these inputs in so many processes, or those that ``seconds`` suffice for.

    An input that ends its process ends the run, and is named.
    """
    tally = Tally()
    end = float("inf") if seconds is None else time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    at = [context.Value("q", -1) for _ in range(processes)]
    free = context.Value("i", 0)
    batches = [numbers[n : n + BATCH] for n in range(0, len(numbers), BATCH)]
    with ProcessPoolExecutor(processes, context, _begin, (make, at, free)) as pool:
        try:
            for number, done in enumerate(as_completed([pool.submit(_work, seed, batch) for batch in batches]), 1):
                tally.add(done.result())
                if time.monotonic() > end:
                    pool.shutdown(wait=True, cancel_futures=True)
                    break
                if number % 20 == 0:
                    print(f"{sum(tally.verdicts.values()):>9,} {len(tally.faults)} broken", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            tally.faults.append((-1, f"a process ended at one of the inputs {[value.value for value in at]}", ""))
    return tally


def arguments(what: str) -> Any:
    """What both commands take."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", default="", help="any text; default: one that is drawn")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seconds", type=float, help="when to stop, however many inputs are left")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--show", type=int, default=20, help="how many faults are shown in full")
    given = parser.parse_args()
    given.seed = given.seed or secrets.token_hex(4)
    return given


def report(what: str, make: Callable[[], Judge]) -> int:
    """The command: run, print the figures, and return what the process ends with."""
    given = arguments(what)
    began = time.monotonic()
    tally = run(make, given.seed, range(given.first, given.first + given.inputs), given.processes, given.seconds)
    seconds = time.monotonic() - began
    for line in _told(tally, given.show):
        print(line)
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in tally.verdicts.most_common())
    print(
        f"seed {given.seed}: {sum(tally.verdicts.values()):,} inputs, {counts}; {len(tally.faults)} broke something; "
        f"slowest {tally.slowest[0]:.2f} s (input {tally.slowest[1]}); {seconds:.0f} s"
    )
    return 1 if tally.faults else 0


def _told(tally: Tally, most: int) -> Iterator[str]:
    """The faults, one of each kind."""
    kinds: dict[str, tuple[int, str, str, int]] = {}
    for number, line, where in tally.faults:
        # The same place of the code and the same words are one kind.
        kind = where[-300:] + line.partition(":")[0] + line[:60]
        first = kinds.get(kind)
        kinds[kind] = (number, line, where, 1) if first is None else (*first[:3], first[3] + 1)
    for number, line, where, count in sorted(kinds.values(), key=lambda kind: -kind[3])[:most]:
        yield f"-- input {number} ({count} of the kind)\n{line}\n{where}"
