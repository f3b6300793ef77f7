"""Where in the form a fault of a definition can be mended."""

from __future__ import annotations

import re

from airflow_jobs_plugin.ui.fields import CONFIGURATION, OF_SINK, OF_TARGET

_PLACES: list[tuple[tuple[str, ...], str]] = [
    (("id",), "id"),
    *((("configuration", *path), name) for name, path in CONFIGURATION.items()),
    *((("target", key), name) for fields in OF_TARGET.values() for name, key in fields.items()),
    *((("sink", key), name) for fields in OF_SINK.values() for name, key in fields.items()),
    (("sink", "delivery"), "delivery"),
    (("schedule", "intervals", "0", "every"), "every"),
    (("schedule", "intervals", "0", "offset"), "offset"),
    (("schedule", "calendars", "0", "hour"), "time"),
    (("schedule", "calendars", "0", "minute"), "time"),
    (("schedule", "calendars", "0", "dayOfWeek"), "weekdays"),
    (("schedule", "calendars", "0", "dayOfMonth"), "month_day"),
    (("schedule", "timezone"), "timezone"),
    (("schedule", "jitter"), "jitter"),
    (("schedule",), "kind"),
    (("configuration", "retry"), "maximum"),
    (("target",), "target"),
    (("sink",), "sink"),
    (("payload",), "payload"),
]


def field_of(path: tuple[str | int, ...]) -> str | None:
    """The field of the form in which a fault at a place of the definition can be mended; None if in none of them."""
    parts = tuple(_camel(str(part)) for part in path)
    if len(parts) > 1 and parts[0] == "payload":
        return f"item-{parts[1]}-{'api' if parts[2:3] in (('api',), ('apiName',)) else 'parameters'}"
    for place, name in _PLACES:
        if parts[: len(place)] == place:
            return name
    return None


def place_of(name: str) -> str:
    """The place of the definition that a field of the form is for, as people are told of it."""
    if item := re.fullmatch(r"item-(\d+)-(api|parameters)", name):
        return f"payload[{item[1]}].{item[2]}"
    return {"time": "schedule", "weekdays": "schedule"}.get(name, name)


def _camel(name: str) -> str:
    return re.sub("_([a-z])", lambda letter: letter[1].upper(), name)
