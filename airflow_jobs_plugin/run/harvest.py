"""What the items of a run have come to, gathered by the task that closes it.

Items with a task instance each leave outcomes among Airflow's XComs. Of those that share task instances the journals
tell, and a task sees no other's state store: they are asked for over the plugin's REST API.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError, JobsError
from airflow_jobs_plugin.run.outcomes import ENDED, Brought, item_states, read_outcomes
from airflow_jobs_plugin.run.server import client_of, run_token, run_url
from airflow_jobs_plugin.run.tokens import CLOSING, Permit, microseconds

if TYPE_CHECKING:
    import httpx
    from airflow.sdk.definitions.context import Context

#: Seconds without an answer, or without anything more of it.
TIMEOUT = 120.0
#: Outcomes up to this size stay in memory, more go to a temporary file.
SPOOL_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Harvest:
    """What a run has brought."""

    total: int
    succeeded: int
    open: int
    """Items that have not ended."""
    read: Callable[[], Iterable[Brought]]
    """All items with their outcomes, results decoded, in index order. Raises ``JobsError``."""


def of_instances(context: Context, items: list[dict[str, Any]]) -> Harvest:
    """Of items that have a task instance each."""
    states = item_states(context)
    if states.get(-1) in ENDED:
        # Ended before it was expanded, by hand or because the run was: no item was or will be called.
        states = dict.fromkeys(range(len(items)), states[-1])
    succeeded = sum(states.get(n) == "success" for n in range(len(items)))
    still = sum(states.get(n) not in ENDED for n in range(len(items)))

    def read() -> Iterator[Brought]:
        return ((items[outcome["index"]], outcome) for outcome in read_outcomes(context, states, len(items)))

    return Harvest(len(items), succeeded, still, read)


def of_batches(context: Context) -> Harvest:
    """Of items that share task instances. Raises ``JobsError``."""
    with _asked(context, "/outcomes/counts") as response:
        response.read()
        counts: dict[str, int] = response.json()
    return Harvest(counts["total"], counts["succeeded"], counts["open"], partial(_outcomes, context))


def _outcomes(context: Context) -> Iterator[Brought]:
    # All of them are fetched before the first is used: delivering may take long, and to send them the server reads
    # from the database in one transaction.
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as lines:
        end = b"\n"
        with _asked(context, "/outcomes") as response:
            for piece in response.iter_bytes():
                lines.write(piece)
                end = (end + piece)[-2:]
        if end != b"\n\n":
            raise JobsError("the API server broke off while it sent the run's outcomes")
        lines.seek(0)
        for line in lines:
            if line != b"\n":
                item, outcome = json.loads(line)
                yield item, outcome


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


__all__ = ["Harvest", "of_batches", "of_instances"]
