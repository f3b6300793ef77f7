"""Watching a run until it ends, through whatever happens to the connection."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from airflow_jobs_plugin.errors import RemoteError
from airflow_jobs_plugin.remote.session import Json
from airflow_jobs_plugin.remote.text import cut, safe, span

#: Every status but these is the last one of a run.
UNFINISHED = ("PENDING", "PAUSING", "PAUSED")
GOOD = ("SUCCESS", "COMPLETED")
KINDS = ("pending", "running", "retrying", "succeeded", "failed", "canceled")

#: Seconds between two looks; after a failed one that grows to the second.
INTERVAL, LONGEST_INTERVAL = 1.0, 10.0
#: Seconds without any answer after which there is nothing to wait for.
GIVE_UP = 15 * 60.0
#: Seconds that the shown rate looks back.
WINDOW = 15.0
#: Seconds between two lines where there is no terminal.
QUIET = 5.0
BAR = 24


def until_ended(
    look: Callable[[], Json],
    progress: Progress,
    *,
    reached: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Json:
    """Look at a run until it has ended; returns it as it then is.

    Once a first look has succeeded, failures that may pass are waited out, as when the API server starts again.

    :param look: gets the run as the API answers it, ``jobRun`` of the answer
    :param reached: the API has just answered, so that the first look is as good as any other
    :raises RemoteError: there is no such run (any more), or no answer for ``GIVE_UP`` seconds
    """
    run = _persistently(look, progress, clock, sleep) if reached else look()
    while True:
        progress.show(run)
        if run["status"] not in UNFINISHED:
            return run
        sleep(INTERVAL)
        run = _persistently(look, progress, clock, sleep)


def _persistently(
    look: Callable[[], Json], progress: Progress, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Json:
    end = clock() + GIVE_UP
    wait = INTERVAL
    while True:
        try:
            return look()
        except RemoteError as error:
            if not error.passing or clock() > end:
                raise
            progress.trouble(str(error))
        sleep(wait)
        wait = min(wait * 2, LONGEST_INTERVAL)


class Progress:
    """A bar with counts and rate on a terminal; elsewhere plain lines, not too many.

    :param live: whether the stream is a terminal that can write over a line
    """

    def __init__(self, stream: IO[str], *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._live = live
        self._clock = clock
        self._began = clock()
        self._seen: deque[tuple[float, int]] = deque()
        self._status = ""
        self._text = ""
        self._printed: float | None = None
        self._trouble = False

    def show(self, run: Json) -> None:
        """Show a run as it is now."""
        now, counts, status = self._clock(), run["counts"], str(run["status"])
        total = counts["total"]
        ended = counts["succeeded"] + counts["failed"] + counts["canceled"]
        said = (
            ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) if total is not None else "planning"
        )
        if status in ("PAUSING", "PAUSED"):
            said = f"{status.lower()}: {said}"
        rate = self._rate(now, ended)
        over = status not in UNFINISHED
        if self._live:
            self._draw(now, ended, total, said, rate)
        elif (said, status) != (self._text, self._status) or self._trouble:
            # A change of status is told at once; of many counts in a row, some.
            due = self._printed is None or now - self._printed >= QUIET
            if due or over or self._trouble or status != self._status:
                speed = f", {rate}" if rate else ""
                self._print(f"{ended}/{total if total is not None else '?'} ended: {said}{speed}")
                self._text, self._status = said, status
        self._trouble = False

    def trouble(self, text: str) -> None:
        """Say why nothing newer can be shown."""
        if self._live:
            self._write(safe(f"{text}; trying again"))
        elif not self._trouble:
            self._print(f"{text}; trying again")
        self._trouble = True

    def close(self) -> None:
        """Take the bar away."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, now: float, ended: int, total: int | None, said: str, rate: str) -> None:
        filled = BAR * ended // total if total else 0
        bar = "#" * filled + "-" * (BAR - filled)
        numbers = f"{ended}/{total}" if total is not None else "?"
        parts = (f"[{bar}] {numbers}", rate, span(now - self._began), said)
        self._write("  ".join(safe(part) for part in parts if part))

    def _rate(self, now: float, ended: int) -> str:
        """Items that ended per second, of late; empty where that cannot be said."""
        self._seen.append((now, ended))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        then, before = self._seen[0]
        passed = now - then
        return f"{(ended - before) / passed:.1f}/s" if passed >= INTERVAL / 2 and ended >= before else ""

    def _write(self, text: str) -> None:
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            width = 80
        self._stream.write(f"\r{cut(text, max(width - 1, 1))}\x1b[K")
        self._stream.flush()

    def _print(self, text: str) -> None:
        self._stream.write(f"{safe(text)}\n")
        self._stream.flush()
        self._printed = self._clock()
