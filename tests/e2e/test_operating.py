"""What operators go by: metrics, fields of log lines, and health, on an Airflow of this file's own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack
from airflow_jobs_plugin.store.variables import DEFINITIONS

from ..terminal import command
from .conftest import Api, Gate, Jobs, started
from .ways import SHARED

pytestmark = pytest.mark.e2e

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operating.md"


class StatsD:
    """A StatsD server that adds up counters and keeps timers, by name."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.counters: Counter[str] = Counter()
        self.timers: dict[str, list[float]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                packet = self._socket.recv(65536).decode()
            except OSError:
                return
            for line in packet.splitlines():
                name, _, rest = line.removeprefix("airflow.").partition(":")
                value, kind = rest.split("|")[:2]
                if kind == "c":
                    self.counters[name] += int(value)
                elif kind == "ms":
                    self.timers.setdefault(name, []).append(float(value))

    def of(self, job_id: str) -> dict[str, int]:
        """The plugin's counters of a job, without its id."""
        ending = f".{job_id}"
        found = dict(self.counters)
        return {
            name.removesuffix(ending).removeprefix("jobs."): number
            for name, number in found.items()
            if name.startswith("jobs.") and name.endswith(ending)
        }

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def statsd() -> Iterator[StatsD]:
    server = StatsD()
    yield server
    server.close()


@pytest.fixture(scope="module")
def airflow(api: Api, statsd: StatsD, gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    more = {
        "metrics": {"statsd_on": True, "statsd_host": "127.0.0.1", "statsd_port": statsd.port},
        "logging": {"json_logs": True},
    }
    target = gate.target
    with started(api, gate, tmp_path_factory.mktemp("operated", numbered=True), more) as stack:
        yield stack
    gate.target = target


@pytest.fixture(scope="module")
def jobs(airflow: AirflowStack, receiver: WebhookReceiver) -> Jobs:
    return Jobs(airflow, receiver)


@pytest.fixture(scope="module")
def rest(airflow: AirflowStack) -> Iterator[httpx.Client]:
    with airflow.jobs_api() as client:
        yield client


def eventually(probe: Callable[[], Any], seconds: float = 30) -> None:
    """The assertions of ``probe`` hold, if not at once."""
    end = time.monotonic() + seconds
    while True:
        try:
            probe()
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)


# -- metrics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, SHARED])
def test_what_a_run_does_is_counted_and_timed(
    size: int, airflow: AirflowStack, jobs: Jobs, statsd: StatsD, receiver: WebhookReceiver
) -> None:
    job_id = f"measured-{size}"
    jobs.write(
        job_id,
        payload=[
            {"api": "echo", "parameters": {"n": 1}},
            {"api": "flaky", "parameters": {"failures": 2}},
            {"api": "fail", "parameters": {"status": 500}},
            {"api": "grow", "parameters": {"next": [["echo", {"n": 2}], ["echo", {"n": 3}]]}},
        ],
        configuration={
            "retry": {"maximumAttempts": 3},
            "toleratedFailurePercentage": 50,
            "itemsPerTask": size,
        },
        sink={"type": "webhook", "url": f"{receiver.url}/measured"},
    )
    run = jobs.run(job_id)
    assert run["state"] == "success"

    def counted() -> None:
        assert statsd.of(job_id) == {
            "item.succeeded": 5,
            "item.failed": 1,
            # One each of five, two more of the flaky one; three of the one that fails.
            "attempt.succeeded": 5,
            "attempt.failed": 5,
            "append.accepted": 1,
            "append.items": 2,
            "delivery.delivered": 1,
            "run.completed": 1,
        }

    eventually(counted)
    seconds = {
        name.removesuffix(f".{job_id}"): times for name, times in statsd.timers.items() if name.endswith(f".{job_id}")
    }
    assert len(seconds["jobs.attempt.duration"]) == 10
    assert len(seconds["jobs.append.duration"]) == len(seconds["jobs.delivery.duration"]) == 1
    # In milliseconds, as StatsD has it: about as long as Airflow says.
    (took,) = seconds["jobs.run.duration"]
    assert 500 < took < 120_000
    # The names without ids are those of all jobs together.
    assert statsd.counters["jobs.item.failed"] >= statsd.of(job_id)["item.failed"]
    assert len(statsd.timers["jobs.run.duration"]) >= 1


def test_appends_and_what_is_terminated_are_counted(rest: httpx.Client, statsd: StatsD) -> None:
    job_id = "measured-appends"
    definition = {
        "id": job_id,
        "payload": [{"api": "slow", "parameters": {"seconds": 60}}, {"api": "echo"}],
        "configuration": {"maxConcurrentRequests": 1},
    }
    rest.post("/jobs", json=definition).raise_for_status()
    run = rest.post(f"/jobs/{job_id}/trigger").raise_for_status().json()["jobRunId"]
    url = f"/jobs/{job_id}/runs/{run}"

    def planned() -> None:
        assert rest.get(f"{url}/payloads").json()["totalCount"] == 2

    # The first run after a start is slow, and what it could not take would count as refused.
    eventually(planned)

    def append(body: Any) -> int:
        return rest.post(f"{url}/payloads", json=body, headers={"Idempotency-Key": "once"}).status_code

    good = {"payload": [{"api": "echo"}, {"api": "echo"}, {"api": "echo"}]}
    assert [append(good), append(good), append({"payload": [{"api": "other"}]})] == [200, 200, 409]
    # Of a run that nobody has, nothing is counted: names would be anybody's to make up.
    assert rest.post("/jobs/made-up/runs/x/payloads", json=good).status_code == 404
    rest.post(f"{url}/terminate", json={"reason": "enough"}).raise_for_status()

    def counted() -> None:
        assert statsd.of(job_id) == {
            "append.accepted": 1,
            "append.repeated": 1,
            "append.refused": 1,
            "append.items": 3,
            "run.terminated": 1,
            "item.canceled": 5,
        }

    eventually(counted)
    assert not statsd.of("made-up")


def test_a_delivery_that_fails_is_counted_per_try(jobs: Jobs, statsd: StatsD, receiver: WebhookReceiver) -> None:
    job_id = "measured-delivery"
    # Gone: no further try can help.
    receiver.script([410])
    sink = {"type": "webhook", "url": f"{receiver.url}/measured-delivery"}
    jobs.write(job_id, payload=[{"api": "echo"}], sink=sink)
    assert jobs.run(job_id)["state"] == "failed"

    def counted() -> None:
        assert statsd.of(job_id) == {
            "item.succeeded": 1,
            "attempt.succeeded": 1,
            "delivery.failed": 1,
            "delivery.given_up": 1,
            "run.failure": 1,
        }

    eventually(counted)


def test_run_times_that_pass_without_a_run_are_counted(
    airflow: AirflowStack, rest: httpx.Client, statsd: StatsD
) -> None:
    job_id, period = "measured-missing", 4
    definition = {"id": job_id, "payload": [{"api": "echo"}], "schedule": {"intervals": [{"every": f"{period}s"}]}}
    rest.post("/jobs", json=definition).raise_for_status()

    def times() -> list[float]:
        runs = airflow.client.pages(f"dags/{job_id}/dagRuns", "dag_runs", order_by="logical_date")
        return [datetime.fromisoformat(run["logical_date"]).timestamp() for run in runs]

    try:
        airflow.client.wait_until("a run", times, 30)
        airflow.kill_component("scheduler")
        before = times()[-1]
        time.sleep(5 * period)
        airflow.start_component("scheduler")
        airflow.client.wait_until("a run after that", lambda: times()[-1] > before, 60)
        after = next(moment for moment in times() if moment > before)
        passed = round((after - before) / period) - 1
        assert passed >= 4
        eventually(lambda: _equals(statsd.of(job_id).get("schedule.missed"), passed))
    finally:
        rest.delete(f"/jobs/{job_id}", params={"force": True})
    assert f"{job_id} missed {passed} run times" in airflow.log_file("scheduler").read_text()


def _equals(found: Any, expected: Any) -> None:
    assert found == expected


def test_every_metric_is_documented(statsd: StatsD) -> None:
    documented: set[str] = set()
    for line in DOCUMENTATION.read_text().splitlines():
        first = ""
        for name in re.findall(r"`([a-z._]+)`", line.split("|")[1]) if line.startswith("| `jobs.") else []:
            first = first or name
            documented.add(first.rpartition(".")[0] + name if name.startswith(".") else name)
    seen = {*statsd.counters, *statsd.timers}
    mine = {name for name in seen if name.startswith("jobs.") and re.fullmatch(r"jobs\.[a-z]+\.[a-z_]+", name)}
    assert {"jobs.item.failed", "jobs.run.duration", "jobs.append.refused", "jobs.delivery.given_up"} <= mine
    assert mine <= documented, mine - documented
    # What these tests do not bring about.
    assert documented - mine <= {"jobs.run.success"}


# -- log lines ------------------------------------------------------------------------------------------------------


def lines_of(file: Path) -> list[dict[str, Any]]:
    found = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


@pytest.mark.parametrize("size", [1, SHARED])
def test_each_line_says_of_which_job_run_and_item_it_is(size: int, airflow: AirflowStack, jobs: Jobs) -> None:
    job_id = f"logged-{size}"
    jobs.write(
        job_id,
        payload=[{"api": "fail", "parameters": {"status": 404}}, {"api": "flaky", "parameters": {"failures": 1}}],
        configuration={"retry": {"maximumAttempts": 2}, "itemsPerTask": size},
    )
    run = jobs.run(job_id)["dag_run_id"]
    folder = airflow.home / "logs" / f"dag_id={job_id}"
    lines = [line for file in sorted(folder.rglob("*.log")) for line in lines_of(file)]
    mine = [line for line in lines if str(line.get("logger", "")).startswith("airflow_jobs_plugin")]
    assert mine
    for line in mine:
        assert (line["job_id"], line["run_id"]) == (job_id, run), line
    of_items = {(line["item"], line["attempt"]): line["item_id"] for line in mine if "item" in line}
    # A line of each attempt that failed, and of singles each attempt's.
    assert {(0, 1), (1, 1)} <= set(of_items), of_items
    with airflow.jobs_api() as client:
        shown = client.get(f"/jobs/{job_id}/runs/{run}/payloads").json()["payloads"]
    assert {index: item for (index, _), item in of_items.items()} == {
        item["index"]: item["id"] for item in shown if item["index"] in {index for index, _ in of_items}
    }


def test_what_is_done_over_rest_is_in_the_log_of_the_api_server(airflow: AirflowStack, rest: httpx.Client) -> None:
    job_id = "logged-rest"
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    sink = {"type": "webhook", "url": "https://hooks.example.com/x", "secret": secret}
    definition = {"id": job_id, "payload": [{"api": "slow", "parameters": {"seconds": 30}}], "sink": sink}
    rest.post("/jobs", json=definition).raise_for_status()
    run = rest.post(f"/jobs/{job_id}/trigger").raise_for_status().json()["jobRunId"]
    rest.post(f"/jobs/{job_id}/pause").raise_for_status()
    rest.post(f"/jobs/{job_id}/pause").raise_for_status()
    rest.post(f"/jobs/{job_id}/runs/{run}/terminate", json={"reason": "enough"}).raise_for_status()
    rest.delete(f"/jobs/{job_id}").raise_for_status()

    def written() -> None:
        log = airflow.log_file("api-server")
        done = [line for line in lines_of(log) if str(line.get("event", "")).startswith("job.")]
        mine = [(line["event"], line.get("run_id")) for line in done if line.get("job_id") == job_id]
        assert mine == [
            ("job.create", None),
            ("job.trigger", run),
            ("job.pause", None),
            ("job.terminate", run),
            ("job.delete", None),
        ]
        assert all(line["by"] for line in done)
        assert secret not in log.read_text(errors="replace")

    eventually(written)


# -- health ---------------------------------------------------------------------------------------------------------


def parts(rest: httpx.Client) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in rest.get("/health").json()["parts"]}


