"""One real Airflow for all end-to-end tests, with an API to call and a webhook receiver that keep ledgers."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from airflow_jobs_plugin.demo import environment
from airflow_jobs_plugin.demo.processes import ManagedProcess, free_ports
from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.demo.stack import AirflowStack

from . import ways

FACTORY = '''"""An Airflow DAG per job file."""
from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
'''

# A module of a user's, for python targets.
FUNCTIONS = """
import os
import signal
import time


def add(a, b):
    return {"sum": a + b}


def branch(leaves):
    from airflow_jobs_plugin import Extended

    payloads = [{"api": "acme_jobs:add", "parameters": {"a": n, "b": 1}} for n in range(leaves)]
    return Extended({"leaves": leaves}, payloads=payloads)


def wait(seconds):
    time.sleep(seconds)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def odd():
    raise RuntimeError("a NUL \\0, half a pair \\ud800, and \u00e4")


def secret_agent():
    raise RuntimeError("not allowed, so never reached")
"""

PARALLELISM = 6


class Api(LocalServer):
    """The API that jobs call: ``echo``, ``flaky``, ``fail``, ``slow``, ``big`` and ``grow``.

    ``big`` answers with ``noise``, ``grow`` with what to call next: ``{"next": [[api, parameters],
    …]}`` or ``{"widths": [10, 5]}``, for which it brings ten items of its own kind, each of which brings five ``echo``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self.most_at_once: dict[str, int] = {}
        self.spans: dict[str, list[tuple[float, float]]] = {}

    def forget(self) -> None:
        """Begin anew, for tests that call their jobs by names that were in use."""
        with self._lock:
            # Calls that are still being answered count down in the one that they have counted up in.
            self._calls, self._now, self.most_at_once, self.spans = {}, {}, {}, {}
        self.ledger.clear()

    def reply(self, request: Received) -> Reply:
        api, parameters = request.path.strip("/"), request.body or {}
        job = request.headers["x-job-id"]
        with self._lock:
            count = self._calls[key] = self._calls.get(key := request.headers["idempotency-key"], 0) + 1
            now, spans = self._now, self.spans.setdefault(job, [])
            now[job] = now.get(job, 0) + 1
            self.most_at_once[job] = max(self.most_at_once.get(job, 0), now[job])
        begun = time.time()
        try:
            if api == "slow":
                time.sleep(parameters["seconds"])
            if api == "big":
                return Reply(200, noise(**parameters))
            if api == "fail" or (api == "flaky" and count <= parameters["failures"]):
                body = {
                    "message": parameters.get("says", f"no luck, call {count}"),
                    "extendedPayloads": grown(parameters),
                }
                return Reply(parameters.get("status", 503), body)
            more = {"extendedPayloads": grown(parameters)} if api in ("grow", "flaky") else {}
            return Reply(200, {"echo": parameters, "call": count, **more})
        finally:
            with self._lock:
                now[job] -= 1
                spans.append((begun, time.time()))

    def calls(self, job_id: str) -> list[Received]:
        """The calls that a job made, in the order of their arrival."""
        return [request for request in self.ledger.all() if request.headers["x-job-id"] == job_id]

    def calls_by_item(self, job_id: str) -> dict[int, list[Received]]:
        """The same by item."""
        items: dict[int, list[Received]] = {}
        for request in self.calls(job_id):
            items.setdefault(int(request.headers["x-item-index"]), []).append(request)
        return items


def noise(count: int, letters: str) -> str:
    """A text of so many characters that does not compress well, always the same one."""
    return "".join(random.Random(count).choices(letters, k=count))


def grown(parameters: dict[str, Any]) -> list[dict[str, Any]] | None:
    if "next" in parameters:
        return [{"api": name, "parameters": inner} for name, inner in parameters["next"]]
    if not (widths := parameters.get("widths")):
        return None
    name, rest = ("grow", {"widths": widths[1:]}) if len(widths) > 1 else ("echo", {})
    path = parameters.get("path", [])
    return [{"api": name, "parameters": {**rest, "path": [*path, n]}} for n in range(widths[0])]


class Gate(LocalServer):
    """What stands between workers and the API server when they append: lets requests pass, or does harm."""

    def __init__(self) -> None:
        super().__init__()
        self.target = ""
        self.opened = threading.Event()
        self.opened.set()
        self.drops = 0
        self.passed = 0

    def reply(self, request: Received) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.request(request.method, self.target + request.path, content=request.raw, headers=headers)
        self.passed += 1
        if self.drops > 0:
            self.drops -= 1
            raise ConnectionResetError("the answer is lost on the way")
        self.opened.wait(60)  # the server has done it, and the worker does not know yet
        return Reply(answer.status_code, answer.content, {"Content-Type": answer.headers["Content-Type"]})


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    with Gate() as server:
        yield server


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    with Api() as server:
        yield server


@pytest.fixture(scope="session")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as server:
        yield server


