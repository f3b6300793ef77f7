"""The command that shows the plugin's health."""

from __future__ import annotations

import argparse

from airflow_jobs_plugin.remote.client import JobsClient
from airflow_jobs_plugin.remote.output import Output


def show(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """``health``: the parts, and 1 if no job can run."""
    found = client.health()
    if out.as_json:
        out.json(found)
    else:
        out.table(
            ("PART", "STATUS", "MESSAGE"),
            [(str(part["name"]), str(part["status"]), str(part.get("message") or "")) for part in found["parts"]],
        )
        out.line(f"{found['status']}, version {found.get('version') or 'unknown'}")
    return 1 if found["status"] == "unhealthy" else 0
