"""Imports what payload items need, once, in the process that forks the workers.

Called when a component starts. LocalExecutor forks its workers from the scheduler after that, and every task process
from a worker, so each item finds these modules loaded instead of spending about a second on them.
"""

from __future__ import annotations

import importlib
import logging

from airflow_jobs_plugin import settings

log = logging.getLogger(__name__)

MODULES = (
    "airflow_jobs_plugin.factory",
    "airflow_jobs_plugin.targets.http",
    "airflow_jobs_plugin.targets.python",
    "airflow_jobs_plugin.targets.run_api",
    "airflow_jobs_plugin.sinks.s3",
    "airflow_jobs_plugin.sinks.webhook",
    "airflow.providers.http.hooks.http",
    # What Airflow itself imports in every task process, having forked it from a parent that has no use for it.
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.providers.standard.operators.empty",
    "airflow.sdk._shared.logging.factory",
    "airflow.sdk.bases.sensor",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "jinja2.ext",
)


def preload() -> None:
    """Import ``MODULES``, unless ``[jobs] preload`` says no. What cannot be imported is logged and left out."""
    if not settings.switch("preload"):
        return
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception:
            log.warning("Could not load %s ahead of the workers; items will load it themselves", name, exc_info=True)
