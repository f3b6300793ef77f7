"""The definition of a job."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, model_validator

from airflow_jobs_plugin.spec.base import Integer, JsonObject, Model, check_plain, raise_at
from airflow_jobs_plugin.spec.faults import explain
from airflow_jobs_plugin.spec.payload import PayloadItem, RequestTimeout
from airflow_jobs_plugin.spec.retry import RetryPolicy
from airflow_jobs_plugin.spec.schedule import Schedule
from airflow_jobs_plugin.spec.sinks import Headers, HttpUrl, Sink
from airflow_jobs_plugin.spec.targets import HttpTarget, Target

DEFAULT_CONCURRENCY = 5
DEFAULT_REQUEST_TIMEOUT = 600.0

_ID = re.compile(r"[a-zA-Z0-9_-]{1,200}")


def check_job_id(job_id: str) -> str:
    """Return the id if a job may have it; else raise ``ValueError``."""
    if not _ID.fullmatch(job_id):
        raise ValueError(f"{job_id[:60]!r} is not a job id: 1 to 200 letters, digits, '_' and '-'")
    return job_id


JobId = Annotated[str, AfterValidator(check_job_id), Field(json_schema_extra={"pattern": f"^{_ID.pattern}$"})]


def check_proxy(url: str) -> str:
    """Return the URL of a proxy, with a scheme or without, if it is one; else raise ``ValueError``.

    What is none is not masked as one either, so that it would be shown with its password.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        # Anything behind the host would be a password that had a slash in it.
        usable = (
            bool(parts.hostname) and parts.port != 0 and not (parts.path.strip("/") or parts.query or parts.fragment)
        )
    except ValueError:
        usable = False
    if not usable or any(c.isspace() for c in check_plain(url)):
        raise ValueError(
            "is not a URL such as http://user:password@proxy.example.com:3128; percent-encode what is special in it"
        )
    return url


def _proxy_object(value: dict[str, Any]) -> dict[str, Any]:
    if isinstance(url := value.get("url"), str):
        check_proxy(url)
    return value


ProxyUrl = Annotated[str, Field(max_length=2000), AfterValidator(check_proxy)]


class Configuration(Model):
    """How a job runs its items."""

    retry: RetryPolicy = Field(default_factory=RetryPolicy)
    max_concurrent_requests: Annotated[Integer, Field(ge=1, le=10_000)] = Field(
        default=DEFAULT_CONCURRENCY,
        validation_alias=AliasChoices(
            "maxConcurrentRequests",
            "maximumConcurrentRequests",
            "max_concurrent_requests",
            "maximum_concurrent_requests",
        ),
        serialization_alias="maxConcurrentRequests",
    )
    """Most items of one run that are called at the same time. Default 5."""
    request_timeout: RequestTimeout = DEFAULT_REQUEST_TIMEOUT
    """Seconds that one attempt may take. Default 600."""
    items_per_task: Annotated[Integer, Field(ge=1, le=100_000)] = 1
    """Items that share a task instance. Default 1."""
    max_runs: Annotated[Integer, Field(ge=1)] | None = None
    """Most items in one run, appended ones included; None: no limit."""
    tolerated_failure_percentage: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """Share of items, in percent, that may fail before the run counts as failed. Default 0."""
    proxy: ProxyUrl | None = None
    """The same as the job's ``proxy``, where the platform's clients put it."""


class Notification(Model):
    """Accepted and passed on to targets that know it."""

    type: Annotated[str, Field(max_length=200), AfterValidator(check_plain)]
    url: HttpUrl
    headers: Headers = Field(default_factory=dict)


class Job(Model):
    """A stored definition: what to run, how, when, and where the results go.

    ``Job.model_validate(dict)`` takes a decoded JSON or YAML object. Raises pydantic's ``ValidationError``.
    """

    id: JobId
    payload: Annotated[list[PayloadItem], Field(min_length=1)]
    configuration: Configuration = Field(default_factory=Configuration)
    schedule: Schedule | None = None
    """None: the job runs on triggers only."""
    sink: Sink | None = None
    """None: results stay in Airflow."""
    target: Target = Field(default_factory=HttpTarget)
    proxy: ProxyUrl | Annotated[JsonObject, AfterValidator(_proxy_object)] | None = None
    auth_session: JsonObject | None = Field(
        default=None,
        validation_alias=AliasChoices("auth_session", "authSession"),
        serialization_alias="auth_session",
    )
    notifications: list[Notification] | None = None

    @model_validator(mode="after")
    def _items_agree_with_configuration(self) -> Self:
        check_items(self.configuration, self.payload, ("payload",))
        return self


def check_items(configuration: Configuration, items: list[PayloadItem], loc: tuple[str | int, ...] = ()) -> None:
    """Check a payload list against the job that it is to run in. Raises ``ValidationError`` with all faults."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if configuration.max_runs is not None and len(items) > configuration.max_runs:
        faults.append((loc, f"{len(items)} items are more than maxRuns ({configuration.max_runs}) allows in one run"))
    for number, item in enumerate(items):
        if item.retry is not None:
            try:
                item.retry.over(configuration.retry)
            except ValidationError as error:
                message = explain(error)[0].message
                faults.append(((*loc, number, "retry"), f"with the job's own policy: {message}"))
    raise_at("Job", faults)


def parse_payload(items: Any, configuration: Configuration) -> list[PayloadItem]:
    """Validate a payload list that replaces a job's own for one run.

    Takes decoded JSON; returns the items. Raises ``ValidationError`` whose paths begin with ``payload``.
    """
    checked = _Override.model_validate({"payload": items}).payload
    check_items(configuration, checked, ("payload",))
    return checked


class _Override(Model):
    payload: Annotated[list[PayloadItem], Field(min_length=1)]
