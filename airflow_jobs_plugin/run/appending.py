"""What an item's answer appends to its run: sent to the server before the item succeeds, keyed by the item."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.server import LONGEST_WAIT, PATIENCE, client_of, run_token, run_url
from airflow_jobs_plugin.run.tokens import Permit

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: Seconds for one request; the server may be busy, and waits for the run's lock.
TIMEOUT = 60.0


def append_url(job_id: str, run_id: str) -> str:
    """Where items are appended to a run, as workers and the APIs that they call reach it."""
    return f"{run_url(job_id, run_id)}/payloads"


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
    with client_of(url, TIMEOUT) as client:
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
