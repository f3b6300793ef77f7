"""The form of a job: its fields' texts to a definition and back. What the form does not show stays as it is."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from airflow_jobs_plugin.spec.schedule import WEEKDAYS
from airflow_jobs_plugin.ui import texts
from airflow_jobs_plugin.ui.pages import Form

#: Most payload items that the form shows; a longer list is for the editor.
MOST_ITEMS = 100
#: Field of the form to its place in the definition, for those whose text is a value there.
CONFIGURATION = {
    "concurrency": ("maxConcurrentRequests",),
    "timeout": ("requestTimeout",),
    "per_task": ("itemsPerTask",),
    "tolerated": ("toleratedFailurePercentage",),
    "attempts": ("retry", "maximumAttempts"),
    "initial": ("retry", "initialInterval"),
    "maximum": ("retry", "maximumInterval"),
    "backoff": ("retry", "backoffCoefficient"),
}
OF_TARGET = {
    "http": {"conn_id": "connId", "method": "method", "path": "path"},
    "run-api": {"conn_id": "connId", "start_path": "startPath", "result_path": "resultPath"},
    "python": {"module": "module"},
}
OF_SINK = {
    "webhook": {"url": "url", "secret": "secret"},
    "s3": {
        "bucket": "bucket", "region": "region", "sink_conn_id": "connId", "prefix": "prefix", "endpoint": "endpoint",
        "file_format": "format",
    },
}  # fmt: skip
#: Every field that has an error of its own beside it.
NAMES = (
    "id", "target", "conn_id", "method", "path", "start_path", "result_path", "module", "payload",
    *CONFIGURATION,
    "kind", "every", "offset", "time", "weekdays", "month_day", "timezone", "jitter",
    "sink", "url", "secret", "bucket", "region", "sink_conn_id", "prefix", "endpoint", "file_format", "delivery",
)  # fmt: skip
KINDS = ("none", "interval", "daily", "weekly", "monthly")


@dataclass
class Values:
    """What is in the form."""

    texts: dict[str, str] = field(default_factory=dict)
    weekdays: list[str] = field(default_factory=list)
    items: list[dict[str, str]] = field(default_factory=list)
    """``api`` and ``parameters`` of each; ``rest``: what else it has, as JSON."""
    more_items: int = 0
    """How many there are, where the form shows none because they are too many."""

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


# -- to the form -----------------------------------------------------------------------------------------------------


def of_definition(definition: dict[str, Any]) -> Values:
    """What the form shows of a definition, which is to be ``spelling.canonical``."""
    target = definition.get("target") or {}
    sink = definition.get("sink") or {}
    schedule = definition.get("schedule") or {}
    kind = _kind(definition.get("schedule"))
    shown = {"id": _text(definition.get("id")), "kind": kind}
    shown["target"] = _text(target.get("type", "http"))
    for name, key in OF_TARGET.get(shown["target"], {}).items():
        shown[name] = _text(target.get(key))
    configuration = definition.get("configuration") or {}
    for name, path in CONFIGURATION.items():
        part = configuration
        for key in path[:-1]:
            part = part.get(key) or {}
        shown[name] = _text(part.get(path[-1]))
    shown["timezone"], shown["jitter"] = _text(schedule.get("timezone")), _text(schedule.get("jitter"))
    weekdays: list[str] = []
    if kind == "interval":
        shown["every"], shown["offset"] = (_text(schedule["intervals"][0].get(key)) for key in ("every", "offset"))
    elif kind in ("daily", "weekly", "monthly"):
        calendar = schedule["calendars"][0]
        shown["time"] = f"{int(calendar.get('hour', 0)):02}:{int(calendar.get('minute', 0)):02}"
        shown["month_day"] = _text(calendar.get("dayOfMonth"))
        weekdays = _weekdays(calendar.get("dayOfWeek")) or []
    shown["sink"] = _text(sink.get("type")) or "none"
    for name, key in OF_SINK.get(shown["sink"], {}).items():
        shown[name] = _text(sink.get(key))
    shown["delivery"] = _text(sink.get("delivery"))
    shown["skip_on_fail"] = "yes" if sink.get("skipOnFail") is True else ""
    payload = definition.get("payload")
    payload = payload if isinstance(payload, list) and all(isinstance(item, dict) for item in payload) else []
    if len(payload) > MOST_ITEMS:
        return Values(shown, weekdays, [], len(payload))
    return Values(shown, weekdays, [_row(item) for item in payload])


def _row(item: dict[str, Any]) -> dict[str, str]:
    parameters = item.get("parameters")
    rest = {name: value for name, value in item.items() if name not in ("api", "parameters")}
    return {
        "api": _text(item.get("api")),
        "parameters": json.dumps(parameters, ensure_ascii=False) if parameters else "",
        "rest": json.dumps(rest) if rest else "",
    }


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _kind(schedule: Any) -> str:
    """Which of the form's simple schedules it is; ``custom`` if none of them."""
    if not schedule:
        return "none"
    intervals, calendars = schedule.get("intervals") or [], schedule.get("calendars") or []
    if schedule.get("skip") or len(intervals) + len(calendars) != 1:
        return "custom"
    if intervals:
        return "interval"
    calendar = {name: value for name, value in calendars[0].items() if value != "*" or name in ("hour", "minute")}
    plain = all(re.fullmatch(r"\d{1,2}", str(calendar.get(name, 0))) for name in ("hour", "minute"))
    if not plain or str(calendar.get("second", 0)) != "0" or calendar.get("second") == "*":
        return "custom"
    others = set(calendar) - {"hour", "minute", "second"}
    if not others:
        return "daily"
    if others == {"dayOfWeek"} and _weekdays(calendar["dayOfWeek"]) is not None:
        return "weekly"
    if others == {"dayOfMonth"} and re.fullmatch(r"\d{1,2}", str(calendar["dayOfMonth"])):
        return "monthly"
    return "custom"


