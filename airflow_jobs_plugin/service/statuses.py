"""Which HTTP status says what kind of error it is."""

from __future__ import annotations

from airflow_jobs_plugin.errors import ChangedError, ConflictError, NotFoundError, RequestError


def status_of(error: RequestError) -> int:
    """For answers and pages alike."""
    return {NotFoundError: 404, ConflictError: 409, ChangedError: 412}.get(type(error), 400)
