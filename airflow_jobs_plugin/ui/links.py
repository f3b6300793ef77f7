"""Addresses of pages: of the plugin's own and of Airflow's, whatever path Airflow is below."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from airflow_jobs_plugin.ui import assets

#: Where Airflow mounts the app.
MOUNT = "/jobs/ui"


class Links:
    """Addresses, each encoded; ``root`` is where this app is mounted, as the request has reached it."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.airflow = self.root.removesuffix(MOUNT)

    @property
    def home(self) -> str:
        """The list of jobs."""
        return f"{self.root}/"

    def to(self, *parts: object, **query: Any) -> str:
        """A page below the root, by the parts of its path. Parameters that are None or empty are left out."""
        path = "/".join(quote(str(part), safe="") for part in parts)
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return f"{self.root}/{path}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    def job(self, job_id: str, *parts: object, **query: Any) -> str:
        """A page of a job."""
        return self.to("job", job_id, *parts, **query)

    def run(self, job_id: str, run_id: str, *parts: object, **query: Any) -> str:
        """A page of a run."""
        return self.to("job", job_id, "run", run_id, *parts, **query)

    def asset(self, name: str) -> str:
        """A static file."""
        return f"{self.root}{assets.PREFIX}{assets.version()}/{name}"

    def dag(self, job_id: str) -> str:
        """Airflow's page of the job's DAG."""
        return f"{self.airflow}/dags/{quote(job_id, safe='')}"

    def dag_run(self, job_id: str, run_id: str) -> str:
        """Airflow's page of the run."""
        return f"{self.dag(job_id)}/runs/{quote(run_id, safe='')}"

    def log(self, job_id: str, run_id: str, task: str, map_index: int | None = None) -> str:
        """Airflow's page with the log of a task instance."""
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        return f"{self.dag_run(job_id, run_id)}/tasks/{quote(task, safe='')}{mapped}"

    @property
    def login(self) -> str:
        """Airflow's own front page, which asks whoever is not logged in to do so."""
        return f"{self.airflow}/"
