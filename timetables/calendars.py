"""One calendar of a schedule as arithmetic on a plain clock, and on a zone's clock.

A *clock* is a number of seconds that a wall clock would have counted since 1970-01-01T00:00:00 on it: no zone,
no daylight saving. Searching goes from the year down to the second; nothing steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Protocol

from airflow_jobs_plugin.spec import Calendar
from airflow_jobs_plugin.spec.schedule import FIRST_YEAR, LAST_YEAR
from timetables.blocks import Block
from timetables.zones import DAY, FARTHEST, Offsets

_EPOCH = date(1970, 1, 1).toordinal()
_YEARS = range(FIRST_YEAR, LAST_YEAR + 1)
#: Day numbers of every 1st of January, one more than there are years.
_NEW_YEAR = [date(year, 1, 1).toordinal() - _EPOCH for year in (*_YEARS, LAST_YEAR + 1)]
#: The first day that calendars know, and a bit for each.
FIRST_DAY = _NEW_YEAR[0]
ALL_DATES = (1 << _NEW_YEAR[-1] - _NEW_YEAR[0]) - 1
_LENGTHS = ((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31))
_MONTH_STARTS = tuple(tuple(sum(lengths[:month]) for month in range(12)) for lengths in _LENGTHS)
#: A span is long if the zone's next change cannot bring back a clock time of before it.
_LONG = 2 * FARTHEST


def _ahead(values: Iterable[int], size: int) -> list[int]:
    """For each n up to ``size``, the least value that is at least n, or -1."""
    wanted = set(values)
    table = [-1] * (size + 2)
    for n in range(size, -1, -1):
        table[n] = n if n in wanted else table[n + 1]
    return table


def _behind(values: Iterable[int], size: int) -> list[int]:
    """For each n up to ``size``, the greatest value that is at most n, or -1. Index -1 is -1 too."""
    wanted = set(values)
    table = [-1] * (size + 2)
    last = -1
    for n in range(size + 1):
        last = n if n in wanted else last
        table[n] = last
    return table


class Clock(Protocol):
    """Times on a plain clock that can be searched."""

    def next(self, clock: int) -> int | None:
        """The least one that is at least ``clock``."""

    def previous(self, clock: int) -> int | None:
        """The greatest one that is at most ``clock``."""


class ClockCalendar:
    """The matches of a calendar on a plain clock."""

    def __init__(self, calendar: Calendar) -> None:
        self._times = calendar.second, calendar.minute, calendar.hour
        self._hours = _ahead(calendar.hour, 24), _behind(calendar.hour, 24)
        self._minutes = _ahead(calendar.minute, 60), _behind(calendar.minute, 60)
        self._seconds = _ahead(calendar.second, 60), _behind(calendar.second, 60)
        self._first = calendar.hour[0] * 3600 + calendar.minute[0] * 60 + calendar.second[0]
        self._last = calendar.hour[-1] * 3600 + calendar.minute[-1] * 60 + calendar.second[-1]
        self._dates = self._masks(calendar)
        self._next_year = _ahead((year - FIRST_YEAR for year, masks in self._dates.items() if masks), len(_YEARS))
        self._last_year = _behind((year - FIRST_YEAR for year, masks in self._dates.items() if masks), len(_YEARS))

    def block(self) -> Block:
        """The same as dates and times of day."""
        dates = 0
        for year, masks in self._dates.items():
            if masks:
                starts = _MONTH_STARTS[_leap(year - FIRST_YEAR)]
                days = sum(mask << start for mask, start in zip(masks, starts, strict=True))
                dates |= days << _NEW_YEAR[year - FIRST_YEAR] - FIRST_DAY
        second, minute, hour = (_bits(values) for values in self._times)
        return dates, _spread(_spread(second, minute, 60), hour, 3600)

    @staticmethod
    def _masks(calendar: Calendar) -> dict[int, list[int]]:
        """By year, a mask of matching days for each month, bit 0 the 1st; empty where the year has no match."""
        days = sum(1 << day - 1 for day in calendar.day_of_month)
        # By the weekday of the 1st, Sunday 0.
        weekdays = [
            sum(1 << n for n in range(31) if (first + n) % 7 in calendar.day_of_week) for first in range(7)
        ]  # fmt: skip
        kinds: dict[tuple[int, int], list[int]] = {}
        by_year = {}
        for year in calendar.year:
            index = year - FIRST_YEAR
            leap = _leap(index)
            # 1970-01-01 was a Thursday, 4.
            kind = leap, (_NEW_YEAR[index] + 4) % 7
            masks = kinds.get(kind)
            if masks is None:
                masks = [0] * 12
                for month in calendar.month:
                    length, start = _LENGTHS[leap][month - 1], _MONTH_STARTS[leap][month - 1]
                    masks[month - 1] = days & weekdays[(kind[1] + start) % 7] & (1 << length) - 1
                kinds[kind] = masks = masks if any(masks) else []
            by_year[year] = masks
        return by_year

    def next(self, clock: int) -> int | None:
        """The least match that is at least ``clock``."""
        day, time = divmod(clock, DAY)
        ahead = self._time_ahead(time)
        found = self._day_ahead(day if ahead >= 0 else day + 1)
        if found is None:
            return None
        return found * DAY + (ahead if found == day else self._first)

    def previous(self, clock: int) -> int | None:
        """The greatest match that is at most ``clock``."""
        day, time = divmod(clock, DAY)
        behind = self._time_behind(time)
        found = self._day_behind(day if behind >= 0 else day - 1)
        if found is None:
            return None
        return found * DAY + (behind if found == day else self._last)

    def matches(self, clock: int) -> bool:
        """Whether the clock time is a match."""
        return self.next(clock) == clock

    def _time_ahead(self, time: int) -> int:
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        hours, minutes, seconds = self._hours[0], self._minutes[0], self._seconds[0]
        if hours[hour] == hour:
            if minutes[minute] == minute and (found := seconds[second]) >= 0:
                return hour * 3600 + minute * 60 + found
            if (found := minutes[minute + 1]) >= 0:
                return hour * 3600 + found * 60 + seconds[0]
        found = hours[hour + 1]
        return found * 3600 + minutes[0] * 60 + seconds[0] if found >= 0 else -1

    def _time_behind(self, time: int) -> int:
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        hours, minutes, seconds = self._hours[1], self._minutes[1], self._seconds[1]
        if hours[hour] == hour:
            if minutes[minute] == minute and (found := seconds[second]) >= 0:
                return hour * 3600 + minute * 60 + found
            if (found := minutes[minute - 1]) >= 0:
                return hour * 3600 + found * 60 + seconds[59]
        found = hours[hour - 1]
        return found * 3600 + minutes[59] * 60 + seconds[59] if found >= 0 else -1

    def _day_ahead(self, day: int) -> int | None:
        if day < _NEW_YEAR[0]:
            day = _NEW_YEAR[0]
        elif day >= _NEW_YEAR[-1]:
            return None
        on = date.fromordinal(day + _EPOCH)
        masks = self._dates.get(on.year)
        if masks:
            month = on.month - 1
            mask = masks[month] >> on.day - 1
            if mask:
                return day + (mask & -mask).bit_length() - 1
            found = self._first_in(on.year, masks, month + 1)
            if found is not None:
                return found
        index = self._next_year[on.year - FIRST_YEAR + 1]
        return self._first_in(index + FIRST_YEAR, self._dates[index + FIRST_YEAR], 0) if index >= 0 else None

    def _day_behind(self, day: int) -> int | None:
        if day >= _NEW_YEAR[-1]:
            day = _NEW_YEAR[-1] - 1
        elif day < _NEW_YEAR[0]:
            return None
        on = date.fromordinal(day + _EPOCH)
        masks = self._dates.get(on.year)
        if masks:
            month = on.month - 1
            mask = masks[month] & (1 << on.day) - 1
            if mask:
                return day - on.day + mask.bit_length()
            found = self._last_in(on.year, masks, month - 1)
            if found is not None:
                return found
        index = self._last_year[on.year - FIRST_YEAR - 1]
        return self._last_in(index + FIRST_YEAR, self._dates[index + FIRST_YEAR], 11) if index >= 0 else None

    @staticmethod
    def _first_in(year: int, masks: list[int], month: int) -> int | None:
        for number in range(month, 12):
            if mask := masks[number]:
                return _first_of(year, number) + (mask & -mask).bit_length() - 1
        return None

    @staticmethod
    def _last_in(year: int, masks: list[int], month: int) -> int | None:
        for number in range(month, -1, -1):
            if mask := masks[number]:
                return _first_of(year, number) + mask.bit_length() - 1
        return None


def _first_of(year: int, month: int) -> int:
    index = year - FIRST_YEAR
    return _NEW_YEAR[index] + _MONTH_STARTS[_leap(index)][month]


def _leap(index: int) -> int:
    return _NEW_YEAR[index + 1] - _NEW_YEAR[index] - 365


def _bits(values: Iterable[int]) -> int:
    return sum(1 << value for value in values)


def _spread(pattern: int, at: int, size: int) -> int:
    """The pattern at each multiple of ``size`` whose bit is set."""
    return sum(pattern << n * size for n in range(at.bit_length()) if at >> n & 1)


def next_instant(calendar: Clock, zone: Offsets, instant: int) -> int | None:
    """The least instant, at least ``instant``, at which the zone's clock matches.

    Goes from span to span of constant offset: a clock time that is left out is in no span, one that comes twice
    is in two. Where the next match is far off, the spans in between are passed over.
    """
    while True:
        _, end, offset = zone.span(instant)
        clock = calendar.next(instant + offset)
        if clock is not None and clock - offset < end:
            return clock - offset
        if end - instant >= _LONG:
            # No later change can bring back a clock time of before this span: what is not ahead is nowhere.
            if clock is None:
                return None
            instant = max(end, clock - _LONG)
        else:
            instant = end


def previous_instant(calendar: Clock, zone: Offsets, instant: int) -> int | None:
    """The greatest instant, at most ``instant``, at which the zone's clock matches."""
    while True:
        start, _, offset = zone.span(instant)
        clock = calendar.previous(instant + offset)
        if clock is not None and clock - offset >= start:
            return clock - offset
        if instant - start >= _LONG:
            if clock is None:
                return None
            instant = min(start - 1, clock + _LONG)
        else:
            instant = start - 1
