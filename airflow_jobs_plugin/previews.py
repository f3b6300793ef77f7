"""A job's next run times, for people and for programs. Imports no Airflow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_jobs_plugin.errors import DefinitionError
from airflow_jobs_plugin.spec import Schedule, format_duration
from airflow_jobs_plugin.spec.schedule import zone
from airflow_jobs_plugin.store.files import JobFileErrors, read


def run_times(file: Path, after: str | None, count: int) -> Iterator[str]:
    """Lines with the next ``count`` run times of a job file.

    With ``after`` (ISO 8601; without an offset it is UTC) one UTC instant per line: ``2026-11-23T09:00:00Z``.
    Without it a table from now on, in the job's zone and in UTC. Raises ``DefinitionError``.
    """
    try:
        stored = read(file)
    except JobFileErrors as errors:
        raise DefinitionError(str(errors)) from None
    schedule = stored.job.schedule
    if schedule is None:
        raise DefinitionError(f"{file}: the job {stored.job.id!r} has no schedule; it runs on triggers only")
    from timetables.recurrence import upcoming

    begin = datetime.now(UTC) if after is None else _read(after)
    times = itertools.islice(upcoming(schedule, begin), count)
    return map(written, times) if after is not None else _table(schedule, list(times), begin)


def written(instant: datetime) -> str:
    """``2026-11-23T09:00:00Z``, with milliseconds where there are any."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def _read(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise DefinitionError(f"--after: {text!r} is not a date and time such as 2026-11-23T09:00:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _table(schedule: Schedule, times: list[datetime], now: datetime) -> Iterator[str]:
    if not times:
        yield "This schedule has no run times any more."
        return
    yield f"{'in ' + schedule.timezone:<31}{'UTC':<26}from now"
    for instant in times:
        local = instant.astimezone(zone(schedule.timezone))
        yield f"{local.strftime('%a %Y-%m-%d %H:%M:%S %Z'):<31}{written(instant):<26}{_distance(instant - now)}"


def _distance(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    rounded = seconds - seconds % 60 if seconds >= 3600 else seconds
    return format_duration(rounded * 1000) if rounded else "now"
