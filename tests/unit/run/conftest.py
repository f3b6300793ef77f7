"""A run that closes, over several tries of its task, with a store that remembers and a real receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.delivering import Closing
from airflow_jobs_plugin.run.items import plan_items
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.outcomes import completed, failed, reconciled
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets.base import Result

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def inbox() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as server:
        yield server


class Store:
    """A task state store, as JSON keeps it."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key], self.retentions[key] = json.dumps(value), retention


class Run:
    """A run of some items, the third of which failed."""

    def __init__(self, inbox: WebhookReceiver | None, count: int = 4, **sink: Any) -> None:
        payload = [{"api": "a" if n % 2 == 0 else "b", "parameters": {"n": n}} for n in range(count)]
        if inbox is not None:
            sink = {"type": "webhook", "url": f"{inbox.url}/hook", "secret": SECRET, **sink}
        self.job = Job.model_validate({"id": "prices", "payload": payload, "sink": sink})
        self.items = plan_items(self.job, None, 1000)
        self.store = Store()
        self.pushed: dict[str, Any] = {}
        ti = SimpleNamespace(
            dag_id="prices", run_id="r1", xcom_push=lambda key, value: self.pushed.update({key: value})
        )
        run = SimpleNamespace(clear_number=0, run_type="manual", start_date=datetime(2026, 11, 25, tzinfo=UTC))
        dag = SimpleNamespace(stored=SimpleNamespace(source="CODE"))
        self.context: Any = {"ti": ti, "dag_run": run, "dag": dag, "task_state_store": self.store}
        self.outcomes = [self.outcome(n) for n in range(count)]

    def outcome(self, n: int) -> dict[str, Any]:
        found = failed(n, 3, AttemptError("timeout", "too late")) if n == 2 else completed(n, 1, Result({"n": n}, 200))
        return {**found, "messageId": message_of_item("prices", "r1", n, 999)}

    def close(self) -> dict[str, Any]:
        """One try of the closing task."""

        def read() -> Iterator[dict[str, Any]]:
            for n, outcome in enumerate(self.outcomes):
                yield reconciled(n, "failed" if n == 2 else "success", outcome)

        return Closing(self.context, self.job, self.items, read, "FAILURE", len(self.items) - 1).deliver()


def ids(inbox: WebhookReceiver) -> list[str]:
    return [request.headers["webhook-id"] for request in inbox.ledger.all()]


def numbers(inbox: WebhookReceiver) -> list[int]:
    return sorted(body["apiInfo"]["parameters"]["n"] for body in inbox.delivered())
