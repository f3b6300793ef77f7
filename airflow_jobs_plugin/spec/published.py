"""A definition as the REST API shows it: every field in its one published form, whatever way it was written in."""

from __future__ import annotations

import math
from typing import Any

from airflow_jobs_plugin.spec.job import Configuration, Job
from airflow_jobs_plugin.spec.payload import PayloadItem
from airflow_jobs_plugin.spec.schedule import FIRST_YEAR, LAST_YEAR, MONTHS, WEEKDAYS, Calendar, Schedule

_BOUNDS = {
    "year": (FIRST_YEAR, LAST_YEAR),
    "month": (1, 12),
    "day_of_month": (1, 31),
    "day_of_week": (0, 6),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
}
_SESSION = {
    "checkAttempts": int,
    "createAttempts": int,
    "saveTrace": bool,
    "check_attempts": int,
    "create_attempts": int,
    "save_trace": bool,
}
_NAMES = {"month": (MONTHS, 1), "day_of_week": (WEEKDAYS, 0)}


def published(job: Job) -> dict[str, Any]:
    """JSON with the fields ``configuration``, ``payload``, ``schedule``, ``sink``, ``target``, ``proxy``,
    ``auth_session`` and ``notifications``. Takes a definition whose secrets are masked; a valid definition again."""
    return {
        "configuration": _configuration(job.configuration),
        "payload": [_item(item) for item in job.payload],
        "schedule": None if job.schedule is None else _schedule(job.schedule),
        # As JSON: a plug-in's fields may be of any type.
        "sink": None if job.sink is None else job.sink.model_dump(mode="json", by_alias=True, exclude_none=True),
        "target": job.target.model_dump(by_alias=True, exclude_none=True),
        "proxy": job.proxy,
        "auth_session": job.auth_session,
        "notifications": None
        if job.notifications is None
        else [notification.model_dump(by_alias=True, exclude_none=True) for notification in job.notifications],
    }


def for_client(definition: dict[str, Any], *, listed: bool) -> dict[str, Any]:
    """The published form in the types of the platform's client, which refuses a whole list for one value of another.

    What these types cannot hold is brought near them: seconds are rounded up; an ``auth_session`` without an id, a
    proxy without a URL and notifications of an unknown type are left out. What the client would take for its own
    default where it is left out is said: the time-out and the attempts of every item.

    :param definition: what ``published`` returned
    :param listed: in lists and with runs the client has the proxy as an object, else as a string
    """
    configuration = definition["configuration"]
    timeout = math.ceil(configuration["requestTimeout"])
    return {
        **definition,
        "configuration": {**configuration, "requestTimeout": timeout},
        "payload": [_item_for_client(item, timeout, configuration["retry"]) for item in definition["payload"]],
        "proxy": _proxy_for_client(definition["proxy"], listed),
        "auth_session": _session_for_client(definition["auth_session"]),
        "notifications": definition["notifications"]
        and [notification for notification in definition["notifications"] if notification["type"] == "webhook"],
    }


def _item_for_client(item: dict[str, Any], timeout: int, retry: dict[str, Any]) -> dict[str, Any]:
    shown = {**item, "requestTimeout": math.ceil(item.get("requestTimeout", timeout))}
    if "retry" in item:
        shown["retry"] = {"maximumAttempts": retry["maximumAttempts"], **item["retry"]}
    return shown


def _proxy_for_client(proxy: Any, listed: bool) -> Any:
    url = proxy.get("url") if isinstance(proxy, dict) else proxy
    if not isinstance(url, str):
        return None
    return {"version": "v1", "url": url} if listed else url


def _session_for_client(session: dict[str, Any] | None) -> dict[str, Any] | None:
    if session is None or not isinstance(session.get("id"), str):
        return None
    return {
        name: value
        for name, value in session.items()
        if name not in _SESSION or value is None or type(value) is _SESSION[name]
    }


def _configuration(configuration: Configuration) -> dict[str, Any]:
    dumped = configuration.model_dump(by_alias=True, exclude_none=True)
    return {**dumped, "requestTimeout": _number(configuration.request_timeout)}


def _item(item: PayloadItem) -> dict[str, Any]:
    shown: dict[str, Any] = {"apiName": item.api, "parameters": item.parameters}
    if item.retry is not None:
        shown["retry"] = item.retry.model_dump(by_alias=True, exclude_none=True)
    if item.request_timeout is not None:
        shown["requestTimeout"] = _number(item.request_timeout)
    return shown


def _number(seconds: float) -> float | int:
    return int(seconds) if seconds.is_integer() else seconds


def _schedule(schedule: Schedule) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "intervals": [interval.model_dump(by_alias=True) for interval in schedule.intervals],
        "calendars": [calendar_of(calendar) for calendar in schedule.calendars],
        "skip": [calendar_of(calendar) for calendar in schedule.skip],
        "timezone": schedule.timezone,
        "jitter": schedule.jitter,
        "startAt": schedule.start_at.isoformat() if schedule.start_at else None,
        "endAt": schedule.end_at.isoformat() if schedule.end_at else None,
    }
    return {name: value for name, value in shown.items() if value not in (None, [])}


def calendar_of(calendar: Calendar) -> dict[str, Any]:
    """A calendar with each field as ``"*"``, one value, one range, or a list of values."""
    shown: dict[str, Any] = {}
    for name, alias in (
        ("year", "year"),
        ("month", "month"),
        ("day_of_month", "dayOfMonth"),
        ("day_of_week", "dayOfWeek"),
        ("hour", "hour"),
        ("minute", "minute"),
        ("second", "second"),
    ):
        shown[alias] = _values(name, getattr(calendar, name))
    if calendar.comment is not None:
        shown["comment"] = calendar.comment
    return shown


def _values(name: str, numbers: tuple[int, ...]) -> Any:
    low, high = _BOUNDS[name]
    if len(numbers) == high - low + 1:
        return "*"
    if len(numbers) == 1:
        return _named(name, numbers[0])
    steps = {after - before for before, after in zip(numbers, numbers[1:], strict=False)}
    if len(numbers) > 2 and len(steps) == 1:
        span = {"start": _named(name, numbers[0]), "end": _named(name, numbers[-1])}
        step = steps.pop()
        return span if step == 1 else {**span, "step": step}
    return [_named(name, number) for number in numbers]


def _named(name: str, number: int) -> Any:
    if name not in _NAMES:
        return number
    names, first = _NAMES[name]
    return names[number - first]
