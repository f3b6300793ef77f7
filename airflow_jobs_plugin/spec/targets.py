"""How an API name becomes a call: the configuration of a target."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Tag

from airflow_jobs_plugin.spec.base import Model
from airflow_jobs_plugin.spec.durations import Duration
from airflow_jobs_plugin.spec.sinks import Headers, tagged

DEFAULT_CONNECTION = "airflow_jobs_default"

ConnId = Annotated[str, Field(min_length=1, max_length=250)]


def _path_template(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("a path starts with '/', such as '/{api}' or '/v2/{api}/run'")
    if unknown := [name for name in re.findall(r"\{([^{}]*)\}", path) if name != "api"]:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; the only one is {{api}}")
    if "{" in path.replace("{api}", "") or "}" in path.replace("{api}", ""):
        raise ValueError("has a brace that belongs to no {api}")
    if any(ord(c) <= 32 or ord(c) > 126 for c in path):
        raise ValueError("has spaces or characters that a URL cannot carry; percent-encode them")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("has '.' or '..' as a path segment")
    return path


PathTemplate = Annotated[str, Field(max_length=1000), AfterValidator(_path_template)]


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


class RunApiTarget(Model):
    """An API that starts a run and is polled until the run ends."""

    type: Literal["run-api"]
    conn_id: ConnId = DEFAULT_CONNECTION
    start_path: PathTemplate = "/run/start"
    result_path: Annotated[str, Field(pattern=r"^/.*\{runId\}.*$", max_length=1000)] = "/run/{runId}/result"
    poll_interval: Duration = 1_000
    """First wait between polls, milliseconds."""
    max_poll_interval: Duration = 30_000
    """Longest wait between polls, milliseconds."""
    headers: Headers = Field(default_factory=dict)


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
