"""Answers show every field of a definition, documented, and to the platform's client in types that it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from intuned_client import models
from pydantic import BaseModel, TypeAdapter

from airflow_jobs_plugin.api import shapes
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.spec.published import for_client, published

HEADERS = {"X-Key": "***"}
S3 = {
    "type": "s3", "bucket": "results", "region": "eu-1", "accessKeyId": "a", "secretAccessKey": "b", "key": "k",
    "endpoint": "https://s3.example", "forcePathStyle": True, "format": "jsonl", "apisToSend": ["a"],
}  # fmt: skip
WEBHOOK = {
    "type": "webhook", "url": "https://example.com/", "headers": HEADERS, "apisToSend": ["a"],
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}  # fmt: skip
TARGETS: list[dict[str, Any]] = [
    {"type": "http", "parametersAs": "query", "headers": HEADERS},
    {"type": "run-api", "headers": HEADERS, "cancelPath": "/run/{runId}/terminate", "sendRunToken": True},
    {"type": "python", "module": "acme"},
]


def job(sink: Any = None, target: Any = None, **changes: Any) -> Job:
    definition: dict[str, Any] = {
        "id": "x",
        "payload": [{
            "api": "a", "parameters": {"n": [1, None]}, "requestTimeout": 1.5,
            "retry": {"maximumAttempts": 2, "initialInterval": "1s", "maximumInterval": "1m", "backoffCoefficient": 2},
        }, {"api": "b"}, {"api": "c", "retry": {"initialInterval": 5}}],
        "configuration": {
            "retry": {"maximumAttempts": 4, "initialInterval": "1s", "maximumInterval": "1m", "backoffCoefficient": 2},
            "maxRuns": 9, "proxy": "http://p:1", "requestTimeout": 0.25,
        },
        "schedule": {
            "intervals": [{"every": "7d", "offset": "3h"}],
            "calendars": [{"month": {"start": "jan", "end": "dec", "step": 3}, "dayOfWeek": [1, 5], "comment": "c"}],
            "skip": [{"month": "dec", "dayOfWeek": {"start": 1, "end": 5}}],
            "timezone": "Europe/Berlin", "jitter": "30s", "startAt": "2026-01-01", "endAt": "2027-01-01T00:00:00Z",
        },
        "sink": sink, "target": target or TARGETS[0], "proxy": "http://p:1", "auth_session": {"id": "s"},
        "notifications": [{"type": "webhook", "url": "https://example.com/", "headers": HEADERS}],
    }  # fmt: skip
    return Job.model_validate({**definition, **changes})


def documented(value: Any, shape: Any) -> Iterator[tuple[str, bool]]:
    """Every field of an answer, and whether its shape has it."""
    schema = TypeAdapter(shape).json_schema()
    definitions = schema.get("$defs", {})

    def walk(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, bool]]:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
        if isinstance(value, dict) and "properties" in schema:
            for name, inner in value.items():
                yield f"{path}.{name}", name in schema["properties"]
                yield from walk(inner, schema["properties"].get(name, {}), f"{path}.{name}")
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, schema.get("items", {}), path)
        for option in schema.get("anyOf", []) + schema.get("oneOf", []):
            resolved = definitions[option["$ref"].rsplit("/", 1)[-1]] if "$ref" in option else option
            kind = resolved.get("properties", {}).get("type", {})
            if not isinstance(value, dict) or (
                kind.get("const") in (None, value.get("type"))
                and value.get("type") not in kind.get("not", {}).get("enum", ())
            ):
                yield from walk(value, option, path)

    yield from walk(value, schema, "")


@pytest.mark.parametrize(
    ("field", "shape", "made"),
    [
        ("configuration", shapes.ConfigurationOut, job()),
        ("payload", list[shapes.PayloadItemOut], job()),
        ("schedule", shapes.ScheduleOut, job()),
        ("notifications", list[shapes.NotificationOut], job()),
        ("sink", shapes.SinkOut, job(WEBHOOK)),
        ("sink", shapes.SinkOut, job(S3)),
        ("sink", shapes.SinkOut, job({"type": "s3", "bucket": "results", "connId": "c", "prefix": "p"})),
        *(("target", shapes.TargetOut, job(target=target)) for target in TARGETS),
    ],
)
def test_every_field_of_a_definition_is_documented(field: str, shape: Any, made: Job) -> None:
    value = published(made)[field]
    assert TypeAdapter(shape).validate_python(value) == value
    fields = dict(documented(value, shape))
    assert fields
    assert all(fields.values()), fields


def test_no_field_of_a_model_is_left_out_of_this_test() -> None:
    shown: dict[type[BaseModel], set[str]] = {}

    def note(value: Any) -> None:
        if isinstance(value, BaseModel):
            set_here = {name for name, inner in value if inner is not None}
            shown.setdefault(type(value), set()).update(set_here)
            for _, inner in value:
                note(inner)
        elif isinstance(value, list):
            for inner in value:
                note(inner)

    s3 = {"type": "s3", "bucket": "results", "connId": "c", "prefix": "p"}
    for made in (job(WEBHOOK), job(S3), job(s3), *(job(target=target) for target in TARGETS)):
        note(made)
    for model, names in shown.items():
        assert names == set(model.model_fields), model


def in_client(made: Job) -> tuple[models.JobsGetResponse, models.JobsListResponseValueItem]:
    about = {"id": "x", "workspace_id": "w", "project_id": "p", "projectId": "p", "state": "ACTIVE", "created_at": "t"}
    definition = published(made)
    return (
        models.JobsGetResponse.model_validate(about | for_client(definition, listed=False)),
        models.JobsListResponseValueItem.model_validate(about | for_client(definition, listed=True)),
    )


def test_the_client_reads_every_definition() -> None:
    one, listed = in_client(job(WEBHOOK))
    for seen in (one, listed):
        assert [item.request_timeout for item in seen.payload or []] == [2, 1, 1], "whole seconds, the job's if none"
        attempts = [item.retry and item.retry.maximum_attempts for item in seen.payload or []]
        assert attempts == [2, None, 4], "the job's, not the client's default"
        assert seen.configuration.request_timeout == 1
        assert isinstance(seen.sink, BaseModel)
    assert (one.proxy, listed.proxy and listed.proxy.url) == ("http://p:1", "http://p:1")


@pytest.mark.parametrize(
    ("changes", "proxy", "session", "notifications"),
    [
        ({"proxy": {"version": "v2", "url": "http://p:2", "x": 1}}, "http://p:2", {"id": "s"}, 1),
        ({"proxy": {"host": "p"}}, None, {"id": "s"}, 1),
        ({"proxy": None, "auth_session": None, "notifications": None}, None, None, None),
        ({"proxy": "p:1", "auth_session": {"name": "no id"}}, "p:1", None, 1),
        ({"auth_session": {"id": 5}, "notifications": [{"type": "pager", "url": "https://h/"}]}, "http://p:1", None, 0),
        ({"auth_session": {"id": "s", "checkAttempts": "many", "save_trace": 1, "x": 2}}, "http://p:1",
         {"id": "s", "x": 2}, 1),
    ],
)  # fmt: skip
def test_what_the_client_has_no_type_for_is_brought_near(
    changes: dict[str, Any], proxy: str | None, session: dict[str, Any] | None, notifications: int | None
) -> None:
    one, listed = in_client(job(**changes))
    assert (one.proxy, listed.proxy and listed.proxy.url) == (proxy, proxy)
    for seen in (one, listed):
        found = seen.auth_session
        assert (found and found.model_dump(by_alias=True, exclude_unset=True)) == session
    assert (listed.notifications if notifications is None else len(listed.notifications or [])) == notifications
