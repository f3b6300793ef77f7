"""Sets of clock times as unions of *blocks*: some dates, each with the same times of day.

A calendar is one block, what a skip calendar leaves of it is at most two for each that was there. So what is left of
a schedule is known before any search, and a schedule of which nothing is left is found out at once. Dates and
times of day are bits of whole numbers: bit 0 is the first day that calendars know, or midnight.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd, lcm

from timetables.zones import DAY, Offsets

Block = tuple[int, int]

ALL_TIMES = (1 << DAY) - 1
#: With more blocks than this the rest of the skips is left to whoever searches: each block costs every search some
#: microseconds, and a hundred skips can make any number of blocks.
MOST_BLOCKS = 256
#: The longest cycle of days over which an interval's times of day are told apart.
LONGEST_CYCLE = 31


def subtract(blocks: Iterable[Block], taken: Iterable[Block]) -> list[Block]:
    """The blocks less others, without empty ones. Of very many skips some are left out (``MOST_BLOCKS``)."""
    left = [block for block in blocks if all(block)]
    for dates, times in taken:
        if len(left) > MOST_BLOCKS:
            return left
        # By times of day, so that dates with the same times stay together.
        parts: dict[int, int] = {}
        for ours, at in left:
            for kept, when in ((ours & ~dates, at), (ours & dates, at & ~times)):
                if kept and when:
                    parts[when] = parts.get(when, 0) | kept
        left = [(kept, when) for when, kept in parts.items()]
    return left


class Blocks:
    """A union of blocks as something to search, in seconds on a plain clock.

    :param first: the day, counted from 1970-01-01, that is bit 0 of the dates
    """

    def __init__(self, blocks: Iterable[Block], first: int) -> None:
        self._blocks = [(dates, times, _lowest(times), times.bit_length() - 1) for dates, times in blocks]
        self._first = first

    def next(self, clock: int) -> int | None:
        """The least member that is at least ``clock``."""
        day, time = divmod(clock - self._first * DAY, DAY)
        if day < 0:
            day, time = 0, 0
        best: int | None = None
        for dates, times, earliest, _ in self._blocks:
            ahead = dates >> day
            if ahead & 1 and (rest := times >> time):
                found = day * DAY + time + _lowest(rest)
            elif ahead := ahead >> 1:
                found = (day + 1 + _lowest(ahead)) * DAY + earliest
            else:
                continue
            if best is None or found < best:
                best = found
        return None if best is None else best + self._first * DAY

    def previous(self, clock: int) -> int | None:
        """The greatest member that is at most ``clock``."""
        day, time = divmod(clock - self._first * DAY, DAY)
        if day < 0:
            return None
        best: int | None = None
        for dates, times, _, latest in self._blocks:
            if dates >> day & 1 and (rest := times & (1 << time + 1) - 1):
                found = day * DAY + rest.bit_length() - 1
            elif behind := dates & (1 << day) - 1:
                found = (behind.bit_length() - 1) * DAY + latest
            else:
                continue
            if best is None or found > best:
                best = found
        return None if best is None else best + self._first * DAY


class SkippedInterval:
    """An interval less skips, in milliseconds since the epoch.

    Where a clock is set decides what a skip takes out of an interval, so there are blocks for each offset of the
    zone. They hold the clock's seconds in which the interval fires; of intervals that take more than
    ``LONGEST_CYCLE`` days to come back to the same times of day, all in which it may.

    :param taken: the blocks of the skips
    :param dates: a bit for every day that calendars know
    :param first: the day of bit 0
    """

    def __init__(self, every: int, offset: int, zone: Offsets, taken: list[Block], dates: int, first: int) -> None:
        self._every, self._offset = every, offset
        self._zone = zone
        self._taken, self._dates, self._first = taken, dates, first
        self._end = (first + dates.bit_length()) * DAY
        self._made: dict[int, Blocks] = {}

    def next(self, after: int) -> int | None:
        """The first run time after ``after``."""
        second = max((after + 1) // 1000, self._first * DAY - DAY)
        while True:
            _, end, offset = self._zone.span(second)
            found = self._blocks(offset).next(second + offset)
            if found is None or found - offset >= end:
                if end + offset >= self._end:
                    return None
                second = end
                continue
            second = found - offset
            least = max(second * 1000 - 1, after)
            tick = ((least - self._offset) // self._every + 1) * self._every + self._offset
            if tick // 1000 == second:
                return tick
            second = tick // 1000

    def previous(self, before: int) -> int | None:
        """The last run time before ``before``."""
        second = min((before - 1) // 1000, self._end + DAY)
        while True:
            start, _, offset = self._zone.span(second)
            found = self._blocks(offset).previous(second + offset)
            if found is None or found - offset < start:
                if start + offset <= self._first * DAY:
                    return None
                second = start - 1
                continue
            second = found - offset
            most = min(second * 1000 + 1000, before) - 1
            tick = (most - self._offset) // self._every * self._every + self._offset
            if tick // 1000 == second:
                return tick
            second = tick // 1000

    def _blocks(self, offset: int) -> Blocks:
        made = self._made.get(offset)
        if made is None:
            left = subtract(self._whole(offset), self._taken)
            made = self._made[offset] = Blocks(left, self._first)
        return made

    def _whole(self, offset: int) -> list[Block]:
        """The clock's seconds in which the interval fires, or may, where the zone is that far from UTC."""
        step = gcd(self._every, DAY * 1000)
        cycle = self._every // step
        if step < 1000:
            return [(self._dates, ALL_TIMES)]
        if cycle > LONGEST_CYCLE:
            return [(self._dates, _seconds((self._offset + offset * 1000) % step, DAY * 1000, step))]
        # What fires on the nth day of a cycle, which is counted from the first day.
        first = (self._offset + (offset - self._first * DAY) * 1000) % self._every
        ticks = _seconds(first, cycle * DAY * 1000, self._every)
        nth = _every_nth(cycle, self._dates.bit_length())
        days = [(nth << day & self._dates, ticks >> day * DAY & ALL_TIMES) for day in range(cycle)]
        return [(dates, times) for dates, times in days if times]


def _lowest(bits: int) -> int:
    """The lowest bit that is set."""
    return (bits & -bits).bit_length() - 1


def _seconds(first: int, end: int, step: int) -> int:
    """A bit for each second in which there is one of ``first``, ``first + step`` …, in milliseconds."""
    # Those up to where seconds and steps meet again, and these over and over: one by one they would take seconds where
    # a schedule has a thousand intervals.
    period, bits = lcm(step, 1000), 0
    for at in range(first, min(end, first + period), step):
        bits |= 1 << at // 1000
    have = period // 1000
    while have < end // 1000:
        bits |= bits << have
        have *= 2
    return bits & (1 << end // 1000) - 1


def _every_nth(n: int, size: int) -> int:
    """Bits 0, n, 2n … below ``size``."""
    bits, have = 1, n
    while have < size:
        bits |= bits << have
        have *= 2
    return bits & (1 << size) - 1
