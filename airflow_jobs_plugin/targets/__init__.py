"""How an API name becomes a call. One attempt is one async function, free of operators.

Light to import: the HTTP client and Airflow's providers are loaded when a target is opened.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from airflow_jobs_plugin.errors import ConfigurationError
from airflow_jobs_plugin.spec.targets import HttpTarget, PythonTarget, Target
from airflow_jobs_plugin.targets.base import Attempt, Caller, Limits, Result


def open_target(spec: Target, limits: Limits) -> AbstractAsyncContextManager[Caller]:
    """Open a target for any number of attempts, concurrent ones included, on one event loop.

    Entering resolves the target's connection once; what is wrong with it is raised by each attempt, as an
    ``AttemptError`` with the code ``configuration-error``. Leaving closes the connections. Raises
    ``ConfigurationError`` at once for a target that this version cannot run.
    """
    if isinstance(spec, HttpTarget):
        from airflow_jobs_plugin.targets.http import open_http

        return open_http(spec, limits)
    if isinstance(spec, PythonTarget):
        from airflow_jobs_plugin.targets.python import open_python

        return open_python(spec, limits)
    raise ConfigurationError(f"target: this version does not run {spec.type!r} targets yet; use 'http' or 'python'")


__all__ = ["Attempt", "Caller", "Limits", "Result", "open_target"]