def health(airflow: AirflowStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("health", "--url", airflow.base_url, *arguments), capture_output=True, text=True, timeout=60
    )


def test_everything_is_healthy_when_it_is(airflow: AirflowStack, rest: httpx.Client) -> None:
    def healthy() -> None:
        answer = rest.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "healthy"), answer.json()

    eventually(healthy)
    assert [part["name"] for part in rest.get("/health").json()["parts"]] == [
        "database", "scheduler", "dag-processor", "factory", "files", "definitions", "run-tokens", "state-store",
        "api-url",
    ]  # fmt: skip
    done = health(airflow)
    assert done.returncode == 0, done.stderr
    assert "definitions" in done.stdout
    assert "healthy, version" in done.stdout
    assert json.loads(health(airflow, "--json").stdout)["status"] == "healthy"


def test_a_broken_job_file_is_told(airflow: AirflowStack, rest: httpx.Client) -> None:
    file = airflow.dags_folder / "jobs" / "broken.job.yaml"
    file.write_text("payload: 7\n")

    def told() -> None:
        part = parts(rest)["files"]
        assert part["status"] == "degraded"
        assert "broken.job.yaml" in part["message"]

    def mended() -> None:
        assert parts(rest)["files"] == {"name": "files", "status": "healthy", "message": None}

    eventually(told, 90)
    # The others go on, and so a probe does not take the server away.
    assert rest.get("/health").status_code == 200
    file.unlink()
    eventually(mended, 90)


