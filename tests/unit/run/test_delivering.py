"""Closing delivers over several tries of its task, to a real receiver, with a store that remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.run.delivering import Closing, RetryLater
from airflow_jobs_plugin.run.items import plan_items
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.notes import REDELIVER
from airflow_jobs_plugin.run.one_by_one import deliver_item
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

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)


class Run:
    """A run of some items, the third of which failed."""

    def __init__(self, inbox: WebhookReceiver, count: int = 4, **sink: Any) -> None:
        payload = [{"api": "a" if n % 2 == 0 else "b", "parameters": {"n": n}} for n in range(count)]
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


def test_a_run_is_one_message_over_all_tries(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    inbox.script([500, 503])
    for failures, wait in ((1, 10), (2, 20)):
        with pytest.raises(RetryLater) as caught:
            run.close()
        assert caught.value.wait.total_seconds() == wait
        assert caught.value.report["tries"] == failures
    report = run.close()
    assert (report["status"], report["tries"]) == ("delivered", 3)
    assert len(set(ids(inbox))) == 1
    assert len({request.raw for request in inbox.ledger.all()}) == 1
    for request in inbox.ledger.all():
        Webhook(SECRET).verify(request.raw, dict(request.headers))
    # A task that is tried again after that delivers nothing more.
    assert run.close() == report
    assert len(inbox.ledger) == 3


def test_a_receiver_that_is_down_for_longer_than_the_window_fails_the_delivery(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    inbox.script([503, 503])
    with pytest.raises(RetryLater):
        run.close()
    memory = run.store.get("delivery-0")
    run.store.set("delivery-0", {**memory, "since": (datetime.now(UTC) - timedelta(hours=1, seconds=1)).isoformat()})
    report = run.close()
    assert (report["status"], report["statusCode"], report["tries"]) == ("failed", 503, 2)
    assert "answered 503" in report["message"]
    assert run.close() == report, "and that is remembered"
    assert len(inbox.ledger) == 2


class HangingUp(LocalServer):
    """Hangs up on the first two messages, takes the third."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[Any] = []

    def reply(self, request: Received) -> Reply:
        if len(self.ledger) <= 2:
            raise ConnectionResetError
        self.accepted.append(request.body)
        return Reply(200)


def test_a_receiver_that_hangs_up_and_comes_back_gets_the_whole(inbox: WebhookReceiver) -> None:
    with HangingUp() as server:
        run = Run(inbox)
        run.job = run.job.model_copy(update={"sink": run.job.sink.model_copy(update={"url": f"{server.url}/x"})})
        for _ in range(2):
            with pytest.raises(RetryLater):
                run.close()
        assert run.close()["status"] == "delivered"
        (body,) = server.accepted
        assert [entry["apiInfo"]["parameters"]["n"] for entry in body["results"]] == [0, 1, 2, 3]
        assert len({request.headers["webhook-id"] for request in server.ledger.all()}) == 1


