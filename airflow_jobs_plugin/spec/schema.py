"""JSON Schema of jobs: for editors that write job files, and for the documentation of the REST API."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from airflow_jobs_plugin.spec.base import Model, names_of
from airflow_jobs_plugin.spec.job import Job
from airflow_jobs_plugin.spec.sinks import sink_model


def file_schema() -> dict[str, Any]:
    """The schema that an editor checks a job file against: ``id`` may come from the file's name.

    It accepts what the models accept, and says less: what depends on two fields is for ``airflow-jobs lint``.
    """
    schema = job_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Airflow job"
    schema["required"] = [name for name in schema.get("required", []) if name != "id"]
    for model, part in _parts(schema):
        _accept_other_spellings(model, part)
    return schema


def job_schema() -> dict[str, Any]:
    """The schema of a whole definition, with the published spelling of each field alone."""
    schema = Job.model_json_schema(by_alias=True, mode="validation")
    _name_bounds(schema)
    for model, part in _parts(schema):
        _describe(model, part)
    return schema


def _parts(schema: dict[str, Any]) -> Iterator[tuple[type[Model], dict[str, Any]]]:
    """The models that the schema has, each with its part of it."""
    parts = {"Job": schema, **schema.get("$defs", {})}
    for model in _models(Model):
        part = parts.get(model.__name__)
        if part is not None and "properties" in part:
            yield model, part
    # Those of other distributions stand where they are used: their names are nobody's to know.
    for part in schema["properties"]["sink"]["anyOf"][0]["oneOf"]:
        if "$ref" not in part and (brought := sink_model(part["properties"]["type"]["const"])) is not None:
            yield brought, part


def _name_bounds(value: Any) -> None:
    """Bounds behind a validator come out under pydantic's own names, which no reader knows."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _name_bounds(inner)
    if isinstance(value, dict) and value.get("type") in ("integer", "number"):
        for own, name in (("ge", "minimum"), ("le", "maximum")):
            if own in value:
                value[name] = value.pop(own)


def _accept_other_spellings(model: type[Model], part: dict[str, Any]) -> None:
    """Add the spellings that the models take beside the published names."""
    spellings = names_of(model)
    known = {spellings[name]: value for name, value in part["properties"].items() if name in spellings}
    part["properties"] |= {s: known[name] for s, name in spellings.items() if name in known}
    ways = {
        field: sorted(s for s, name in spellings.items() if name == spellings[field])
        for field in part.pop("required", [])
    }
    if only := [field for field, spelled in ways.items() if len(spelled) == 1]:
        part["required"] = only
    # Whichever spelling of it, a required field has to be there.
    if several := [spelled for spelled in ways.values() if len(spelled) > 1]:
        part["allOf"] = [{"anyOf": [{"required": [spelling]} for spelling in spelled]} for spelled in several]


def _describe(model: type[Model], part: dict[str, Any]) -> None:
    """Give every field the text that stands below it in the source, and a default as a person would write it."""
    if "description" in part:
        part["description"] = _plain(part["description"])
    spellings = names_of(model)
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Model):
            texts |= _texts(base)
    for name, value in part["properties"].items():
        if text := texts.get(spellings.get(name, name)):
            value.setdefault("description", _plain(text))
        if isinstance(default := value.get("default"), (list, tuple)) and default:
            # Of a field of a calendar: the numbers that it matches.
            value["default"] = default[0] if len(default) == 1 else "*"


def _plain(text: str) -> str:
    """A text for people who write JSON."""
    return re.sub(r"\bNone\b", "null", text.replace("``", "`"))


def _texts(model: type[Model]) -> dict[str, str]:
    """The texts below the fields in the source of a model, by field; none where there is no source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, SyntaxError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, text in zip(body, body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = inspect.cleandoc(text.value.value)
    return found


def _models(base: type[Model]) -> Iterator[type[Model]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)
