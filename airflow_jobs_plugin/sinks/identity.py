"""As whom a sink delivers: which definitions may go with what the worker itself may do.

A job file is the operator's own. Who may create jobs over REST may not for that be everything that a worker is, and
least of all sign requests as the worker to a place of their choice.
"""

from __future__ import annotations

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.sinks.destinations import Source
from airflow_jobs_plugin.spec import S3Sink, Sink


def refused_identity(spec: Sink, source: Source) -> str | None:
    """Why a sink may not deliver as the worker, and what would be right; None if it does not, or may.

    What a connection brings is known where it can be read: see ``refused_connection``.
    """
    if source == "CODE" or not isinstance(spec, S3Sink) or spec.conn_id is not None or spec.access_key_id is not None:
        return None
    if spec.endpoint is not None:
        return (
            "has an endpoint and no credentials, and requests to it would be signed as the worker; give connId, or "
            "accessKeyId and secretAccessKey"
        )
    if settings.switch("sink_worker_identity"):
        return None
    return (
        "has no credentials, and a job created over REST does not deliver as the worker itself unless [jobs] "
        "sink_worker_identity allows it; give connId, or accessKeyId and secretAccessKey"
    )


def refused_connection(spec: S3Sink, source: Source, *, has_credentials: bool) -> str | None:
    """The same of a connection, by whether it has credentials, a profile or a role: else the worker's are used."""
    if source == "CODE" or spec.conn_id is None or spec.endpoint is None or has_credentials:
        return None
    return (
        f"has an endpoint, and the connection {spec.conn_id!r} has no credentials, so that requests to it would be "
        "signed as the worker; give the connection a login and a password, or put the endpoint into the connection"
    )