def _weekdays(value: Any) -> list[str] | None:
    """The names of days of the week that a calendar lists one by one; None if it says it in another way."""
    found = []
    for day in value if isinstance(value, list) else [value]:
        if type(day) is int and 0 <= day <= 6:
            found.append(WEEKDAYS[day])
        elif isinstance(day, str) and len(day) >= 3 and (named := [w for w in WEEKDAYS if w.startswith(day.upper())]):
            found.append(named[0])
        else:
            return None
    return found


# -- and back --------------------------------------------------------------------------------------------------------


def of_form(form: Form) -> Values:
    """What was sent."""
    names = [*NAMES, "skip_on_fail"]
    rows = zip(form.all("item_api"), form.all("item_parameters"), form.all("item_rest"), strict=False)
    items = [{"api": api, "parameters": parameters, "rest": rest} for api, parameters, rest in rows]
    return Values(
        {name: form.text(name).strip() for name in names},
        [day for day in form.all("weekdays") if day in WEEKDAYS],
        items[:MOST_ITEMS],
        len(form.all("more_items")) and int(re.sub(r"\D", "", form.text("more_items")) or 0),
    )


def to_definition(values: Values, base: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The definition that the form comes to, and what is wrong with single fields before it is even looked at.

    :param base: what the form was made from (``spelling.canonical``): what the form does not show is taken from there
    """
    faults: dict[str, str] = {}
    definition = deepcopy(base)
    _set(definition, "id", values["id"] or None)
    _set(definition, "target", _typed(base.get("target"), values["target"] or "http", OF_TARGET, values))
    if not values.more_items:
        definition["payload"] = [_item(n, row, faults) for n, row in enumerate(values.items)]
    before = base.get("configuration")
    configuration: dict[str, Any] = deepcopy(before) if isinstance(before, dict) else {}
    for name, path in CONFIGURATION.items():
        part = configuration
        for key in path[:-1]:
            part = part.setdefault(key, {})
        _set(part, path[-1], _number(values[name]))
    if not configuration.get("retry"):
        configuration.pop("retry", None)
    _set(definition, "configuration", configuration or None)
    _set(definition, "schedule", _schedule(values, base.get("schedule"), faults))
    sink = None
    if values["sink"] != "none":
        sink = _typed(base.get("sink"), values["sink"], OF_SINK, values)
        _set(sink, "delivery", values["delivery"] or None)
        _set(sink, "skipOnFail", True if values["skip_on_fail"] else None)
    _set(definition, "sink", sink)
    order = ["id", "target", "payload", "configuration", "schedule", "sink"]
    return {name: definition[name] for name in [*order, *definition] if name in definition}, faults


def _set(part: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or take it out where there is nothing in it: then its default holds."""
    if value is None:
        part.pop(name, None)
    else:
        part[name] = value


def _typed(base: Any, kind: str, fields: dict[str, dict[str, str]], values: Values) -> dict[str, Any]:
    """A target or sink: of the type that it was, with what the form does not show; or new, of another."""
    same = isinstance(base, dict) and base.get("type", "http") == kind
    part: dict[str, Any] = deepcopy(base) if same else {"type": kind}
    for name, key in fields.get(kind, {}).items():
        _set(part, key, values[name] or None)
    return part


def _item(number: int, row: dict[str, str], faults: dict[str, str]) -> dict[str, Any]:
    item: dict[str, Any] = {"api": row["api"].strip()}
    if row["parameters"].strip():
        try:
            item["parameters"] = texts.value_of(row["parameters"], "")
        except texts.TextFaults as error:
            faults[f"item-{number}-parameters"] = error.faults[0].message
    try:
        rest = json.loads(row["rest"] or "{}")
    except ValueError:
        rest = {}
    return {**(rest if isinstance(rest, dict) else {}), **item}


def _schedule(values: Values, base: Any, faults: dict[str, str]) -> dict[str, Any] | None:
    kind = values["kind"]
    if kind not in KINDS:
        # One that only the editor can say.
        schedule: dict[str, Any] = deepcopy(base) if isinstance(base, dict) else {}
        if not schedule:
            return None
    elif kind == "none":
        return None
    else:
        schedule = deepcopy(base) if isinstance(base, dict) else {}
        for name in ("intervals", "calendars", "skip"):
            schedule.pop(name, None)
        if kind == "interval":
            interval: dict[str, Any] = {"every": _number(values["every"]) or ""}
            _set(interval, "offset", _number(values["offset"]))
            schedule["intervals"] = [interval]
        else:
            schedule["calendars"] = [_calendar(kind, values, faults)]
    _set(schedule, "timezone", values["timezone"] or None)
    _set(schedule, "jitter", _number(values["jitter"]))
    return schedule


def _calendar(kind: str, values: Values, faults: dict[str, str]) -> dict[str, Any]:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(:00)?", values["time"] or "00:00")
    if match is None:
        faults["time"] = "should be a time of the day such as 09:30"
    hour, minute = (int(match[1]), int(match[2])) if match else (0, 0)
    calendar: dict[str, Any] = {"hour": hour, "minute": minute}
    if kind == "weekly":
        if values.weekdays:
            calendar["dayOfWeek"] = values.weekdays
        else:
            faults["weekdays"] = "choose at least one day"
    elif kind == "monthly":
        calendar["dayOfMonth"] = _number(values["month_day"]) or ""
    return calendar


def _number(text: str) -> Any:
    """The number that a text is, or the text, of which the definition's check says what is wrong; None if empty."""
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text):
        return float(text)
    return text or None