def test_definitions_that_cannot_be_read_are_told(airflow: AirflowStack, rest: httpx.Client) -> None:
    rest.post("/jobs", json={"id": "kept", "payload": [{"api": "echo"}]}).raise_for_status()
    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))

    def change(statement: str, **values: Any) -> None:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), values)

    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT key, val FROM variable WHERE key LIKE :keys")
        before = {key: value for key, value in connection.execute(query, {"keys": f"{DEFINITIONS}%"})}
    key = sorted(before)[0]
    try:
        # As it is when another key has been configured.
        change("UPDATE variable SET val = 'gAAAAABnot-of-this-key' WHERE key = :key", key=key)
        answer = rest.get("/health")
        assert answer.status_code == 503
        assert "fernet_key" in parts(rest)["definitions"]["message"]
        done = health(airflow)
        assert done.returncode == 1
        assert "fernet_key" in done.stdout
        assert "unhealthy, version" in done.stdout
        # As it is when somebody edits it.
        change("UPDATE variable SET val = '{\"jobs\": 7}', is_encrypted = false WHERE key = :key", key=key)
        part = parts(rest)["definitions"]
        assert part["status"] == "degraded"
        assert "1 definition" in part["message"]
    finally:
        change("UPDATE variable SET val = :value, is_encrypted = true WHERE key = :key", key=key, value=before[key])
        engine.dispose()
    assert parts(rest)["definitions"]["status"] == "healthy"


def test_a_scheduler_that_is_gone_is_told(airflow: AirflowStack, rest: httpx.Client) -> None:
    airflow.kill_component("scheduler")
    try:

        def told() -> None:
            answer = rest.get("/health")
            assert answer.status_code == 503
            assert "scheduler does not run" in parts(rest)["scheduler"]["message"]

        eventually(told, 60)
    finally:
        airflow.start_component("scheduler")
    airflow.wait_healthy(60)


# The last one: it takes the database away.
def test_a_database_that_is_gone_is_told(airflow: AirflowStack, rest: httpx.Client) -> None:
    airflow.postgres.stop()

    def told() -> None:
        answer = rest.get("/health")
        assert answer.status_code == 503
        assert [(part["name"], part["status"]) for part in answer.json()["parts"]] == [("database", "unhealthy")]

    eventually(told, 30)
