"""Runs of a paused job are refused by Airflow's own routes, to whoever could start them; nothing else changes."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import BELOW, Jobs, bearer, token

pytestmark = pytest.mark.e2e

WORK: dict[str, Any] = {
    "payload": [{"api": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}],
    "target": {"type": "python"},
    "schedule": {"calendars": [{"hour": 3}]},
}

DAGS = """
from datetime import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset

with DAG("no-job", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, tags=["jobs"]):
    EmptyOperator(task_id="nothing")

with DAG("maker", schedule=None, tags=["job"]):
    EmptyOperator(task_id="make", outlets=[Asset("made-by-a-job")])

with DAG("caller", schedule=None, is_paused_upon_creation=False):
    for name, target, options in [
        ("plain", "frozen", {}),
        ("reset", "frozen", {"reset_dag_run": True}),
        ("skip", "frozen", {"skip_when_already_exists": True}),
        ("other", "no-job", {}),
    ]:
        TriggerDagRunOperator(task_id=name, trigger_dag_id=target, trigger_run_id="by-" + name, **options)
"""

BACKFILL = {"from_date": "2026-01-03T00:00:00Z", "to_date": "2026-01-05T00:00:00Z"}


@pytest.fixture(scope="module", autouse=True)
def frozen(airflow: AirflowStack, jobs: Jobs) -> None:
    """A paused job, one that is active, and DAGs that are no jobs of this plugin."""
    (airflow.dags_folder / "paused_triggers.py").write_text(DAGS)
    jobs.write("frozen", **WORK)
    jobs.write("warm", **WORK)
    for dag_id in ("no-job", "maker", "caller"):
        airflow.wait_for_dag(dag_id)
    for dag_id in ("frozen", "no-job", "maker"):
        airflow.client.unpause(dag_id, paused=True)


def post(airflow: AirflowStack, path: str, body: Any = None, **kw: Any) -> httpx.Response:
    return airflow.client.request("POST", path, json={"logical_date": None} if body is None else body, **kw)


def runs(airflow: AirflowStack, dag_id: str) -> list[dict[str, Any]]:
    return airflow.client.pages(f"dags/{dag_id}/dagRuns", "dag_runs")


def assert_refused(response: httpx.Response, job_id: str = "frozen") -> None:
    assert response.status_code == 409, response.text
    assert f"The job '{job_id}' is paused" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/api/v2/dags/frozen/dagRuns", "/api/v2/dags/%66r%6Fzen/dagRuns"])
def test_a_trigger_is_refused_with_a_reason(airflow: AirflowStack, path: str) -> None:
    assert_refused(post(airflow, path))
    assert runs(airflow, "frozen") == []


def test_the_session_cookie_of_the_ui_is_told_the_same(airflow: AirflowStack) -> None:
    cookie = {"Cookie": f"_token={airflow.token()}"}
    with httpx.Client(base_url=airflow.base_url, trust_env=False) as browser:
        url = "/api/v2/dags/frozen/dagRuns"
        assert_refused(browser.post(url, json={"logical_date": None}, headers=cookie))


def test_a_trigger_whose_unpausing_is_on_its_way_is_accepted(airflow: AirflowStack, jobs: Jobs) -> None:
    jobs.write("thawing", **WORK)
    airflow.client.unpause("thawing", paused=True)
    with ThreadPoolExecutor() as pool:
        trigger = pool.submit(post, airflow, "/api/v2/dags/thawing/dagRuns")
        time.sleep(0.05)
        assert not trigger.done(), "it waits for the un-pausing"
        airflow.client.unpause("thawing")
        response = trigger.result()
    assert response.status_code == 200, response.text
    assert airflow.wait_for_run("thawing", response.json()["dag_run_id"])["state"] == "success"


def test_a_paused_dag_that_is_no_job_takes_triggers_as_ever(airflow: AirflowStack) -> None:
    response = post(airflow, "/api/v2/dags/no-job/dagRuns")
    assert response.status_code == 200, response.text
    assert response.json()["state"] == "queued"


def test_a_backfill_is_refused_and_others_get_through_whole(airflow: AirflowStack) -> None:
    assert_refused(post(airflow, "/api/v2/backfills", {"dag_id": "frozen", **BACKFILL}))
    assert airflow.api("GET", "backfills", params={"dag_id": "frozen"})["total_entries"] == 0

    conf = {"text": "ä" * 200_000}
    for dag_id in ("no-job", "warm"):
        response = post(airflow, "/api/v2/backfills", {"dag_id": dag_id, **BACKFILL, "dag_run_conf": conf})
        assert response.status_code == 200, response.text
        assert response.json()["dag_run_conf"] == conf
        airflow.api("PUT", f"backfills/{response.json()['id']}/cancel")


def test_an_asset_that_a_paused_job_makes_is_not_materialized(airflow: AirflowStack) -> None:
    (asset,) = airflow.api("GET", "assets", params={"name_pattern": "made-by-a-job"})["assets"]
    path = f"/api/v2/assets/{asset['id']}/materialize"
    assert_refused(post(airflow, path, {}), "maker")
    assert post(airflow, path, {}, headers=bearer(airflow, role="USER")).status_code == 403, (
        "may trigger DAGs, but has no right to assets"
    )
    airflow.client.unpause("maker")
    assert post(airflow, path, {}).status_code == 200


def test_a_task_that_triggers_it_fails_and_says_why(airflow: AirflowStack) -> None:
    run_id = airflow.trigger("caller")
    airflow.wait_for_run("caller", run_id)
    states = {i["task_id"]: i["state"] for i in airflow.task_instances("caller", run_id)}
    assert states == {"plain": "failed", "reset": "failed", "skip": "failed", "other": "success"}
    for task in ("plain", "reset", "skip"):
        log = airflow.client.task_log("caller", run_id, task)
        assert "The job 'frozen' is paused" in log
        assert "already exists" not in log
    assert runs(airflow, "frozen") == []
    assert "by-other" in {run["dag_run_id"] for run in runs(airflow, "no-job")}


def task(airflow: AirflowStack, scope: str) -> dict[str, str]:
    return bearer(airflow, aud="urn:airflow.apache.org:task", sub=str(uuid.uuid4()), scope=scope)


@pytest.mark.parametrize("who", ["viewer", "viewer's cookie", "nobody", "liar", "liar's cookie", "queued task"])
def test_who_may_not_trigger_learns_nothing(airflow: AirflowStack, strict: httpx.Client, who: str) -> None:
    """Airflow's own answer, the same for a paused job, an active one and one that does not exist."""
    headers = {
        "viewer": bearer(airflow, role="VIEWER"),
        "viewer's cookie": {"Cookie": f"_token={token(airflow, role='VIEWER')}"},
        "nobody": {},
        "liar": {"Authorization": "Bearer eyJ.not.true"},
        "liar's cookie": {"Cookie": "_token=eyJ.not.true"},
        "queued task": task(airflow, "workload"),
    }[who]
    for path, body in [
        ("/api/v2/dags/{}/dagRuns", {"logical_date": None}),
        ("/api/v2/backfills", BACKFILL),
        ("/execution/dag-runs/{}/mine", {"conf": {}}),
    ]:
        answers = set()
        for dag_id in ("frozen", "warm", "missing"):
            content = {**body, "dag_id": dag_id} if body is BACKFILL else body
            response = strict.post(path.format(dag_id), json=content, headers=headers)
            answers.add((response.status_code, response.text.replace(dag_id, "…")))
        ((status, text),) = answers
        assert status in (401, 403), text
        assert "paused" not in text


