"""How an API name becomes a call. One attempt is one async function, free of operators.

Light to import: the HTTP client and Airflow's providers are loaded when a target is opened.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from airflow_jobs_plugin.spec.targets import HttpTarget, PythonTarget, Target
from airflow_jobs_plugin.targets.base import Attempt, Caller, Grant, Limits, Memory, Result


def open_target(spec: Target, limits: Limits) -> AbstractAsyncContextManager[Caller]:
    """Open a target for any number of attempts, concurrent ones included, on one event loop.

    Entering resolves the target's connection once; what is wrong with it is raised by each attempt, as an
    ``AttemptError`` with the code ``configuration-error``. Leaving closes the connections.
    """
    if isinstance(spec, HttpTarget):
        from airflow_jobs_plugin.targets.http import open_http

        return open_http(spec, limits)
    if isinstance(spec, PythonTarget):
        from airflow_jobs_plugin.targets.python import open_python

        return open_python(spec, limits)
    from airflow_jobs_plugin.targets.run_api import open_run_api

    return open_run_api(spec, limits)


__all__ = ["Attempt", "Caller", "Grant", "Limits", "Memory", "Result", "open_target"]
