"""How a worker reaches the plugin's REST API: where it is, and with which token."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.tokens import VARIABLE, Permit, sign

if TYPE_CHECKING:
    import httpx
    from airflow.sdk.exceptions import AirflowRuntimeError

#: Seconds over which an API server that is away is asked again, and the longest wait in between.
PATIENCE, LONGEST_WAIT = 120.0, 10.0


def run_url(job_id: str, run_id: str) -> str:
    """The address of a run, as workers reach it."""
    return f"{server_url()}/jobs/api/v1/jobs/{quote(job_id, safe='')}/runs/{quote(run_id, safe='')}"


def run_token(permit: Permit) -> str:
    """A token for that permit. Raises ``AttemptError``."""
    return sign(_key(), permit)


def client_of(url: str, seconds: float) -> httpx.Client:
    """A client for requests to the server, each of which may wait for so many seconds."""
    import httpx
    from airflow.configuration import conf

    host = urlsplit(url).hostname or ""
    certificate = conf.get("api", "ssl_cert", fallback="")
    verify: Any = True
    if url.startswith("https:"):
        verify = httpx.create_ssl_context()
        if certificate:
            # As Airflow's own client does: a server that signed itself is known by its certificate.
            verify.load_verify_locations(certificate)
    # A proxy of the machine has no business with the machine itself.
    local = host in ("localhost", "::1") or host.startswith("127.")
    return httpx.Client(timeout=httpx.Timeout(seconds, connect=10), verify=verify, trust_env=not local)


def server_url() -> str:
    """Airflow's base URL, without a slash at its end."""
    from airflow.configuration import conf

    if configured := settings.text("api_url"):
        return configured.rstrip("/")
    if base := conf.get("api", "base_url", fallback=""):
        return str(base).rstrip("/")
    execution = str(conf.get("core", "execution_api_server_url", fallback="") or "")
    if execution:
        return execution.rstrip("/").removesuffix("/execution")
    return f"http://localhost:{conf.get('api', 'port', fallback='8080')}"


def is_away(error: AirflowRuntimeError) -> bool:
    """Whether the API server was not reached, or has failed: it may well answer a moment later."""
    from airflow.sdk.exceptions import ErrorType

    status = (error.error.detail or {}).get("status_code")
    return error.error.error is ErrorType.API_SERVER_ERROR and (status is None or status >= 500)


@cache
def _key() -> str:
    from airflow.sdk import Variable

    try:
        key: str | None = Variable.get(VARIABLE, default=None)
    except Exception as error:
        raise AttemptError("append-failed", f"Airflow did not give the key of run tokens: {error}") from error
    if not key:
        raise AttemptError(
            "append-failed", f"the Variable {VARIABLE!r} is missing; Airflow's scheduler makes it when it starts"
        )
    return key
