"""The names of a definition's fields: the published ones, and those by which somebody has written them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from airflow_jobs_plugin.spec import (
    Calendar,
    Configuration,
    HttpTarget,
    Interval,
    Job,
    PayloadItem,
    PythonTarget,
    RetryPolicy,
    RunApiTarget,
    S3Sink,
    Schedule,
    WebhookSink,
)
from airflow_jobs_plugin.spec.base import names_of

TARGETS: dict[str, type[BaseModel]] = {"http": HttpTarget, "run-api": RunApiTarget, "python": PythonTarget}
SINKS: dict[str, type[BaseModel]] = {"webhook": WebhookSink, "s3": S3Sink}


def canonical(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition with every field under its one published name, whatever way it was written in."""
    found: dict[str, Any] = _renamed(Job, definition)
    if isinstance(configuration := found.get("configuration"), dict):
        configuration = _renamed(Configuration, configuration)
        if isinstance(configuration.get("retry"), dict):
            configuration["retry"] = _renamed(RetryPolicy, configuration["retry"])
        found["configuration"] = configuration
    if isinstance(schedule := found.get("schedule"), dict):
        schedule = found["schedule"] = _renamed(Schedule, schedule)
        for name, model in (("intervals", Interval), ("calendars", Calendar), ("skip", Calendar)):
            if isinstance(schedule.get(name), list):
                schedule[name] = [_renamed(model, part) for part in schedule[name]]
    if isinstance(found.get("payload"), list):
        found["payload"] = [_renamed(PayloadItem, item) for item in found["payload"]]
    for name, models in (("target", TARGETS), ("sink", SINKS)):
        part = found.get(name)
        if isinstance(part, dict) and part.get("type", "http") in models:
            found[name] = _renamed(models[part.get("type", "http")], part)
    return found


def _renamed(model: type[BaseModel], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    names = names_of(model)

    def published(written: str) -> str:
        name = names.get(written)
        if name is None:
            return written
        known = model.model_fields[name]
        return known.serialization_alias or known.alias or name

    return {published(written): inner for written, inner in value.items()}


def respelled(value: Any, known: Any, original: Any) -> Any:
    """A definition with its fields under the names that ``original`` has them by, of which ``known`` is canonical.

    Secrets are stored by their place: under another name they would not be found again.
    """
    if (
        isinstance(value, dict)
        and isinstance(known, dict)
        and isinstance(original, dict)
        and len(known) == len(original)
    ):
        names = dict(zip(known, original, strict=True))
        return {
            names.get(key, key): respelled(inner, known.get(key), original.get(names.get(key)))
            for key, inner in value.items()
        }
    if isinstance(value, list) and isinstance(known, list) and isinstance(original, list):
        more = len(value) - len(known)
        before = zip([*known, *[None] * more], [*original, *[None] * more], strict=False)
        return [respelled(inner, *both) for inner, both in zip(value, before, strict=False)]
    return value
