from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import Reply
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks.base import Delivery, Window
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body, run_body
from airflow_jobs_plugin.sinks.webhook import Webhook, retry_after
from airflow_jobs_plugin.spec import WebhookSink, explain

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FACTS = RunFacts("w", "p", "job", "run", "COMPLETED", "MANUAL", "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", 2, 1, 1)  # fmt: skip  # noqa: E501


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


def delivery(body: bytes = b'{"a": "\xc3\xa4"}') -> Delivery:
    return Delivery("msg_1", io.BytesIO(body), len(body))


def hook(receiver: WebhookReceiver, **fields: Any) -> Webhook:
    return Webhook(WebhookSink.model_validate({"type": "webhook", "url": f"{receiver.url}/hook?k=hunter2", **fields}))


def test_a_delivery_is_a_signed_post_of_the_whole_body(receiver: WebhookReceiver) -> None:
    large = json.dumps({"results": ["ä" * 1000] * 300}).encode()
    receipt = hook(receiver, secret=SECRET, headers={"Authorization": "Bearer hunter2"}).deliver(delivery(large))
    (got,) = receiver.ledger.all()
    assert got.raw == large
    assert got.headers["content-type"] == "application/json"
    assert got.headers["content-length"] == str(len(large))
    assert got.headers["authorization"] == "Bearer hunter2"
    assert Verifier(SECRET).verify(got.raw.decode(), dict(got.headers)) == json.loads(large)
    assert receipt == {"to": f"{receiver.url}/hook?k=***", "statusCode": 200, "id": "msg_1"}


def test_every_try_sends_the_body_from_its_start_under_the_same_id(receiver: WebhookReceiver) -> None:
    receiver.script([500])
    sink, message = hook(receiver), delivery()
    with pytest.raises(DeliveryError):
        sink.deliver(message)
    sink.deliver(message)
    first, second = receiver.ledger.all()
    assert first.raw == second.raw
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "msg_1"
    assert "webhook-signature" not in first.headers


@pytest.mark.parametrize(
    ("reply", "retriable", "asked"),
    [
        (Reply(500, {"error": "a\nb"}), True, None),
        (Reply(404), True, None),
        (Reply(410), False, None),
        (Reply(429, None, {"Retry-After": "7"}), True, 7.0),
        (Reply(307, None, {"Location": "/elsewhere"}), True, None),
    ],
)
def test_refusals_say_what_was_answered_and_whether_to_try_again(
    receiver: WebhookReceiver, reply: Reply, retriable: bool, asked: float | None
) -> None:
    receiver.script([reply])
    with pytest.raises(DeliveryError) as caught:
        hook(receiver).deliver(delivery())
    error = caught.value
    assert (error.status_code, error.retriable, error.retry_after) == (reply.status, retriable, asked)
    assert f"answered {reply.status}" in str(error)
    assert "hunter2" not in str(error)
    assert len(receiver.ledger) == 1, "redirects are not followed"


def test_an_answer_that_echoes_secrets_is_told_without_them(receiver: WebhookReceiver) -> None:
    receiver.script([Reply(401, {"you_sent": "Bearer s3cr3t-token", "query": "hunter2", "plain": "s3cr3t-token"})])
    with pytest.raises(DeliveryError) as caught:
        hook(receiver, headers={"Authorization": "Bearer s3cr3t-token"}).deliver(delivery())
    assert "answered 401" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_headers_are_sent_once_whatever_their_case_and_ours_are_the_messages(receiver: WebhookReceiver) -> None:
    own = {
        "content-type": "text/plain",
        "Webhook-ID": "mine",
        "user-agent": "ours",
        "X-Team": "Café",
    }
    hook(receiver, headers=own).deliver(delivery())
    (got,) = receiver.ledger.all()
    assert (got.headers["content-type"], got.headers["webhook-id"]) == ("application/json", "msg_1")
    assert got.headers["user-agent"] == "ours"
    assert got.headers["x-team"] in ("Café", "Caf\xe9")


