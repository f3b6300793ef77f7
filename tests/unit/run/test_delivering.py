"""Closing delivers over several tries of its task, to a real receiver, with a store that remembers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import NEVER_EXPIRE
from standardwebhooks import Webhook

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.run.delivering import RetryLater
from airflow_jobs_plugin.run.notes import REDELIVER
from airflow_jobs_plugin.spec import Job

from .conftest import SECRET, Run, ids


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
    assert memory["tried"] >= 10
    run.store.set("delivery-0", {**memory, "tried": 3601})
    report = run.close()
    assert (report["status"], report["statusCode"], report["tries"]) == ("failed", 503, 2)
    assert "answered 503" in report["message"]
    assert run.close() == report, "and that is remembered"
    assert len(inbox.ledger) == 2


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_jumps_neither_ends_the_window_nor_lengthens_it(inbox: WebhookReceiver, hours: int) -> None:
    run = Run(inbox)
    inbox.script([503, 503, 503])
    with pytest.raises(RetryLater):
        run.close()
    memory = run.store.get("delivery-0")
    began = datetime.now(UTC) - timedelta(hours=hours)
    run.store.set("delivery-0", {**memory, "since": began.isoformat()})
    with pytest.raises(RetryLater) as caught:
        run.close()
    assert caught.value.wait.total_seconds() == 20
    run.store.set("delivery-0", {**run.store.get("delivery-0"), "tried": 3601})
    assert run.close()["status"] == "failed"


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


def test_a_sink_that_cannot_be_made_is_a_delivery_that_failed(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    working = run.job
    definition = {"id": "prices", "payload": [{"api": "a"}], "sink": {"type": "folder", "folder": "/srv"}}
    run.job = Job.model_validate(definition, context={"masked": True})  # as a job is stored whose plug-in is gone
    report = run.close()
    assert (report["status"], report["to"], report["tries"]) == ("failed", "a sink of the type 'folder'", 1)
    assert report["message"] == "sink: the sink type 'folder' is not installed here"
    assert run.close() == report, "and that is remembered"
    kept = run.store.get("delivery-0")
    run.store.set(REDELIVER, {"clearNumber": 1, "message": kept["message"]})
    run.context["dag_run"].clear_number, run.job = 1, working
    assert run.close()["status"] == "delivered"
    assert ids(inbox) == [report["id"]]


def test_what_was_sent_under_which_id_is_never_forgotten(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    inbox.script([410])
    assert run.close()["id"] == ids(inbox)[0], "also told to whoever looks at the run"
    assert run.store.retentions["delivery-0"] is NEVER_EXPIRE


def test_a_wish_of_the_receiver_is_heard(inbox: WebhookReceiver) -> None:
    run = Run(inbox)
    inbox.script([Reply(429, None, {"Retry-After": "90"})])
    with pytest.raises(RetryLater) as caught:
        run.close()
    assert caught.value.wait.total_seconds() == 90
