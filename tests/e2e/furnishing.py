"""The jobs and runs that tests of the web UI, and its screenshots, show. Each run is made once and looked at often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from airflow_jobs_plugin.demo.stack import AirflowStack

EVIL = "<img src=x onerror=window.hacked=1>"
SECRET = "whsec_c2VjcmV0LW9mLXRoZS1wcmljZXM="
TOKEN = "Bearer of-the-receiver"


def prices(url: str) -> dict[str, Any]:
    """A job with a schedule, a webhook and secrets."""
    return {
        "id": "nightly-prices",
        "payload": [{"api": "echo", "parameters": {"page": n, "apiKey": "key-of-the-prices"}} for n in (1, 2, 3)],
        "configuration": {"maxConcurrentRequests": 3, "retry": {"maximumAttempts": 3, "initialInterval": "1s"}},
        "schedule": {"calendars": [{"hour": 2, "minute": 30}], "timezone": "Europe/Berlin", "jitter": "30s"},
        "sink": {"type": "webhook", "url": url, "secret": SECRET, "headers": {"Authorization": TOKEN}},
    }


def mixed(url: str) -> dict[str, Any]:
    """A job of which some items fail, some are tried again and one brings others."""
    return {
        "id": "catalogue-check",
        "payload": [
            {"api": "echo", "parameters": {"shop": "north"}},
            {"api": "flaky", "parameters": {"failures": 1, "shop": "east"}},
            {"api": "fail", "parameters": {"status": 503, "shop": "south"}},
            {"api": "grow", "parameters": {"next": [["echo", {"shelf": n}] for n in range(4)]}},
        ],
        "configuration": {
            "maxConcurrentRequests": 4,
            "retry": {"maximumAttempts": 2, "initialInterval": "1s", "backoffCoefficient": 2},
            "toleratedFailurePercentage": 50,
        },
        "schedule": {"intervals": [{"every": "6h"}]},
        "sink": {"type": "webhook", "url": url},
    }


def evil() -> dict[str, Any]:
    """A job whose every text is HTML that would run."""
    return {
        "id": "untrusted-texts",
        "payload": [
            {"api": EVIL, "parameters": {EVIL: EVIL}},
            {"api": "fail", "parameters": {"status": 400, "says": EVIL}},
        ],
        "configuration": {"retry": {"maximumAttempts": 1}, "toleratedFailurePercentage": 100},
    }


def many() -> dict[str, Any]:
    """A job of 120 items, two task instances of which run them all."""
    payload = [{"api": "add", "parameters": {"a": n, "b": n % 7}} for n in range(119)]
    return {
        "id": "sum-of-all",
        "payload": [*payload, {"api": "add", "parameters": {"a": 1}}],
        "configuration": {"itemsPerTask": 60, "maxConcurrentRequests": 20, "retry": {"maximumAttempts": 1}},
        "target": {"type": "python", "module": "acme_jobs"},
    }


def slow(job_id: str, seconds: float, count: int, at_once: int) -> dict[str, Any]:
    """A job whose items take their time."""
    return {
        "id": job_id,
        "payload": [{"api": "slow", "parameters": {"seconds": seconds, "n": n}} for n in range(count)],
        "configuration": {
            "maxConcurrentRequests": at_once,
            "itemsPerTask": max(1, count // 5),
            "retry": {"maximumAttempts": 1},
        },
    }


@dataclass
class Furnished:
    """What there is to look at."""

    rest: httpx.Client
    runs: dict[str, str] = field(default_factory=dict)
    """A run of each job that has one, by the job."""

    def run(self, job_id: str) -> str:
        """The path of that job's run."""
        return f"/jobs/ui/job/{job_id}/run/{self.runs[job_id].replace('+', '%2B').replace(':', '%3A')}"

    def create(self, definition: dict[str, Any]) -> str:
        """Create a job over REST, and return its id."""
        self.rest.post("/jobs", json=definition).raise_for_status()
        return str(definition["id"])

    def trigger(self, job_id: str, **body: Any) -> str:
        """Start a run of it, and return the run's id."""
        run_id = str(self.rest.post(f"/jobs/{job_id}/trigger", json=body).raise_for_status().json()["jobRunId"])
        self.runs[job_id] = run_id
        return run_id


def furnish(airflow: AirflowStack, rest: httpx.Client, hook: str) -> Furnished:
    """Make them, and wait until their runs have ended."""
    found = Furnished(rest)
    folder = airflow.dags_folder / "jobs"
    (folder / "weekly-report.job.yaml").write_text(
        "payload:\n  - api: echo\n    parameters: {report: week}\n"
        "schedule:\n  calendars:\n    - {dayOfWeek: MONDAY, hour: 7}\n  timezone: Europe/London\n"
    )
    # Not a job, though it has the tag.
    (airflow.dags_folder / "plain.py").write_text(
        "from airflow.sdk import DAG\n"
        "from airflow.providers.standard.operators.empty import EmptyOperator\n\n"
        "with DAG('no-job', schedule=None, is_paused_upon_creation=False, tags=['job']):\n"
        "    EmptyOperator(task_id='nothing')\n"
    )
    for definition in (prices(hook), mixed(hook), evil(), many()):
        found.trigger(found.create(definition), note=EVIL if definition["id"] == "untrusted-texts" else "By hand")
    found.create(slow("paused-crawl", 1, 2, 1))
    rest.post("/jobs/paused-crawl/pause").raise_for_status()
    for job_id, run_id in found.runs.items():
        airflow.wait_for_run(job_id, run_id)
    airflow.wait_for_dag("weekly-report")
    airflow.wait_for_dag("no-job")
    return found
