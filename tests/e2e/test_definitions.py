"""What Airflow shows of job files that are good, bad or in each other's way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Jobs

pytestmark = pytest.mark.e2e

GOOD = {"payload": [{"api": "echo"}]}


def errors(airflow: AirflowStack) -> dict[str, str]:
    found = airflow.api("GET", "importErrors")["import_errors"]
    return {error["filename"]: error["stack_trace"] for error in found}


def wait_for_error(airflow: AirflowStack, file: str, said: str) -> str:
    def probe() -> str:
        text = errors(airflow).get(file, "")
        return text if said in text else ""

    return str(airflow.client.wait_until(f"an import error of {file}", probe, 60))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("typo.job.yaml", b"payload:\n  - api: echo\n    paramters: {}\n", "typo.job.yaml:3:5: payload[0].paramters"),
        ("broken.job.json", b'{"payload": [', "broken.job.json:1:14: not JSON"),
        ("latin.job.yaml", b"payload: [{api: \xe4}]", "latin.job.yaml:1:17: not UTF-8"),
        ("empty.job.yaml", b"", "empty.job.yaml:1:1: the file is empty"),
        ("long.job.json", json.dumps({"payload": [{"api": "echo"}] * 41}).encode(), "41 items are more than [core]"),
        ("twin.job.yaml", b"id: original\npayload: [{api: echo}]", "the id 'original' is already defined in"),
        ("neighbour.job.yaml", b"id: somebody_elses\npayload: [{api: echo}]", "is the id of another DAG, in other.py"),
    ],
)  # fmt: skip
def test_a_broken_file_is_an_import_error_of_its_own_and_costs_only_its_job(
    name: str, content: bytes, said: str, jobs: Jobs, airflow: AirflowStack
) -> None:
    if not (jobs.folder / "original.job.json").exists():
        jobs.write("original", **GOOD)
        (airflow.dags_folder / "other.py").write_text(
            'from airflow.sdk import DAG\n\nwith DAG("somebody_elses", schedule=None):\n    pass\n'
        )
    (jobs.folder / name).write_bytes(content)
    text = wait_for_error(airflow, f"jobs/{name}", said)
    assert text.count("Traceback") <= 2
    dag = airflow.api("GET", "dags/original")
    assert (dag["is_stale"], dag["has_import_errors"]) == (False, False)
    assert jobs.run("original")["state"] == "success", "the other jobs go on"
    (jobs.folder / name).unlink()
    airflow.client.wait_until("the error to go", lambda: f"jobs/{name}" not in errors(airflow), 60)


def test_a_mended_file_becomes_a_job(jobs: Jobs, airflow: AirflowStack) -> None:
    path = jobs.folder / "mended.job.json"
    path.write_text(json.dumps({"payload": []}))
    wait_for_error(airflow, "jobs/mended.job.json", "payload: List should have at least 1 item")
    jobs.write("mended", **GOOD)
    airflow.client.wait_until("the error to go", lambda: "jobs/mended.job.json" not in errors(airflow), 60)
    assert jobs.run("mended")["state"] == "success"


def test_the_dag_of_a_job_says_what_it_is_for_airflow(jobs: Jobs, airflow: AirflowStack) -> None:
    jobs.write("plain", **GOOD)
    tasks: dict[str, Any] = {task["task_id"]: task for task in airflow.api("GET", "dags/plain/tasks")["tasks"]}
    assert set(tasks) == {"plan", "payload", "sink"}
    assert tasks["payload"]["is_mapped"] is True
    assert tasks["sink"]["trigger_rule"] == "all_done"
