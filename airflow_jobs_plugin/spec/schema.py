"""JSON Schema of job files, for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_jobs_plugin.spec.base import Model, names_of
from airflow_jobs_plugin.spec.job import Job


def file_schema() -> dict[str, Any]:
    """The schema that an editor checks a job file against: ``id`` may come from the file's name.

    It accepts what the models accept, and says less: what depends on two fields is for ``airflow-jobs lint``.
    """
    schema = Job.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Airflow job"
    schema["required"] = [name for name in schema.get("required", []) if name != "id"]
    _accept_other_spellings(schema)
    return schema


def _accept_other_spellings(schema: dict[str, Any]) -> None:
    """Add the spellings that the models take beside the published names."""
    definitions = schema.get("$defs", {})
    parts = {"Job": schema, **definitions}
    for model in _models(Model):
        part = parts.get(model.__name__)
        if part is None or "properties" not in part:
            continue
        spellings = names_of(model)
        known = {spellings[name]: value for name, value in part["properties"].items() if name in spellings}
        part["properties"] |= {s: known[name] for s, name in spellings.items() if name in known}
        required = part.pop("required", [])
        if needed := [sorted(s for s, name in spellings.items() if name == spellings[field]) for field in required]:
            # Whichever spelling of it, a required field has to be there.
            part["allOf"] = [{"anyOf": [{"required": [spelling]} for spelling in ways]} for ways in needed]


def _models(base: type[Model]) -> Iterator[type[Model]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)
