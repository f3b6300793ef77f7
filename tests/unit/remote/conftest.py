"""A server that answers as an Airflow would, or as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_jobs_plugin.cli import main
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply

Answer = Reply | Callable[[Received], Reply]


class FakeAirflow(LocalServer):
    """Gives tokens to everybody; what else it answers is set by method and path."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.answers: dict[str, list[Answer]] = {"GET /auth/token": [Reply(201, {"access_token": "t0ken"})]}

    def on(self, request: str, *answers: Answer) -> None:
        """Answer to ``GET /jobs`` below the plugin's routes, or to ``GET /auth/token``; the last answer stays."""
        method, path = request.split(" ")
        self.answers[request if path.startswith("/auth/") else f"{method} /jobs/api/v1{path}"] = list(answers)

    def reply(self, request: Received) -> Reply:
        with self._lock:
            answers = self.answers.get(
                f"{request.method} {request.path.partition('?')[0]}", [Reply(404, {"detail": "x"})]
            )
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Reply) else answer(request)

    def asked(self, method: str | None = None) -> list[Received]:
        """The requests of a method, those for tokens left out."""
        found = [request for request in self.ledger.all() if not request.path.startswith("/auth/")]
        return [request for request in found if method is None or request.method == method]


def query(request: Received) -> dict[str, str]:
    """The parameters of a request's query."""
    return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        for name in ("TOKEN", "USERNAME", "PASSWORD"):
            monkeypatch.delenv(f"AIRFLOW_JOBS_{name}", raising=False)
        monkeypatch.setenv("AIRFLOW_JOBS_URL", server.url)
        # What is on this machine is not asked for by way of a proxy.
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield server


class Cli:
    """Runs command lines in this process; has what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: Any) -> int:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = int(error.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return status


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


class Clock:
    """Time that passes only while somebody sleeps. What is in ``then`` happens in the sleeps, one in each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.then: list[Callable[[], Any]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        if self.then:
            self.then.pop(0)()


def refusal(status: int, message: str, *details: tuple[str, str], code: str = "some-code") -> Reply:
    """An error as the REST API answers it."""
    faults = [{"path": path, "message": text} for path, text in details]
    return Reply(
        status,
        {
            "code": code,
            "category": "x",
            "message": message,
            "details": faults,
            "correlationId": "c-1",
            "retirable": False,
        },
    )


def job_of(job_id: str = "prices", **fields: Any) -> dict[str, Any]:
    """A job as the REST API answers it."""
    return {
        "id": job_id,
        "state": "ACTIVE",
        "source": "API",
        "location": "created over REST",
        "created_at": "2026-11-20T09:00:00Z",
        "next_run_time": "2026-11-24T02:00:00Z",
        "last_run_time": None,
        "description": "at 02:00, Europe/Berlin",
        "ready": True,
        "configuration": {"maxConcurrentRequests": 5, "retry": {"maximumAttempts": 3}},
        "payload": [{"apiName": "list-products", "parameters": {"page": 1}}],
        "schedule": None,
        "sink": None,
        "target": {"type": "http", "connId": "prices_api"},
        "proxy": None,
        "auth_session": None,
        "notifications": None,
        "etag": '"5f8a"',
        **fields,
    }


def item_of(index: int, status: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
    """An item of a run as the REST API answers it."""
    return {
        "index": index,
        "id": f"k{index}",
        "apiName": "list-products",
        "parameters": {"page": index},
        "status": status,
        "attempts": 1,
        "maximumAttempts": 3,
        "duration": 0.25,
        "parent": None,
        "depth": 0,
        "result": {"n": index} if status == "SUCCEEDED" else None,
        "error": None,
        **fields,
    }


def run_of(status: str, **counts: int) -> dict[str, Any]:
    """A run as the REST API answers it."""
    kinds = ("pending", "running", "retrying", "succeeded", "failed", "canceled")
    full = {kind: counts.get(kind, 0) for kind in kinds}
    ended = status not in ("PENDING", "PAUSING", "PAUSED")
    return {
        "id": "manual__1",
        "job_id": "prices",
        "type": "MANUAL",
        "status": status,
        "start_time": "2026-11-23T09:00:00.5Z",
        "end_time": "2026-11-23T09:01:05Z" if ended else None,
        "counts": {"total": sum(full.values()) or None, **full},
        "note": None,
        "delivery": None,
        "error": None,
        "reason": None,
    }
