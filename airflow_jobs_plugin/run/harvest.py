"""What the items of a run have come to whose task instances drive many of them: asked of the server.

A task sees no other's state store, so the closing task reads it through the plugin's REST API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError, JobsError
from airflow_jobs_plugin.run.server import client_of, run_token, run_url
from airflow_jobs_plugin.run.tokens import Permit, microseconds

if TYPE_CHECKING:
    import httpx
    from airflow.sdk.definitions.context import Context

#: Seconds without an answer, or without anything more of it.
TIMEOUT = 120.0
#: Index in the token of the closing task, which is no item's.
CLOSING = -1


def counts(context: Context) -> dict[str, int]:
    """``{"total", "succeeded", "open"}``: items, and those that have not ended. Raises ``JobsError``."""
    with _asked(context, "/outcomes/counts") as response:
        response.read()
        found: dict[str, int] = response.json()
        return found


def outcomes(context: Context) -> Iterator[dict[str, Any]]:
    """The outcome of every item in index order, its result decoded. Raises ``JobsError``."""
    ended = False
    with _asked(context, "/outcomes") as response:
        for line in response.iter_lines():
            if ended := not line:
                break
            yield json.loads(line)
    if not ended:
        raise JobsError("the API server broke off while it sent the run's outcomes")


@contextmanager
def _asked(context: Context, path: str) -> Iterator[httpx.Response]:
    import httpx

    ti, run = context["ti"], context["dag_run"]
    url = run_url(ti.dag_id, ti.run_id) + path
    permit = Permit(ti.dag_id, ti.run_id, microseconds(run.run_after), CLOSING, own=True)
    try:
        headers = {"Authorization": f"Bearer {run_token(permit)}"}
        with client_of(url, TIMEOUT) as client, client.stream("GET", url, headers=headers) as response:
            if not response.is_success:
                response.read()
                raise JobsError(f"the API server did not give the run's outcomes: {response.text[:500]}")
            yield response
    except (httpx.HTTPError, AttemptError) as error:
        text = f"the API server did not give the run's outcomes ({url}): {type(error).__name__}: {error}"
        raise JobsError(text) from error


__all__ = ["counts", "outcomes"]