def test_a_receiver_that_is_away_is_tried_again(receiver: WebhookReceiver) -> None:
    sink = hook(receiver)
    receiver.stop()
    with pytest.raises(DeliveryError, match="could not be reached") as caught:
        sink.deliver(delivery())
    assert caught.value.retriable
    assert "hunter2" not in str(caught.value)
    receiver.start()


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("0", 0), ("-5", 0), ("1.5", 1.5), ("nan", None), ("soon", None), (None, None),
     ("Mon, 23 Nov 2026 12:01:00 GMT", 60), ("Mon, 23 Nov 2026 11:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_the_window_doubles_its_waits_up_to_two_minutes_for_an_hour() -> None:
    window, elapsed, waits = Window(), timedelta(0), []
    while (wait := window.wait(len(waits) + 1, elapsed)) is not None:
        waits.append(wait.total_seconds())
        elapsed += wait
    assert waits[:6] == [10, 20, 40, 80, 120, 120]
    assert elapsed == timedelta(hours=1), "the last try is made when the window ends"
    assert window.wait(5000, timedelta(0)) == timedelta(minutes=2)


def test_the_receivers_wish_counts_up_to_the_end_of_the_window() -> None:
    assert Window().wait(1, timedelta(0), asked=300) == timedelta(seconds=300)
    assert Window().wait(1, timedelta(0), asked=1) == timedelta(seconds=10)
    assert Window().wait(1, timedelta(minutes=50), asked=86_400) == timedelta(minutes=10)
    assert Window().wait(1, timedelta(0), asked=1e300) == timedelta(hours=1)


def test_the_body_of_a_run_is_the_platforms_and_valid_json_whatever_its_length() -> None:
    item = {"api": "list", "parameters": {"page": 1}}
    good = {"index": 0, "status": "completed", "attempts": 1, "result": {"x": "ä"}, "statusCode": 200}
    bad = {"index": 1, "status": "failed", "attempts": 3, "error": "timeout", "message": "m", "statusCode": None}
    bodies = [item_body(FACTS, item, f"id-{o['index']}", o) for o in (good, bad)]
    for count in (0, 1, 2):
        whole = json.loads(b"".join(run_body(FACTS, bodies[:count])))
        assert whole["results"] == bodies[:count]
        assert whole["projectJobRun"] == {
            "id": "run", "status": "COMPLETED", "type": "MANUAL", "startTime": "2026-01-01T00:00:00+00:00",
            "endTime": "2026-01-01T00:01:00+00:00", "payloads": 2, "successfulRuns": 1, "failedRuns": 1,
        }  # fmt: skip
    assert bodies[0] == {
        "apiInfo": {
            "name": "list",
            "parameters": {"page": 1},
            "runId": "id-0",
            "result": {"status": "completed", "result": {"x": "ä"}, "statusCode": 200},
        },
        "workspaceId": "w",
        "project": {"id": "p", "name": "p"},
        "projectJob": {"id": "job"},
        "projectJobRun": {"id": "run"},
    }
    assert bodies[1]["apiInfo"]["result"] == {
        "status": "failed",
        "error": "timeout",
        "message": "m",
        "statusCode": None,
    }


@pytest.mark.parametrize(
    "name",
    ["Host", "HOST", "Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
     "Expect", "Proxy-Connection", "Proxy-Authorization", "Content-Encoding"],
)  # fmt: skip
def test_headers_that_say_how_a_message_is_carried_are_refused(name: str) -> None:
    definition = {"type": "webhook", "url": "https://example.com/", "headers": {"X-Team": "a", name: "hunter2"}}
    with pytest.raises(ValidationError) as caught:
        WebhookSink.model_validate(definition)
    (fault,) = explain(caught.value)
    assert fault.path == ("headers",)
    assert fault.message.startswith(f"{name!r} is not for a definition to say: ")
    assert "hunter2" not in str(caught.value)
