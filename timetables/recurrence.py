"""The run times of a schedule: the union of intervals and calendars, less ``skip``, within ``startAt``…``endAt``.

Pure arithmetic on integer milliseconds since the Unix epoch; the clock is never read. Daylight saving: a calendar
matches the literal clock of the schedule's zone, a local time that does not exist is skipped, one that occurs twice
fires twice. Intervals know no zone. Nominal times only: jitter is added by :func:`delay`.
"""

from __future__ import annotations

import hashlib
from calendar import timegm
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from airflow_jobs_plugin.spec import Schedule
from timetables.blocks import Blocks, SkippedInterval, subtract
from timetables.calendars import ALL_DATES, FIRST_DAY, Clock, ClockCalendar, next_instant, previous_instant
from timetables.zones import offsets

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
#: What a datetime can hold.
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

#: What is left of a schedule that skips is known before the search, unless its skips overlap in more than
#: ``blocks.MOST_BLOCKS`` ways. Then so many run times in a row that are skipped are taken for all of them.
MOST_SKIPPED = 500_000


def next_after(schedule: Schedule, after: datetime) -> datetime | None:
    """The first run time strictly after ``after``, or None if there is none.

    Takes an aware datetime; returns one in UTC, without jitter. Raises ``ValueError`` for a naive datetime.
    """
    found = recurrence(schedule).next(_milliseconds(after))
    return None if found is None else _instant(found)


def previous_before(schedule: Schedule, before: datetime) -> datetime | None:
    """The last run time strictly before ``before``, or None; as :func:`next_after` otherwise."""
    found = recurrence(schedule).previous(_milliseconds_up(before))
    return None if found is None else _instant(found)


def upcoming(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """All run times strictly after ``after``, one by one; endless for most schedules."""
    times = recurrence(schedule)
    found = times.next(_milliseconds(after))
    while found is not None:
        yield _instant(found)
        found = times.next(found)


def delay(schedule: Schedule, job_id: str, tick: datetime) -> timedelta:
    """The jitter of one run time: in [0, jitter), never reaching the next run time.

    Depends on the job's id and the nominal time alone, so that it is the same on every machine and after every
    restart.
    """
    if not schedule.jitter:
        return timedelta(0)
    at = _milliseconds(tick)
    following = recurrence(schedule).next(at)
    span = schedule.jitter if following is None else min(schedule.jitter, following - at)
    digest = hashlib.sha256(f"{job_id}\n{at}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(digest[:8], "big") % span)


def recurrence(schedule: Schedule) -> Recurrence:
    """The schedule made ready for searching; kept for the schedules that were asked for last."""
    known = _known.get(id(schedule))
    if known is not None and known[0] is schedule:
        return known[1]
    made = Recurrence(schedule)
    _known[id(schedule)] = schedule, made
    if len(_known) > 256:
        _known.popitem(last=False)
    return made


_known: OrderedDict[int, tuple[Schedule, Recurrence]] = OrderedDict()


class Recurrence:
    """A schedule's run times in milliseconds since the epoch.

    With ``skip``, they lie in the years that calendars know.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._zone = offsets(schedule.timezone)
        self._start = _FIRST if schedule.start_at is None else _milliseconds_up(schedule.start_at)
        self._end = _LAST if schedule.end_at is None else _milliseconds(schedule.end_at)
        self._skip = [ClockCalendar(calendar) for calendar in schedule.skip]
        self._calendars: list[Clock] = [ClockCalendar(calendar) for calendar in schedule.calendars]
        self._intervals = [(interval.every, interval.offset) for interval in schedule.intervals]
        self._skipped_intervals: list[SkippedInterval] = []
        if self._skip:
            taken = [skip.block() for skip in self._skip]
            left = [subtract([ClockCalendar(calendar).block()], taken) for calendar in schedule.calendars]
            self._calendars = [Blocks(blocks, FIRST_DAY) for blocks in left if blocks]
            self._skipped_intervals = [
                SkippedInterval(every, offset, self._zone, taken, ALL_DATES, FIRST_DAY)
                for every, offset in self._intervals
            ]
            self._intervals = []

    def next(self, after: int) -> int | None:
        """The first run time after ``after``, or None."""
        after = max(after, self._start - 1)
        for _ in range(MOST_SKIPPED):
            if after >= self._end:
                return None
            found = self._next(after)
            if found is None or found > self._end:
                return None
            if not self._skips(found):
                return found
            after = found
        return None

    def previous(self, before: int) -> int | None:
        """The last run time before ``before``, or None."""
        before = min(before, self._end + 1)
        for _ in range(MOST_SKIPPED):
            if before <= self._start:
                return None
            found = self._previous(before)
            if found is None or found < self._start:
                return None
            if not self._skips(found):
                return found
            before = found
        return None

    def _next(self, after: int) -> int | None:
        best: int | None = None
        for every, offset in self._intervals:
            found = ((after - offset) // every + 1) * every + offset
            if best is None or found < best:
                best = found
        for interval in self._skipped_intervals:
            tick = interval.next(after)
            if tick is not None and (best is None or tick < best):
                best = tick
        second = after // 1000 + 1
        for calendar in self._calendars:
            instant = next_instant(calendar, self._zone, second)
            if instant is not None and (best is None or instant * 1000 < best):
                best = instant * 1000
        return best

    def _previous(self, before: int) -> int | None:
        best: int | None = None
        for every, offset in self._intervals:
            found = ((before - 1 - offset) // every) * every + offset
            if best is None or found > best:
                best = found
        for interval in self._skipped_intervals:
            tick = interval.previous(before)
            if tick is not None and (best is None or tick > best):
                best = tick
        second = (before - 1) // 1000
        for calendar in self._calendars:
            instant = previous_instant(calendar, self._zone, second)
            if instant is not None and (best is None or instant * 1000 > best):
                best = instant * 1000
        return best

    def _skips(self, at: int) -> bool:
        if not self._skip:
            return False
        second = at // 1000
        clock = second + self._zone.span(second)[2]
        return any(skip.matches(clock) for skip in self._skip)


def _milliseconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; instants are aware, for instance in UTC")
    # Not by subtraction: Airflow's instants are pendulum's, whose differences do not divide.
    return timegm(instant.utctimetuple()) * 1000 + instant.microsecond // 1000


def _milliseconds_up(instant: datetime) -> int:
    return _milliseconds(instant) + (instant.microsecond % 1000 > 0)


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
