"""What Airflow's provider discovery asks for."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Name, connection-free metadata and the ``[jobs]`` configuration section."""
    from airflow_jobs_plugin.settings import OPTIONS, SECTION

    return {
        "package-name": "airflow-jobs-plugin",
        "name": "Jobs",
        "description": "Jobs: stored definitions of which APIs to run, how, when, and where the results go.",
        "config": {
            SECTION: {"description": "Options of the jobs plugin.", "options": OPTIONS},
        },
    }
