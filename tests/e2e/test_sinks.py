"""Results arrive, once, whole, or the run says that they did not: on a real Airflow, over real HTTP and S3."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import Received, Reply
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Api, Jobs
from .test_appending import items_of
from .test_rest import callers_of, create, error, run_of, trigger, wait_for
from .ways import either_way

pytestmark = [pytest.mark.e2e, either_way]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def inbox() -> Iterator[WebhookReceiver]:
    """A receiver of this test's own, whose answers it scripts."""
    with WebhookReceiver() as server:
        yield server


def echoes(count: int) -> list[dict[str, Any]]:
    return [{"apiName": "echo", "parameters": {"n": n}} for n in range(count)]


def hook(inbox: WebhookReceiver, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"{inbox.url}/hook", **more}


def ids(inbox: WebhookReceiver) -> list[str]:
    return [request.headers["webhook-id"] for request in inbox.ledger.all()]


def retry_now(airflow: AirflowStack, job_id: str, run_id: str) -> None:
    """Have the closing task tried again at once, instead of after its wait."""
    import sqlalchemy

    def waiting() -> bool:
        return airflow.task_instances(job_id, run_id, "sink")[0]["state"] == "up_for_retry"

    airflow.client.wait_until("a retry of the sink", waiting, 60)
    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE task_instance SET end_date = end_date - interval '1 hour' "
                "WHERE dag_id = :job AND run_id = :run AND task_id = 'sink'"
            ),
            {"job": job_id, "run": run_id},
        )
    engine.dispose()


# -- item by item ---------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_each_item_is_delivered_when_it_has_ended(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    payload = [
        {"apiName": "echo", "parameters": {"n": 0}},
        {"apiName": "slow", "parameters": {"seconds": 8}},
        {"apiName": "fail", "retry": {"maximumAttempts": 2}},
        {"apiName": "grow", "parameters": {"widths": [2]}},
    ]
    configuration = {"toleratedFailurePercentage": 50}
    create(
        rest,
        "trickle",
        payload=payload,
        configuration=configuration,
        sink=hook(inbox, delivery="payload", secret=SECRET),
    )
    run_id = trigger(rest, "trickle")
    airflow.client.wait_until("five deliveries", lambda: len(inbox.ledger) == 5, 120)
    assert run_of(rest, "trickle", run_id)["status"] == "PENDING", "they came before the run's end"
    run = wait_for(airflow, rest, "trickle", run_id, "COMPLETED")
    assert run["delivery"]["status"] == "delivered"
    assert (run["delivery"]["payloads"], run["delivery"]["delivered"]) == (6, 6)
    got = {request.body["apiInfo"]["runId"]: request for request in inbox.ledger.all()}
    assert len(got) == len(inbox.ledger) == len(set(ids(inbox))) == 6, "each once, under an id of its own"
    for item in items_of(rest, "trickle", run_id):
        body = got[item["id"]].body
        assert (body["apiInfo"]["name"], body["apiInfo"]["parameters"]) == (item["apiName"], item["parameters"])
        result = body["apiInfo"]["result"]
        assert result.get("result") == item["result"]
        assert result["status"] == ("completed" if item["status"] == "SUCCEEDED" else "failed")
        assert body["projectJobRun"] == {"id": run_id}
        assert got[item["id"]].headers["webhook-signature"].startswith("v1,")


