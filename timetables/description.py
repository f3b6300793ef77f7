"""A schedule in one line of English."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from airflow_jobs_plugin.spec import Calendar, Schedule, format_duration
from airflow_jobs_plugin.spec.schedule import FIRST_YEAR, LAST_YEAR, MONTHS, WEEKDAYS

#: How many intervals and calendars, and how many skips, are described; a schedule may have a thousand.
MOST_PARTS = 20


def describe(schedule: Schedule) -> str:
    """``every 7 days and on day 1 of every month at 00:00, Europe/Berlin``."""
    parts = []
    for interval in schedule.intervals[:MOST_PARTS]:
        shift = f" shifted by {format_duration(interval.offset)}" if interval.offset else ""
        parts.append(f"every {_period(interval.every)}{shift}")
    parts += [_calendar(calendar) for calendar in schedule.calendars[:MOST_PARTS]]
    left = len(schedule.intervals) + len(schedule.calendars) - MOST_PARTS
    text = " and ".join(parts[:MOST_PARTS] + ([f"{left:,} more"] if left > 0 else []))
    if schedule.skip:
        skips = [_calendar(calendar) for calendar in schedule.skip[:MOST_PARTS]]
        left = len(schedule.skip) - MOST_PARTS
        text += ", but not " + " nor ".join(skips + ([f"{left:,} more"] if left > 0 else []))
    if schedule.calendars or schedule.skip:
        text += f", {schedule.timezone}"
    if schedule.start_at is not None:
        text += f", from {_instant(schedule.start_at)}"
    if schedule.end_at is not None:
        text += f", until {_instant(schedule.end_at)}"
    if schedule.jitter:
        text += f", up to {format_duration(schedule.jitter)} later"
    return text


def _period(milliseconds: int) -> str:
    # "every day", "every 2 hours", "every 1 hour 30 minutes"
    return (
        format_duration(milliseconds).removeprefix("1 ")
        if _is_one_unit(milliseconds)
        else format_duration(milliseconds)
    )


def _is_one_unit(milliseconds: int) -> bool:
    return milliseconds in (86_400_000, 3_600_000, 60_000, 1_000)


def _calendar(calendar: Calendar) -> str:
    words = [_days(calendar), _time(calendar)]
    if len(calendar.year) <= LAST_YEAR - FIRST_YEAR:
        words.append("in " + _runs(calendar.year, str))
    return " ".join(words)


def _days(calendar: Calendar) -> str:
    all_months = len(calendar.month) == 12
    months = "every month" if all_months else _runs(calendar.month, lambda n: MONTHS[n - 1].title())
    all_weekdays, all_days = len(calendar.day_of_week) == 7, len(calendar.day_of_month) == 31
    if all_weekdays and all_days:
        return "every day" if all_months else f"every day of {months}"
    days = f"on day {_runs(calendar.day_of_month, str)} of {months}"
    if all_weekdays:
        return days
    weekdays = "on " + _runs(calendar.day_of_week, lambda n: WEEKDAYS[n].title())
    if not all_days:
        return f"{days} if it is {weekdays.removeprefix('on ')}"
    return weekdays if all_months else f"{weekdays} in {months}"


def _time(calendar: Calendar) -> str:
    hours, minutes, seconds = calendar.hour, calendar.minute, calendar.second
    if len(hours) * len(minutes) * len(seconds) <= 4:
        clock = [(h, m, s) for h in hours for m in minutes for s in seconds]
        return "at " + ", ".join(f"{h:02}:{m:02}" + (f":{s:02}" if any(seconds) else "") for h, m, s in clock)
    if len(minutes) == len(seconds) == 1 and not seconds[0] and _is_run(hours):
        past = f"{minutes[0]:02}"
        if len(hours) == 24:
            return "every hour" + (f" at minute {minutes[0]}" if minutes[0] else "")
        return f"every hour from {hours[0]:02}:{past} to {hours[-1]:02}:{past}"
    parts = []
    if len(seconds) == 60:
        parts.append("every second")
    elif seconds != (0,):
        parts.append(f"at second {_runs(seconds, str)}")
    if len(minutes) == 60:
        parts += [] if len(seconds) == 60 else ["every minute" if seconds == (0,) else "of every minute"]
    else:
        parts.append(f"{'of' if parts else 'at'} minute {_runs(minutes, str)}")
    if len(hours) < 24:
        parts.append(f"of hour {_runs(hours, str)}")
    elif len(minutes) < 60:
        parts.append("of every hour")
    return " ".join(parts)


def _is_run(values: tuple[int, ...]) -> bool:
    return len(values) == values[-1] - values[0] + 1


def _runs(values: tuple[int, ...], name: Callable[[int], str]) -> str:
    """``1, 3, 5 to 9``."""
    groups: list[list[int]] = []
    for value in values:
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    words = []
    for group in groups:
        if len(group) > 2:
            words.append(f"{name(group[0])} to {name(group[-1])}")
        else:
            words += [name(value) for value in group]
    return ", ".join(words)


def _instant(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
