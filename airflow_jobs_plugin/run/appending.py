"""What an item's answer appends to its run: sent to the server before the item succeeds, keyed by the item."""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.tokens import VARIABLE, Permit, sign

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: Seconds for one request; the server may be busy, and waits for the run's lock.
TIMEOUT = 60.0
#: Seconds over which an API server that is away is asked again, and the longest wait in between.
PATIENCE, LONGEST_WAIT = 120.0, 10.0


def append_url(job_id: str, run_id: str) -> str:
    """Where items are appended to a run, as workers and the APIs that they call reach it."""
    path = f"jobs/api/v1/jobs/{quote(job_id, safe='')}/runs/{quote(run_id, safe='')}/payloads"
    return f"{_server()}/{path}"


def run_token(permit: Permit) -> str:
    """A token for that permit. Raises ``AttemptError``."""
    return sign(_key(), permit)


def append_children(permit: Permit, item_id: str, payloads: list[Any]) -> int:
    """Append what an item's answer brought; returns how many items that were. Again, it appends nothing more.

    Raises ``AttemptError``: ``append-refused``, or ``append-failed`` after ``PATIENCE``. Both are final: the call has
    succeeded, and another attempt would make it again.
    """
    try:
        return _append(permit, item_id, payloads)
    except AttemptError as error:
        raise AttemptError(error.code, error.message, status_code=error.status_code, retriable=False) from error
    except Exception as error:
        text = f"the call succeeded, but the {len(payloads)} items that it brought could not be appended"
        raise AttemptError("append-failed", f"{text}: {type(error).__name__}: {error}", retriable=False) from error


def _append(permit: Permit, item_id: str, payloads: list[Any]) -> int:
    import httpx

    url = append_url(permit.job_id, permit.run_id)
    headers = {"Authorization": f"Bearer {run_token(permit)}", "Idempotency-Key": item_id}
    end = time.monotonic() + PATIENCE
    wait = 1.0
    with _client(url) as client:
        while True:
            try:
                response = client.post(url, json={"payload": payloads}, headers=headers)
            except httpx.HTTPError as error:
                told = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return len(response.json()["payloads"])
                told = _told(response)
                if response.status_code < 500 and response.status_code not in (401, 408, 425, 429):
                    raise AttemptError(
                        "append-refused",
                        f"the call succeeded, but the {len(payloads)} items that it brought were refused: {told}",
                        status_code=response.status_code,
                    )
            if time.monotonic() + wait > end:
                text = f"the call succeeded, but the {len(payloads)} items that it brought could not be appended"
                raise AttemptError("append-failed", f"{text}: {told}")
            log.warning("Appending %d items failed, trying again in %g s: %s", len(payloads), wait, told)
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)


def _told(response: httpx.Response) -> str:
    try:
        body = response.json()
        return f"{body['message']} ({body['code']})"
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _client(url: str) -> httpx.Client:
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
    return httpx.Client(timeout=httpx.Timeout(TIMEOUT, connect=10), verify=verify, trust_env=not local)


def _server() -> str:
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
