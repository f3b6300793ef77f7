"""What is wrong with a definition that somebody writes, each fault in its place, and when the job would run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from pydantic import ValidationError

from airflow_jobs_plugin.control import definitions
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import RequestError
from airflow_jobs_plugin.factory import summary
from airflow_jobs_plugin.spec import Fault, Job, Schedule, format_duration
from airflow_jobs_plugin.spec.faults import dotted
from airflow_jobs_plugin.ui import texts
from airflow_jobs_plugin.ui.drafts import Draft
from airflow_jobs_plugin.ui.job import next_times
from airflow_jobs_plugin.ui.places import field_of, place_of
from airflow_jobs_plugin.ui.texts import Line
from timetables.description import describe


@dataclass
class Check:
    """What a check has found."""

    valid: bool = False
    definition: dict[str, Any] | None = None
    lines: list[Line] = field(default_factory=list)
    """Every fault."""
    beside: dict[str, list[str]] = field(default_factory=dict)
    """Those that a field of the form can mend, by field."""
    summary: str = ""
    schedule: str | None = None
    """In words; None: it runs on triggers only, or the schedule is wrong."""
    timezone: str = "UTC"
    jitter: str = ""
    times: list[datetime] = field(default_factory=list)


def check(draft: Draft) -> Check:
    """Check what is written so far. Nothing is stored."""
    found = Check()
    try:
        definition, wrong = draft.definition()
    except texts.TextFaults as error:
        found.lines = error.faults
        return found
    found.definition = definition
    _preview(found, definition)
    faults: list[Fault] = []
    try:
        job = _job(draft, definition)
    except InvalidDefinition as error:
        faults = error.faults
    except RequestError as error:
        faults = [Fault((), str(error))]
    else:
        found.summary = summary(job)
    _place(found, draft, faults, wrong)
    return found


def refused(draft: Draft, found: Check, error: InvalidDefinition) -> Check:
    """The same, of a definition that was refused when it was to be stored."""
    _place(found, draft, error.faults, {})
    return found


def _job(draft: Draft, definition: dict[str, Any]) -> Job:
    job_id = draft.job_id
    if job_id is None:
        return definitions.check(definition)
    if definition.get("id", job_id) != job_id:
        raise InvalidDefinition([Fault(("id",), f"a job keeps its id, {job_id!r}; create another job instead")])
    return transact(lambda session: definitions.check_change(session, job_id, definition))


def _place(found: Check, draft: Draft, faults: list[Fault], wrong: dict[str, str]) -> None:
    found.beside = {name: [message] for name, message in wrong.items()}
    lines = [Line(message, path=place_of(name)) for name, message in wrong.items()]
    if draft.mode == "editor":
        lines += texts.located(draft.text, faults)
    else:
        for fault in faults:
            name = field_of(fault.path)
            # What could not even be read is missing from the definition, and said already.
            if name in wrong:
                continue
            if name is not None:
                found.beside.setdefault(name, []).append(fault.message)
            lines.append(Line(fault.message, path=dotted(fault.path)))
    found.lines, found.valid = lines, not lines


def _preview(found: Check, definition: dict[str, Any]) -> None:
    """When it would run, also while something else is wrong."""
    try:
        schedule = Schedule.model_validate(definition.get("schedule"))
    except ValidationError:
        return
    found.schedule, found.timezone, found.times = describe(schedule), schedule.timezone, next_times(schedule)
    found.jitter = format_duration(schedule.jitter) if schedule.jitter else ""


@cache
def zones() -> list[str]:
    """The names of time zones, for the form to suggest."""
    return sorted(name for name in available_timezones() if "/" in name or name == "UTC")
