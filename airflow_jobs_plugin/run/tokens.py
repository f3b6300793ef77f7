"""Run tokens: good for appending to one run, on behalf of one of its items, for some hours.

Signed with a key that the server keeps in a Variable, where every worker can read it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta

from itsdangerous import BadData, URLSafeTimedSerializer

from airflow_jobs_plugin import settings

#: The Variable with the key. Airflow masks its value wherever it shows Variables, because of its name.
VARIABLE = "airflow_jobs/secrets/run-token-key"
#: What a run token begins with, so that nobody takes it for one of Airflow's.
PREFIX = "ajr_"
#: Index in the token of the task that closes a run, which is no item's.
CLOSING = -1
_SALT = "airflow-jobs/append"


@dataclass(frozen=True)
class Permit:
    """What a run token allows: appending to that run, as children of that item; or reading its outcomes, to the task
    that closes it."""

    job_id: str
    run_id: str
    run_after: int
    """The run's ``run_after`` in microseconds since the epoch: a job that was deleted and made again may have a run of
    the same id, and that is another one."""
    index: int
    own: bool
    """Whether it is the worker's own, for what the item's answer appends; else it was handed to the API."""


def sign(key: str, permit: Permit) -> str:
    """The token of a permit; its time begins now."""
    return PREFIX + _serializer(key).dumps(list(astuple(permit)))


def verify(key: str, token: str) -> Permit | None:
    """The permit of a token; None if it was not signed with that key, or its time is over.

    Workers sign, and the server verifies: where the clock of one is ahead, a token is younger than nothing. It is good
    all the same, since nobody else has the key; but no longer ahead than it would be good for, so that a clock that
    was years ahead leaves none that is good for years.
    """
    try:
        found, signed = _serializer(key).loads(token.removeprefix(PREFIX), return_timestamp=True)
        if abs(time.time() - signed.timestamp()) > settings.number("run_token_hours") * 3600:
            return None
        return Permit(*found)
    except (BadData, TypeError, ValueError):
        return None


def microseconds(moment: datetime) -> int:
    """Since the epoch, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _serializer(key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        key, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    )