@pytest.fixture(scope="session")
def airflow(api: Api, gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    with started(api, gate, tmp_path_factory.mktemp("airflow", numbered=True)) as stack:
        yield stack


@contextmanager
def started(api: Api, gate: Gate, home: Path, more: environment.Config | None = None) -> Iterator[AirflowStack]:
    """The Airflow of these tests, with more configuration; for the screenshots, too."""
    dags = home / "dags"
    (dags / "jobs").mkdir(parents=True)
    (dags / "jobs.py").write_text(FACTORY)
    modules = home / "modules"
    modules.mkdir()
    (modules / "acme_jobs.py").write_text(FUNCTIONS)
    stack = AirflowStack(
        dags,
        home=home,
        connections={
            "airflow_jobs_default": api.url,
            "hostless": json.dumps({"conn_type": "http"}),
        },
        config=environment.merge(
            {
                "core": {"parallelism": PARALLELISM, "max_map_length": 40},
                # Who was killed is missed soon: the defaults are five minutes.
                "scheduler": {
                    "orphaned_tasks_check_interval": 5,
                    "scheduler_health_check_threshold": 10,
                    "task_instance_heartbeat_timeout": 60,
                },
                "jobs": {
                    "python_targets": "acme_jobs:add acme_jobs:branch acme_jobs:wait acme_jobs:die acme_jobs:odd",
                    "api_url": gate.url,
                    "max_append_depth": 6,
                    "sink_private_addresses": "all",
                },
            },
            more or {},
        ),
        env={"PYTHONPATH": str(modules)},
    )
    with stack:
        gate.target = stack.base_url
        yield stack


class Jobs:
    """Writes job files into the running Airflow and runs them."""

    def __init__(self, airflow: AirflowStack, receiver: WebhookReceiver) -> None:
        self.airflow = airflow
        self.folder = airflow.dags_folder / "jobs"
        self._receiver = receiver

    def write(self, job_id: str, **definition: Any) -> None:
        """Write a job file and wait until its DAG is there."""
        definition = ways.in_use(definition)
        (self.folder / f"{job_id}.job.json").write_text(json.dumps(definition, indent=2))
        if ways.shared():
            self._wait_for_the_way(job_id)
        self.airflow.wait_for_dag(job_id)

    def _wait_for_the_way(self, job_id: str) -> None:
        """Its DAG may be there from the test before, in which items did not share task instances."""
        known = self.airflow.client.request("GET", f"/api/v2/dags/{job_id}/details")
        if known.is_success:
            # Before the file's turn comes by itself.
            self.airflow.api("PUT", f"parseDagFile/{known.json()['file_token']}")
        with self.airflow.jobs_api() as client:

            def changed() -> bool:
                shown = client.get(f"/jobs/{job_id}")
                return shown.is_success and shown.json()["configuration"].get("itemsPerTask", 1) == ways.SHARED

            self.airflow.client.wait_until(f"{job_id} as it is now", changed, 60)

    def run(self, job_id: str, conf: dict[str, Any] | None = None, timeout: float = 120) -> dict[str, Any]:
        """Trigger a job and wait for the end of the run."""
        run_id = self.airflow.trigger(job_id, conf)
        return self.airflow.wait_for_run(job_id, run_id, timeout)

    def delivered(self, job_id: str) -> list[Received]:
        """What the receiver got of a job, refused deliveries included."""
        return [r for r in self._receiver.ledger.all() if r.body["projectJob"]["id"] == job_id]

    def logs(self) -> str:
        """Everything that Airflow has logged so far."""
        files = (self.airflow.home / "logs").rglob("*.log")
        return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.fixture(scope="session")
def jobs(airflow: AirflowStack, receiver: WebhookReceiver) -> Jobs:
    return Jobs(airflow, receiver)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "items_per_task" in metafunc.fixturenames:
        core = any(mark.name == "core" for mark in metafunc.definition.iter_markers())
        both = core or metafunc.config.getoption("--thorough")
        found = {"alone": 1, **({"shared": ways.SHARED} if both else {})}
        metafunc.parametrize("items_per_task", list(found.values()), ids=list(found), indirect=True)


@pytest.fixture
def items_per_task(request: pytest.FixtureRequest, api: Api, receiver: WebhookReceiver) -> Iterator[int]:
    """How many items share a task instance: one, or some. What the test does is to come to the same."""
    if request.param > 1:
        # The jobs' ids are those of the run before, and so would their calls and deliveries be.
        api.forget()
        receiver.ledger.clear()
    ways.use(request.param)
    yield request.param
    ways.use(1)


@pytest.fixture(scope="session")
def rest(airflow: AirflowStack) -> Iterator[httpx.Client]:
    """The plugin's REST API, as an admin with a token."""
    with airflow.jobs_api() as client:
        yield client


# -- an API server whose visitors have to say who they are ----------------------------------------------------------

BELOW = "/below/a/path"


def token(airflow: AirflowStack, **claims: Any) -> str:
    now = datetime.now(UTC)
    common = {"sub": "somebody", "aud": "apache-airflow", "iat": now, "nbf": now, "exp": now + timedelta(minutes=10)}
    return jwt.encode(common | claims, airflow.env["AIRFLOW__API_AUTH__JWT_SECRET"], "HS512")


def bearer(airflow: AirflowStack, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(airflow, **claims)}"}


@pytest.fixture(scope="session")
def strict(airflow: AirflowStack) -> Iterator[httpx.Client]:
    """A second API server of the same Airflow, whose visitors are nobody until they prove otherwise, below a path."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}{BELOW}"
    strictly = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
    }
    process = ManagedProcess(
        "strict api-server",
        [sys.executable, "-P", "-m", "airflow", "api-server"],
        airflow.log_file("strict-api-server"),
        env=airflow.env | strictly,
        cwd=airflow.home,
    )
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

            def healthy() -> bool:
                process.check()
                try:
                    return client.get("/api/v2/monitor/health").is_success
                except httpx.TransportError:
                    return False

            airflow.client.wait_until("a strict API server", healthy, 90)
            yield client
    finally:
        process.stop()