def test_a_wish_of_the_receiver_is_heard(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    inbox.script([Reply(429, None, {"Retry-After": "90"})])
    with pytest.raises(RetryLater) as caught:
        run.close()
    assert caught.value.wait.total_seconds() == 90


def test_items_that_their_workers_delivered_are_not_delivered_again(inbox: WebhookReceiver) -> None:
    run = Run(inbox, delivery="payload")
    run.outcomes[0]["delivered"] = {"to": "x"}
    report = run.close()
    assert (report["payloads"], report["delivered"]) == (4, 4)
    assert numbers(inbox) == [1, 2, 3]
    assert set(ids(inbox)) == {message_of_item("prices", "r1", n, 999) for n in (1, 2, 3)}


def test_what_is_owed_is_remembered_item_by_item(inbox: WebhookReceiver) -> None:
    run = Run(inbox, 20, delivery="payload")
    inbox.script([200, 500, 200, 500] * 3)
    with pytest.raises(RetryLater) as caught:
        run.close()
    assert caught.value.report["delivered"] == 14
    report = run.close()
    assert (report["status"], report["delivered"], report["tries"]) == ("delivered", 20, 2)
    assert numbers(inbox) == list(range(20)), "each accepted once"
    assert len(inbox.ledger) == 26
    assert len(set(ids(inbox))) == 20


def test_a_receiver_that_is_down_is_not_asked_for_every_item(inbox: WebhookReceiver) -> None:
    run = Run(inbox, 200, delivery="payload")
    inbox.script([502] * 500)
    with pytest.raises(RetryLater):
        run.close()
    assert len(inbox.ledger) < 25


def test_a_receiver_that_wants_no_more_ends_it(inbox: WebhookReceiver) -> None:
    run = Run(inbox, 100, delivery="payload")
    inbox.script([200, 200, 410] + [410] * 100)
    report = run.close()
    assert (report["status"], report["statusCode"], report["payloads"]) == ("failed", 410, 100)
    assert report["delivered"] == 2
    assert len(inbox.ledger) < 20


def test_redelivery_sends_what_is_owed_or_everything_as_new_messages(inbox: WebhookReceiver) -> None:
    run = Run(inbox, 3, delivery="payload")
    inbox.script([200, 410, 410])
    assert run.close()["status"] == "failed"
    first = set(ids(inbox))
    kept = run.store.get("delivery-0")
    run.context["dag_run"].clear_number = 1
    run.store.set(REDELIVER, {"clearNumber": 1, "again": False, "message": kept["message"], "sent": kept["sent"]})
    assert run.close()["delivered"] == 3
    assert numbers(inbox) == [0, 1, 2]
    assert set(ids(inbox)) <= first | {message_of_item("prices", "r1", n, 999) for n in range(3)}
    run.context["dag_run"].clear_number = 2
    run.store.set(REDELIVER, {"clearNumber": 2, "again": True})
    before = set(ids(inbox))
    assert run.close()["delivered"] == 3
    assert len(set(ids(inbox)) - before) == 3


def test_a_worker_delivers_its_item_and_notes_it(inbox: WebhookReceiver) -> None:
    run = Run(inbox, delivery="payload", skipOnFail=True)
    for n in (0, 2):
        deliver_item(run.context, run.job, run.items[n], run.outcomes[n])
    assert numbers(inbox) == [0], "the failure is left out"
    assert run.pushed["return_value"]["delivered"]["statusCode"] == 200
    assert inbox.delivered()[0]["apiInfo"]["result"] == {"status": "completed", "result": {"n": 0}, "statusCode": 200}


def test_a_worker_whose_delivery_fails_leaves_it_to_closing(inbox: WebhookReceiver) -> None:
    run = Run(inbox, delivery="payload")
    inbox.script([500])
    deliver_item(run.context, run.job, run.items[0], run.outcomes[0])
    assert run.pushed == {}
    assert run.close()["delivered"] == 4
    assert ids(inbox).count(message_of_item("prices", "r1", 0, 999)) == 2


def test_a_text_stays_the_text_that_it_is(inbox: WebhookReceiver) -> None:
    run = Run(inbox, 1, delivery="payload")
    run.outcomes[0] = {**completed(0, 1, Result("17", 200)), "messageId": "m"}
    deliver_item(run.context, run.job, run.items[0], run.outcomes[0])
    assert inbox.delivered()[0]["apiInfo"]["result"]["result"] == "17"


def test_an_item_that_ran_again_is_another_message() -> None:
    assert message_of_item("j", "r", 1, 999) == message_of_item("j", "r", 1, 998)
    assert message_of_item("j", "r", 1, 1001) != message_of_item("j", "r", 1, 999)


def test_a_sink_that_cannot_be_made_does_not_undo_the_item(inbox: WebhookReceiver) -> None:
    run = Run(inbox, delivery="payload")
    del run.context["dag"].stored  # whatever it is that goes wrong
    deliver_item(run.context, run.job, run.items[0], run.outcomes[0])
    assert run.pushed == {}
