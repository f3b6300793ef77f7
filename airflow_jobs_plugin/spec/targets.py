"""How an API name becomes a call: the configuration of a target."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import AfterValidator, Field, Tag, model_validator

from airflow_jobs_plugin.spec.base import Model
from airflow_jobs_plugin.spec.durations import Duration, format_duration
from airflow_jobs_plugin.spec.faults import printable
from airflow_jobs_plugin.spec.sinks import ConnId, Headers, tagged

DEFAULT_CONNECTION = "airflow_jobs_default"
#: Longest wait between two polls of a run, milliseconds.
DEFAULT_LONGEST_WAIT = 30_000


def _path_template(path: str) -> str:
    return _template(path, ("api",), "'/{api}' or '/v2/{api}/run'")


def _run_path_template(path: str) -> str:
    example = "'/run/{runId}/result'"
    _template(path, ("api", "runId"), example)
    if "{runId}" not in path.partition("#")[0]:
        raise ValueError(f"names no run; it needs {{runId}}, as in {example}")
    return path


def _template(path: str, names: tuple[str, ...], example: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"a path starts with '/', such as {example}")
    known = " and ".join(f"{{{name}}}" for name in names)
    if unknown := [name for name in re.findall(r"\{([^{}]*)\}", path) if name not in names]:
        raise ValueError(f"unknown placeholder {{{printable(unknown[0])}}}; known here: {known}")
    if any(brace in re.sub(r"\{[^{}]*\}", "", path) for brace in "{}"):
        raise ValueError(f"has a brace that belongs to no {known}")
    if any(ord(c) <= 32 or ord(c) > 126 for c in path):
        raise ValueError("has spaces or characters that a URL cannot carry; percent-encode them")
    # Servers and proxies decode before they walk.
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise ValueError("has '.' or '..' as a path segment")
    return path


PathTemplate = Annotated[str, Field(max_length=1000), AfterValidator(_path_template)]
RunPathTemplate = Annotated[
    str,
    Field(max_length=1000, json_schema_extra={"pattern": r"^/.*\{runId\}"}),
    AfterValidator(_run_path_template),
]


def _period(milliseconds: int) -> int:
    if milliseconds == 0:
        raise ValueError("a wait of zero would ask without a pause; give at least 1 ms")
    return milliseconds


Period = Annotated[Duration, AfterValidator(_period)]


class HttpTarget(Model):
    """An HTTP call through an Airflow connection; 2xx is success."""

    type: Literal["http"] = "http"
    conn_id: ConnId = DEFAULT_CONNECTION
    """The HTTP connection: its host, credentials, headers, TLS and proxies mean what the http provider says."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: PathTemplate = "/{api}"
    """Appended to the connection's URL; each segment of the API name is percent-encoded."""
    parameters_as: Literal["json", "query", "form"] | None = None
    """How parameters are sent. None: ``query`` for GET, else ``json``."""
    headers: Headers = Field(default_factory=dict)
    """Sent with every call, over the connection's own. Write-only: never shown again."""
    send_run_token: bool = False
    """Whether calls carry what the API needs to append items to the run: ``X-Job-Append-Url`` and
    ``X-Job-Append-Token``."""


def _longest_wait(data: dict[str, Any]) -> int:
    # Without the other where that one is refused.
    shortest: int = data.get("poll_interval", 0)
    return max(DEFAULT_LONGEST_WAIT, shortest)


class RunApiTarget(Model):
    """An API that starts a run and is polled until the run ends. The defaults fit the platform's own Run API."""

    type: Literal["run-api"]
    conn_id: ConnId = DEFAULT_CONNECTION
    """The HTTP connection: its host, credentials, headers, TLS and proxies mean what the http provider says."""
    start_path: PathTemplate = "/run/start"
    """Where a run is started (POST), after the connection's URL. May have ``{api}``."""
    result_path: RunPathTemplate = "/run/{runId}/result"
    """Where a run's status and result are (GET). Has ``{runId}``, may have ``{api}``."""
    cancel_path: RunPathTemplate | None = None
    """Where a run is canceled (POST), such as ``/run/{runId}/terminate``; None: runs are left to end by themselves."""
    poll_interval: Period = 1_000
    """First wait between polls, milliseconds. Each wait is half as long again as the one before."""
    max_poll_interval: Period = Field(default_factory=_longest_wait)
    """Longest wait between polls, milliseconds. Default 30 s, or ``poll_interval`` where that is longer."""
    headers: Headers = Field(default_factory=dict)
    """Sent with every call, over the connection's own. Write-only: never shown again."""
    send_run_token: bool = False
    """Whether the start carries what the API needs to append items to the run: ``X-Job-Append-Url`` and
    ``X-Job-Append-Token``."""

    @model_validator(mode="after")
    def _waits_agree(self) -> Self:
        if self.max_poll_interval < self.poll_interval:
            raise ValueError(
                f"maxPollInterval ({format_duration(self.max_poll_interval)}) is below "
                f"pollInterval ({format_duration(self.poll_interval)}); raise the one or lower the other"
            )
        return self


class PythonTarget(Model):
    """A function of a module that the configuration allows, called with the parameters as keyword arguments."""

    type: Literal["python"]
    module: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=300)] | None = None
    """Module of API names that are bare function names; None: every API name is ``module:function``."""


Target = Annotated[
    Annotated[HttpTarget, Tag("http")]
    | Annotated[RunApiTarget, Tag("run-api")]
    | Annotated[PythonTarget, Tag("python")],
    tagged(("http", "run-api", "python"), default="http"),
]
