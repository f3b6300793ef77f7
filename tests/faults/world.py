"""A topology, the API that it calls and the receiver that it tells: what a fault test does its harm to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from airflow_jobs_plugin.demo import environment
from airflow_jobs_plugin.demo.processes import StackError
from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from tests.redis_server import RedisServer

from .clocks import Clocks
from .reckoning import Figures, Ledgers, reckon
from .servers import Api
from .topology import Topology

FINISHED = frozenset({"SUCCESS", "COMPLETED", "FAILURE", "TERMINATED", "CANCELED"})
#: How many items share a task instance where some do.
SHARED = 3


class World:
    """All of it. REST calls are repeated while the API server is away, as a patient client's would be."""

    def __init__(self, airflow: Topology, redis: RedisServer, api: Api, receiver: WebhookReceiver) -> None:
        self.airflow, self.redis, self.api, self.receiver = airflow, redis, api, receiver
        self.ledgers = Ledgers(api.ledger, receiver.ledger)
        # A token of its own for each client would be asked for while the API server is down.
        self.rest = airflow.jobs_api()

    def close(self) -> None:
        """Close the connections."""
        self.rest.close()

    def log_in(self) -> None:
        """Ask for another token, as a user whose own is not valid any more."""
        self.rest.headers["Authorization"] = f"Bearer {self.airflow.client.log_in()}"

    def ask(self, method: str, path: str, *, patience: float = 90, **kw: Any) -> httpx.Response:
        """Send a request until it is answered with less than 500.

        :param patience: seconds
        :raises StackError: it was not
        """
        end = time.monotonic() + patience
        told: object = None
        while time.monotonic() < end:
            try:
                response = self.rest.request(method, path, timeout=20, **kw)
                if response.status_code < 500:
                    return response
                told = response.text
            except httpx.TransportError as error:
                told = error
            time.sleep(0.3)
            self.airflow.check()
        raise StackError(f"{method} {path}: {told} after {patience:g} s")

    def get(self, path: str, **parameters: Any) -> Any:
        """The parsed answer to a GET; it has to be a success."""
        response = self.ask("GET", path, params=parameters)
        assert response.is_success, response.text
        return response.json()

    def until(self, what: str, probe: Callable[[], Any], timeout: float = 60) -> Any:
        """Wait until *probe* returns something true; what has ended is started again meanwhile."""
        end = time.monotonic() + timeout
        while not (found := probe()):
            if time.monotonic() > end:
                raise StackError(f"not within {timeout:g} s: {what}")
            self.airflow.check()
            time.sleep(0.25)
        return found

    # -- jobs ------------------------------------------------------------------------------------------------

    def create(self, job_id: str, payload: list[dict[str, Any]], **definition: Any) -> None:
        """Create a job that delivers to the receiver; it is ready when this returns."""
        sink = {"type": "webhook", "url": f"{self.receiver.url}/{job_id}"}
        response = self.ask("POST", "/jobs", json={"id": job_id, "payload": payload, "sink": sink, **definition})
        assert response.status_code == 201, response.text
        assert response.json()["ready"]

    def trigger(self, job_id: str) -> str:
        """Start a run."""
        response = self.ask("POST", f"/jobs/{job_id}/trigger", headers={"Idempotency-Key": f"{job_id}-{time.time()}"})
        assert response.status_code == 200, response.text
        return str(response.json()["jobRunId"])

    def start(self, name: str, payload: list[dict[str, Any]], **configuration: Any) -> list[tuple[str, str]]:
        """Create and start a job twice: with one item a task instance, and with several. Returns (job, run) of both."""
        runs = []
        for way, size in (("alone", 1), ("shared", SHARED)):
            job_id = f"{name}-{way}"
            self.create(job_id, payload, configuration={**configuration, "itemsPerTask": size})
            runs.append((job_id, self.trigger(job_id)))
        return runs

    def run(self, job_id: str, run_id: str) -> dict[str, Any]:
        """A run as it is now."""
        found: dict[str, Any] = self.get(f"/jobs/{job_id}/runs/{run_id}")["jobRun"]
        return {**found, "job_id": job_id}

    def items(self, job_id: str, run_id: str) -> list[dict[str, Any]]:
        """All items of a run, in order."""
        found: list[dict[str, Any]] = []
        while True:
            page = {"pageSize": 100, "pageNumber": len(found) // 100 + 1}
            listed = self.get(f"/jobs/{job_id}/runs/{run_id}/payloads", **page)["payloads"]
            found += listed
            if len(listed) < 100:
                return found

    def ended(self, job_id: str, run_id: str, timeout: float = 120) -> dict[str, Any]:
        """Wait for the end of a run."""

        def probe() -> Any:
            run = self.run(job_id, run_id)
            return run if run["status"] in FINISHED else None

        found: dict[str, Any] = self.until(f"the end of {job_id}", probe, timeout)
        return found

    def reckon(
        self, job_id: str, run_id: str, *, expected: int, deaths: int = 0, status: str = "SUCCESS", timeout: float = 120
    ) -> Figures:
        """Wait for the end of a run, which is to have a status, and account for it."""
        run = self.ended(job_id, run_id, timeout)
        items = self.items(job_id, run_id)
        assert run["status"] == status, (run, [i for i in items if i["status"] != "SUCCEEDED"])
        shared = self.get(f"/jobs/{job_id}")["configuration"].get("itemsPerTask", 1) > 1
        return reckon(self.ledgers, run, items, expected=expected, deaths=deaths if shared else 0)


@contextmanager
def started(
    home: Path,
    redis_binary: str,
    *,
    config: environment.Config | None = None,
    env: dict[str, str] | None = None,
    clocks: Clocks | None = None,
) -> Iterator[World]:
    """Start everything, and end all of it. The clocks are of what runs in processes of its own, Redis included."""
    clock = clocks and clocks.environment("redis")
    with Api() as api, WebhookReceiver() as receiver, RedisServer(redis_binary, home / "redis", clock) as redis:
        connections = {"airflow_jobs_default": api.url}
        topology = Topology(home / "airflow", redis, connections=connections, config=config, env=env, clocks=clocks)
        with topology as airflow:
            world = World(airflow, redis, api, receiver)
            try:
                yield world
            finally:
                world.close()