@pytest.mark.core
def test_what_is_owed_is_sent_by_closing_under_the_same_id(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    # The first round is refused but for two; the second one, of closing, loses one more.
    inbox.script([500, 200, 503, 500, 200, 500] + [200, 502, 200, 200])
    sink = hook(inbox, delivery="payload")
    create(rest, "owed", payload=echoes(6), configuration={"maxConcurrentRequests": 1}, sink=sink)
    run_id = trigger(rest, "owed")
    airflow.client.wait_until("closing", lambda: len(inbox.ledger) >= 10, 90)
    run = run_of(rest, "owed", run_id)
    airflow.client.wait_until("its report", lambda: run_of(rest, "owed", run_id)["delivery"], 30)
    run = run_of(rest, "owed", run_id)
    assert (run["status"], run["delivery"]["status"], run["delivery"]["delivered"]) == ("PENDING", "retrying", 5)
    assert "502" in run["delivery"]["message"]
    retry_now(airflow, "owed", run_id)
    run = wait_for(airflow, rest, "owed", run_id, "SUCCESS")
    assert run["delivery"]["delivered"] == 6
    tries: dict[int, set[str]] = {}
    for request in inbox.ledger.all():
        tries.setdefault(request.body["apiInfo"]["parameters"]["n"], set()).add(request.headers["webhook-id"])
    assert [len(tries[n]) for n in range(6)] == [1] * 6, "never under two ids"
    accepted = [body["apiInfo"]["parameters"]["n"] for body in inbox.delivered()]
    assert sorted(accepted) == list(range(6)), "each accepted once"


def test_apis_and_failures_that_nobody_wants_are_not_sent(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    payload = [
        *echoes(2),
        {"apiName": "fail", "retry": {"maximumAttempts": 1}},
        {"apiName": "flaky", "parameters": {"failures": 0}},
    ]
    sink = hook(inbox, delivery="payload", skipOnFail=True, apisToSend=["echo", "fail"])
    create(rest, "picky", payload=payload, configuration={"toleratedFailurePercentage": 50}, sink=sink)
    run = wait_for(airflow, rest, "picky", trigger(rest, "picky"), "COMPLETED")
    assert [body["apiInfo"]["name"] for body in inbox.delivered()] == ["echo", "echo"]
    assert (run["delivery"]["payloads"], run["delivery"]["delivered"]) == (2, 2)


# -- failures and redelivery ----------------------------------------------------------------------------------------


def test_what_was_not_delivered_is_delivered_later_without_calling_anything(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    inbox.script([410])
    create(rest, "refused-rest", payload=echoes(3), sink=hook(inbox))
    run_id = trigger(rest, "refused-rest")
    run = wait_for(airflow, rest, "refused-rest", run_id, "FAILURE")
    assert (run["delivery"]["status"], run["delivery"]["statusCode"]) == ("failed", 410)
    assert run["error"]["details"]["to"] == f"{inbox.url}/hook"
    started = run["start_time"]
    assert rest.post(f"/jobs/refused-rest/runs/{run_id}/redeliver").json() == {"message": "Redelivering"}
    run = wait_for(airflow, rest, "refused-rest", run_id, "SUCCESS")
    assert run["delivery"]["status"] == "delivered"
    assert run["start_time"] == started
    assert len(api.calls("refused-rest")) == 3, "no API was called again"
    first, second = inbox.ledger.all()
    assert first.headers["webhook-id"] == second.headers["webhook-id"], "it is the message that had failed"
    assert first.body["results"] == second.body["results"]
    # What had arrived is another message, sent to where the sink is now.
    moved = {"payload": echoes(3), "sink": {**hook(inbox), "url": f"{inbox.url}/moved"}}
    rest.put("/jobs/refused-rest", json=moved).raise_for_status()
    rest.post(f"/jobs/refused-rest/runs/{run_id}/redeliver").raise_for_status()
    airflow.client.wait_until("a third delivery", lambda: len(inbox.ledger) == 3, 60)
    wait_for(airflow, rest, "refused-rest", run_id, "SUCCESS")
    third = inbox.ledger.all()[2]
    assert (third.path, third.body["results"]) == ("/moved", first.body["results"])
    assert third.headers["webhook-id"] != first.headers["webhook-id"]
    assert len(api.calls("refused-rest")) == 3


def test_only_what_is_owed_is_delivered_anew_item_by_item(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    inbox.script([200, 410, 200] + [410])
    sink = hook(inbox, delivery="payload")
    create(rest, "one-missing", payload=echoes(3), configuration={"maxConcurrentRequests": 1}, sink=sink)
    run_id = trigger(rest, "one-missing")
    run = wait_for(airflow, rest, "one-missing", run_id, "FAILURE")
    assert (run["delivery"]["payloads"], run["delivery"]["delivered"]) == (3, 2)
    rest.post(f"/jobs/one-missing/runs/{run_id}/redeliver").raise_for_status()
    run = wait_for(airflow, rest, "one-missing", run_id, "SUCCESS")
    assert run["delivery"]["delivered"] == 3
    sent = [request.body["apiInfo"]["parameters"]["n"] for request in inbox.ledger.all()]
    # Items that share a task instance may be sent in any order.
    assert sorted(sent[:3]) == [0, 1, 2]
    assert sent[3:] == [sent[1]] * 2
    assert len({request.headers["webhook-id"] for request in inbox.ledger.all()}) == 3


def query(airflow: AirflowStack, statement: str, **values: Any) -> list[Any]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))
    try:
        with engine.begin() as connection:
            found = connection.execute(sqlalchemy.text(statement), values)
            return list(found) if found.returns_rows else []
    finally:
        engine.dispose()


def test_an_item_by_item_redelivery_that_failed_goes_on_under_its_own_ids(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    sink = hook(inbox, delivery="payload")
    create(rest, "once-more", payload=echoes(3), sink=sink)
    run_id = trigger(rest, "once-more")
    wait_for(airflow, rest, "once-more", run_id, "SUCCESS")
    first = set(ids(inbox))
    assert len(first) == 3

    def sent() -> list[Any]:
        return inbox.ledger.all()

    def again() -> None:
        rest.post(f"/jobs/once-more/runs/{run_id}/redeliver").raise_for_status()

    inbox.script([200] + [410] * 9)
    again()
    run = wait_for(airflow, rest, "once-more", run_id, "FAILURE")
    assert (run["delivery"]["payloads"], run["delivery"]["delivered"]) == (3, 1)
    second = sent()[3:]
    anew = {request.body["apiInfo"]["parameters"]["n"]: request.headers["webhook-id"] for request in second}
    assert not first & set(anew.values()), "new messages"
    # Nothing of that may be forgotten, as Airflow does by default after a month.
    statement = "SELECT key, expires_at FROM task_state_store WHERE run_id = :run AND task_id = 'sink'"
    kept = dict(tuple(row) for row in query(airflow, statement, run=run_id))
    assert kept == {"delivery-0": None, "delivery-1": None, "redeliver": None}
    taken = inbox.delivered()[-1]["apiInfo"]["parameters"]["n"]
    inbox.script([])
    again()
    run = wait_for(airflow, rest, "once-more", run_id, "SUCCESS")
    third = {r.body["apiInfo"]["parameters"]["n"]: r.headers["webhook-id"] for r in sent()[3 + len(second) :]}
    assert set(third) == {0, 1, 2} - {taken}, "only what is owed"
    base = next(iter(anew.values())).rpartition("_")[0]
    assert third == {n: f"{base}_{n}" for n in third}, "under the ids of the redelivery that failed"
    assert len(api.calls("once-more")) == 3


def test_ending_a_redelivery_leaves_the_run_as_it_was_judged(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    inbox.script([410] + [503] * 9)
    create(rest, "given-up", payload=echoes(2), sink=hook(inbox))
    run_id = trigger(rest, "given-up")
    judged = wait_for(airflow, rest, "given-up", run_id, "FAILURE")
    for round in range(2):
        rest.post(f"/jobs/given-up/runs/{run_id}/redeliver").raise_for_status()
        if round == 0:
            # Once while it waits for its next try, once as soon as it was asked for.
            retrying = lambda: (run_of(rest, "given-up", run_id)["delivery"] or {}).get("status") == "retrying"  # noqa: E731
            airflow.client.wait_until("a failed try", retrying, 60)
        told = rest.post(f"/jobs/given-up/runs/{run_id}/terminate", json={"reason": "wrong receiver"}).json()
        assert told == {"message": "The redelivery was ended; the run is what it was before"}
        run = run_of(rest, "given-up", run_id)
        assert (run["status"], run["delivery"], run["error"]) == ("FAILURE", judged["delivery"], judged["error"])
        assert (run["start_time"], run["end_time"]) == (judged["start_time"], judged["end_time"])
    inbox.script([])
    rest.post(f"/jobs/given-up/runs/{run_id}/redeliver").raise_for_status()
    wait_for(airflow, rest, "given-up", run_id, "SUCCESS")
    assert len(set(ids(inbox))) == 1, "it still is the message that had failed"
    # Of a run that was good, too.
    inbox.script([503] * 9)
    rest.post(f"/jobs/given-up/runs/{run_id}/redeliver").raise_for_status()
    before = len(inbox.ledger)
    airflow.client.wait_until("another try", lambda: len(inbox.ledger) > before, 60)
    rest.post(f"/jobs/given-up/runs/{run_id}/terminate")
    run = run_of(rest, "given-up", run_id)
    assert (run["status"], run["delivery"]["status"]) == ("SUCCESS", "delivered")
    assert len(api.calls("given-up")) == 2


def test_a_redelivery_that_cannot_be_is_refused(
    rest: httpx.Client, airflow: AirflowStack, api: Api, inbox: WebhookReceiver
) -> None:
    create(rest, "sinkless", payload=[{"apiName": "slow", "parameters": {"seconds": 3}}])
    run_id = trigger(rest, "sinkless")
    path = f"/jobs/sinkless/runs/{run_id}/redeliver"
    airflow.client.wait_until("the call", lambda: api.calls("sinkless"), 60)
    error(rest.post(path), 409, "run-active")
    wait_for(airflow, rest, "sinkless", run_id, "SUCCESS")
    error(rest.post(path), 409, "no-sink")
    error(rest.post("/jobs/sinkless/runs/nothing/redeliver"), 404, "run-not-found")
    rest.put("/jobs/sinkless", json={"payload": echoes(1), "sink": hook(inbox)}).raise_for_status()
    rest.post("/jobs/sinkless/pause")
    error(rest.post(path), 409, "job-paused")
    rest.post("/jobs/sinkless/resume")
    assert rest.post(path).status_code == 200, "a sink that was given later gets the results, too"
    airflow.client.wait_until("the delivery", lambda: inbox.delivered(), 60)
    wait_for(airflow, rest, "sinkless", run_id, "SUCCESS")
    stopped = trigger(rest, "sinkless")
    rest.post(f"/jobs/sinkless/runs/{stopped}/terminate")
    error(rest.post(f"/jobs/sinkless/runs/{stopped}/redeliver"), 409, "run-terminated")


class Stalling(WebhookReceiver):
    """Takes the first message and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled = 0

    def reply(self, request: Received) -> Reply:
        if len(self.ledger) == 1:
            self.stalled += 1
            time.sleep(20)
        return super().reply(request)


def test_a_process_that_is_killed_in_mid_delivery_delivers_again_under_the_same_id(
    rest: httpx.Client, airflow: AirflowStack, api: Api
) -> None:
    with Stalling() as inbox:
        create(rest, "cut-off", payload=echoes(2), sink=hook(inbox))
        run_id = trigger(rest, "cut-off")
        airflow.client.wait_until("the delivery", lambda: inbox.stalled, 60)
        (victim,) = callers_of(inbox.port)
        os.kill(victim, signal.SIGKILL)
        run = wait_for(airflow, rest, "cut-off", run_id, "SUCCESS")
        assert run["delivery"]["status"] == "delivered"
        first, second = inbox.ledger.all()
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.raw == second.raw
        assert len(api.calls("cut-off")) == 2


# -- S3 -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3() -> Iterator[Any]:
    """A store with one empty bucket."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AK", aws_secret_access_key="SK"
    )
    # Servers of one process share what they keep.
    httpx.post(f"{url}/moto-api/reset", trust_env=False).raise_for_status()
    client.create_bucket(Bucket="results")
    client.url = url
    yield client
    server.stop()


def s3_sink(s3: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "s3", "bucket": "results", "region": "us-east-1", "endpoint": s3.url, "forcePathStyle": True,
        "accessKeyId": "marked-access-key", "secretAccessKey": "marked-secret-key", **more,
    }  # fmt: skip


def objects(s3: Any, prefix: str) -> dict[str, Any]:
    listed = s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", [])
    return {entry["Key"]: s3.get_object(Bucket="results", Key=entry["Key"])["Body"].read() for entry in listed}


def test_a_run_is_an_object_in_a_bucket(
    rest: httpx.Client, airflow: AirflowStack, api: Api, s3: Any, jobs: Jobs
) -> None:
    for kind in ("json", "jsonl"):
        job_id = f"bucket-{kind}"
        create(rest, job_id, payload=echoes(5), sink=s3_sink(s3, prefix=f"runs-{kind}/", format=kind))
        run_id = trigger(rest, job_id)
        run = wait_for(airflow, rest, job_id, run_id, "SUCCESS")
        ((key, body),) = objects(s3, f"runs-{kind}/").items()
        assert key.startswith(f"runs-{kind}/{job_id}/")
        assert run["delivery"]["to"] == f"s3://results/{key}"
        results = json.loads(body)["results"] if kind == "json" else [json.loads(line) for line in body.splitlines()]
        assert [entry["apiInfo"]["result"]["result"]["echo"]["n"] for entry in results] == list(range(5))
    shown = rest.get("/jobs/bucket-json").text
    assert "marked-" not in shown
    assert "marked-" not in jobs.logs()


def test_items_are_objects_of_their_own(rest: httpx.Client, airflow: AirflowStack, api: Api, s3: Any) -> None:
    sink = s3_sink(s3, key="each/{jobId}/{index}-{api}.json", delivery="payload")
    create(rest, "bucket-items", payload=echoes(4), sink=sink)
    run = wait_for(airflow, rest, "bucket-items", trigger(rest, "bucket-items"), "SUCCESS")
    found = objects(s3, "each/")
    assert sorted(found) == [f"each/bucket-items/{n}-echo.json" for n in range(4)]
    assert [json.loads(found[key])["apiInfo"]["parameters"]["n"] for key in sorted(found)] == list(range(4))
    assert run["delivery"]["delivered"] == 4


def test_a_bucket_that_is_not_there_fails_the_run_until_it_is(
    rest: httpx.Client, airflow: AirflowStack, api: Api, s3: Any
) -> None:
    create(rest, "bucketless", payload=echoes(1), sink=s3_sink(s3, bucket="not-there-yet"))
    run_id = trigger(rest, "bucketless")
    run = wait_for(airflow, rest, "bucketless", run_id, "FAILURE")
    assert run["delivery"]["status"] == "failed"
    assert "not-there-yet" in run["delivery"]["message"]
    s3.create_bucket(Bucket="not-there-yet")
    rest.post(f"/jobs/bucketless/runs/{run_id}/redeliver").raise_for_status()
    assert wait_for(airflow, rest, "bucketless", run_id, "SUCCESS")["delivery"]["status"] == "delivered"
    assert len(api.calls("bucketless")) == 1
