"""Items are delivered one by one, by their workers and by closing, to a real receiver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.run.delivering import RetryLater
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.notes import REDELIVER
from airflow_jobs_plugin.run.one_by_one import deliver_item
from airflow_jobs_plugin.run.outcomes import completed
from airflow_jobs_plugin.targets.base import Result

from .conftest import Run, ids, numbers


class Choosy(WebhookReceiver):
    """Answers by the number of the item."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        super().__init__()
        self.choose = choose

    def reply(self, request: Received) -> Reply:
        status = self.choose(request.body["apiInfo"]["parameters"]["n"])
        return super().reply(request) if status == 200 else Reply(status)


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


def test_items_that_are_refused_do_not_hold_up_those_behind_them() -> None:
    with Choosy(lambda n: 500 if n < 12 or 40 <= n < 50 else 200) as inbox:
        run = Run(inbox, 100, delivery="payload")
        for _ in range(6):
            before = len(inbox.ledger)
            with pytest.raises(RetryLater) as caught:
                run.close()
            assert len(inbox.ledger) - before < 110
        assert caught.value.report["delivered"] == 78
        assert numbers(inbox) == [n for n in range(100) if n >= 12 and not 40 <= n < 50]
        # So it goes on when somebody has the rest delivered anew: what follows is not the first few once more.
        run.store.set(REDELIVER, {**run.store.get("delivery-0"), "clearNumber": 1})
        run.context["dag_run"].clear_number = 1
        asked = {request.body["apiInfo"]["parameters"]["n"] for request in inbox.ledger.all()[before:]}
        before = len(inbox.ledger)
        with pytest.raises(RetryLater):
            run.close()
        assert {request.body["apiInfo"]["parameters"]["n"] for request in inbox.ledger.all()[before:]} != asked
        inbox.choose = lambda n: 200
        assert run.close()["delivered"] == 100


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


class Fussy(LocalServer):
    """A store that does not take every object."""

    def __init__(self, refusal: Reply, *refused: int, busy: bool = False) -> None:
        super().__init__()
        self.refusal, self.refused, self.busy = refusal, refused, busy

    def reply(self, request: Received) -> Reply:
        n = int(request.path.rpartition("/")[2])
        if self.busy and n == 50:
            return Reply(503, b"<Error><Code>SlowDown</Code></Error>", {"Content-Type": "application/xml"})
        return self.refusal if n in self.refused else Reply(200, b"")


def xml(status: int, code: str) -> Reply:
    return Reply(status, f"<Error><Code>{code}</Code></Error>".encode(), {"Content-Type": "application/xml"})


def in_store(server: Fussy, **sink: Any) -> dict[str, Any]:
    return {
        "type": "s3", "bucket": "results", "region": "us-east-1", "endpoint": server.url,
        "forcePathStyle": True, "accessKeyId": "AKIA0", "secretAccessKey": "k", "delivery": "payload",
        "key": "r/{index}", **sink,
    }  # fmt: skip


def test_an_item_that_is_refused_for_good_does_not_stop_the_others() -> None:
    with Fussy(xml(400, "EntityTooLarge"), 3, 60, busy=True) as store:
        run = Run(None, 100, **in_store(store))
        with pytest.raises(RetryLater) as caught:
            run.close()
        assert (caught.value.report["delivered"], caught.value.report["refused"]) == (97, 2)
        assert "2 refused for good, the first was item " in caught.value.report["message"]
        assert "SlowDown" in caught.value.report["message"]
        asked = len(store.ledger)
        store.busy = False
        report = run.close()
        assert len(store.ledger) == asked + 1, "what is refused for good is asked once"
    assert (report["status"], report["payloads"], report["delivered"], report["refused"]) == ("failed", 100, 98, 2)
    assert report["statusCode"] == 400
    assert "EntityTooLarge" in report["message"]


def test_a_key_that_is_too_long_is_a_matter_of_its_own_item() -> None:
    with Fussy(Reply(200, b"")) as store:
        run = Run(None, 20, **in_store(store, key="{api}/{index}"))
        run.items[7] = {**run.items[7], "api": "ä" * 400}
        report = run.close()
        assert len(store.ledger) == 19
    assert (report["status"], report["delivered"], report["refused"]) == ("failed", 19, 1)
    assert "item 7: the key would have" in report["message"]


@pytest.mark.parametrize("reply", [xml(404, "NoSuchBucket"), xml(403, "InvalidAccessKeyId")])
def test_a_store_that_refuses_everything_ends_it(reply: Reply) -> None:
    with Fussy(reply, *range(100)) as store:
        report = Run(None, 100, **in_store(store)).close()
        assert len(store.ledger) < 20
    assert (report["status"], report["payloads"], report["delivered"]) == ("failed", 100, 0)
    assert "100 of 100 results were not delivered" in report["message"]
    assert "refused" not in report


def test_a_destination_that_is_not_allowed_ends_it(inbox: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_HOSTS", "elsewhere.example")
    report = Run(inbox, 100, delivery="payload").close()
    assert "sink_hosts" in report["message"]
    assert (report["status"], len(inbox.ledger)) == ("failed", 0)
