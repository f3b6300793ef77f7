"""The OpenAPI document: what FastAPI knows of the routes, with the real schema of a definition in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import WithJsonSchema

from airflow_jobs_plugin.spec.schema import job_schema

TAGS = [
    {"name": "jobs", "description": "Stored definitions: created, read, changed, deleted, paused and resumed."},
    {"name": "runs", "description": "Executions of a job: triggered, watched, terminated, and their results."},
    {"name": "schedules", "description": "When a schedule would fire, without a job."},
    {"name": "health", "description": "What has to work for jobs to run."},
]
#: The security scheme of run tokens, which one route takes beside the others.
RUN_TOKEN = "runToken"
_MARK = "x-definition"
_COMPONENTS = "#/components/schemas/"


def definition_of(name: str, **extra: Any) -> WithJsonSchema:
    """The schema of a part of a definition (``Job``, ``Schedule`` …), for a field that is decoded JSON."""
    return WithJsonSchema({_MARK: name, **extra})


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document, but for the address of the server."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
    )
    components = document["components"]
    components["schemas"] |= _definitions()
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An access token of Airflow."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same token."},
        RUN_TOKEN: {"type": "http", "scheme": "bearer", "description": "A run token, as calls bring it along."},
    }
    document["security"] = [{"token": []}, {"apiKey": []}]
    for path in document["paths"].values():
        for operation in path.values():
            _summarize(operation)
    _resolve(document)
    # FastAPI's own shapes of a 422, which no route answers with.
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"] = dict(sorted(components["schemas"].items()))
    return document


def _definitions() -> dict[str, Any]:
    """The schemas of job files, as components."""
    job = job_schema()
    parts: dict[str, Any] = job.pop("$defs")
    job["description"] = (
        "A job definition: what to run, how, when, and where the results go. Beside the names shown here those of job "
        "files are taken: snake_case, `api`, `maximumConcurrentRequests`. What depends on two fields is checked, too, "
        "and not said here."
    )
    job["required"] = [name for name in job["required"] if name != "id"]
    item = parts["PayloadItem"]
    item["properties"] = {("apiName" if name == "api" else name): value for name, value in item["properties"].items()}
    item["required"] = ["apiName"]
    definitions = {
        **parts,
        "Job": job,
        "NewJob": {
            "description": "A job definition with its id.", "allOf": [{"$ref": "#/$defs/Job"}], "required": ["id"],
        },
    }  # fmt: skip
    _move(definitions)
    return definitions


def _move(value: Any) -> None:
    for inner in _inner(value):
        _move(inner)
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            value["$ref"] = reference.replace("#/$defs/", _COMPONENTS)
        # A discriminator says with its mapping what each of the alternatives says with its constant anyway.
        mapping = (
            value.get("discriminator", {}).get("mapping") if isinstance(value.get("discriminator"), dict) else None
        )
        if mapping:
            value["discriminator"]["mapping"] = {k: v.replace("#/$defs/", _COMPONENTS) for k, v in mapping.items()}


def _summarize(operation: dict[str, Any]) -> None:
    """The summary is the first sentence, not the name of the function."""
    sentence, _, _ = operation["description"].partition(". ")
    operation["summary"] = sentence.partition("\n")[0].rstrip(".")


def _resolve(value: Any) -> None:
    """Put a reference where ``definition_of`` left a mark, and leave out titles that only say a field's name again."""
    for inner in _inner(value):
        _resolve(inner)
    if isinstance(value, dict):
        if name := value.pop(_MARK, None):
            value["$ref"] = _COMPONENTS + name
        if isinstance(value.get("title"), str) and "properties" not in value and "version" not in value:
            del value["title"]


def _inner(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