def test_below_a_path_users_and_tasks_are_told(airflow: AirflowStack, strict: httpx.Client) -> None:
    user = bearer(airflow, role="USER")
    cookie = {"Cookie": user["Authorization"].replace("Bearer ", "_token=")}
    # Airflow serves its REST API to a proxy that takes the path off, too.
    for root in (str(strict.base_url).rstrip("/"), str(strict.base_url).rstrip("/").removesuffix(BELOW)):
        for headers in (user, cookie):
            trigger = {"json": {"logical_date": None}, "headers": headers}
            assert_refused(strict.post(f"{root}/api/v2/dags/frozen/dagRuns", **trigger))
            assert strict.post(f"{root}/api/v2/dags/no-job/dagRuns", **trigger).status_code == 200

    answer = strict.post("/execution/dag-runs/frozen/mine", json={"conf": {}}, headers=task(airflow, "execution"))
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]["reason"] == "paused"
    answer = strict.post("/execution/dag-runs/frozen/mine", json={"conf": {}}, headers=user)
    assert answer.status_code == 403, "a user is no task"
    answer = strict.post("/execution/dag-runs/no-job/by-hand", json={"conf": {}}, headers=task(airflow, "execution"))
    assert answer.status_code == 204, answer.text


def test_resuming_takes_triggers_again(airflow: AirflowStack, jobs: Jobs) -> None:
    jobs.write("resumed", **WORK)
    airflow.client.unpause("resumed", paused=True)
    assert_refused(post(airflow, "/api/v2/dags/resumed/dagRuns"), "resumed")
    airflow.client.unpause("resumed")
    assert jobs.run("resumed")["state"] == "success"


def test_a_stranger_with_the_tag_of_jobs_does_not_lead_workers_astray(
    airflow: AirflowStack, rest: httpx.Client
) -> None:
    # The file with "maker" was parsed last, or will have been in a moment: not where jobs come from.
    airflow.client.wait_until(
        "a parse",
        lambda: (
            airflow.api("GET", "dags/maker")["last_parsed_time"] > airflow.api("GET", "dags/warm")["last_parsed_time"]
        ),
        60,
        0.05,
    )
    response = rest.post("/jobs", json={"id": "led", "payload": WORK["payload"], "target": WORK["target"]})
    assert response.json()["ready"]
    assert airflow.api("GET", "dags/led")["relative_fileloc"] == "jobs.py"
    assert "maker" not in [job["id"] for job in rest.get("/jobs").json()]
    rest.delete("/jobs/led")
