"""S3 over the wire: what is in the store afterwards, and what is said when it is not."""

from __future__ import annotations

import io
import json
import socket
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pytest

from airflow_jobs_plugin.control.definitions import InvalidDefinition, check
from airflow_jobs_plugin.demo.server import Reply
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks import s3 as module
from airflow_jobs_plugin.sinks import sink_for
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_body, item_names, run_body, run_lines, run_names
from airflow_jobs_plugin.sinks.destinations import Destinations
from airflow_jobs_plugin.sinks.s3 import S3
from airflow_jobs_plugin.spec import S3Sink

from .conftest import KEYS, Answers, Store

RUN = "manual__2026-01-01T00:00:00+00:00"
FACTS = RunFacts("w", "p", "job", RUN, "COMPLETED", "MANUAL", "2026-01-01T01:02:03+02:00", "2026-01-01T00:01:00+00:00", 2, 1, 1)  # fmt: skip  # noqa: E501
DEFAULT_KEY = "job/manual__2026-01-01T00%3A00%3A00%2B00%3A00.json"


def spec(endpoint: str | None, **fields: Any) -> S3Sink:
    written = {"type": "s3", "bucket": "results", "region": "us-east-1", **fields}
    return S3Sink.model_validate(written if endpoint is None else {**written, "endpoint": endpoint})


def delivery(body: bytes = b'{"a": "\xc3\xa4"}', **fields: Any) -> Delivery:
    return Delivery("msg_1", io.BytesIO(body), len(body), **{"names": run_names(FACTS), **fields})


def failure(sink: Any, message: Delivery | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        sink.deliver(message or delivery())
    for secret in KEYS.values():
        assert secret not in str(caught.value)
    return caught.value


def items() -> list[dict[str, Any]]:
    outcome = {"status": "completed", "result": {"x": "ä\n"}, "statusCode": 200}
    return [item_body(FACTS, {"api": "list", "parameters": {"page": n}}, f"id-{n}", outcome) for n in range(3)]


def test_a_run_becomes_one_object_under_its_own_name(store: Store) -> None:
    body = b"".join(run_body(FACTS, items()))
    receipt = S3(spec(store.url, **KEYS)).deliver(delivery(body))
    assert store.bodies() == {DEFAULT_KEY: body}
    assert json.loads(body)["results"] == items()
    assert receipt == {"to": f"s3://results/{DEFAULT_KEY}", "id": "msg_1"}
    assert store.client.head_object(Bucket="results", Key=DEFAULT_KEY)["ContentType"] == "application/json"


def test_json_lines_are_one_item_each(store: Store) -> None:
    sink = S3(spec(store.url, format="jsonl", prefix="daily/{date}/", **KEYS))
    body = b"".join(run_lines(FACTS, items()))
    sink.deliver(delivery(body, content_type=CONTENT_TYPES[sink.format]))
    key = f"daily/2025-12-31/{DEFAULT_KEY}l"
    assert store.bodies() == {key: body}
    assert [json.loads(line) for line in body.splitlines()] == items()
    assert body.endswith(b"\n")
    assert store.client.head_object(Bucket="results", Key=key)["ContentType"] == "application/x-ndjson"


def test_an_item_has_a_key_of_its_own(store: Store) -> None:
    sink = S3(spec(store.url, delivery="payload", key="{jobId}/{type}/{time}/{api}/{index}-{itemId}", **KEYS))
    sink.deliver(delivery(b"{}", names=item_names(FACTS, 7, "id-7", "../shop/list")))
    assert list(store.bodies()) == ["job/MANUAL/230203/..%2Fshop%2Flist/7-id-7"]


def test_the_same_key_again_overwrites_and_a_body_is_sent_from_its_start_every_time(store: Store) -> None:
    sink, message = S3(spec(store.url, key="latest.json", **KEYS)), delivery(b"first")
    sink.deliver(message)
    sink.deliver(message)
    assert store.bodies() == {"latest.json": b"first"}
    sink.deliver(delivery(b""))
    assert store.bodies() == {"latest.json": b""}


def test_a_large_body_goes_in_parts_and_is_never_in_memory_as_a_whole(store: Store) -> None:
    size, line = 40 * 1024 * 1024, json.dumps({"x": "y" * 4000}).encode() + b"\n"
    sink = S3(spec(store.url, key="large", **KEYS))
    sink.deliver(delivery())  # imports what is only imported once
    with tempfile.SpooledTemporaryFile(max_size=1024) as body:
        for _ in range(size // len(line)):
            body.write(line)
        tracemalloc.start()
        try:
            sink.deliver(Delivery("msg_1", body, body.tell(), names=run_names(FACTS)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not body.closed
        body.seek(0)
        sent = body.read()
    assert peak < 3 * module.PART_BYTES
    assert store.bodies()["large"] == sent
    assert store.client.head_object(Bucket="results", Key="large")["ETag"].endswith('-5"'), "in five parts"


def test_a_connection_has_credentials_store_and_options(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "endpoint_url": store.url,
        "region_name": "eu-west-1",
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    connection = {"conn_type": "aws", "login": "AKIACONNECTION", "password": "c0nnection-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection))
    sink = S3(S3Sink(type="s3", bucket="results", conn_id="store"))
    client = sink._client()
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.config.s3["addressing_style"] == "path"
    sink.deliver(delivery())
    assert list(store.bodies()) == [DEFAULT_KEY]


def test_without_credentials_of_its_own_the_workers_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure(S3(spec(store.url)))
    assert not error.retriable
    assert "Unable to locate credentials" in str(error)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWORKER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "worker-secret")
    S3(spec(store.url)).deliver(delivery())
    assert list(store.bodies()) == [DEFAULT_KEY]


def test_a_job_created_over_rest_does_not_deliver_as_the_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWORKER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "worker-secret")
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_PRIVATE_ADDRESSES", "all")
    monkeypatch.setenv("AIRFLOW_CONN_BARE", json.dumps({"conn_type": "aws"}))
    placed = {"conn_type": "aws", "extra": {"endpoint_url": store.url, "region_name": "us-east-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_PLACED", json.dumps(placed))
    for allowed in ("False", "True"):
        monkeypatch.setenv("AIRFLOW__JOBS__SINK_WORKER_IDENTITY", allowed)
        for fields in ({}, {"connId": "bare"}):
            error = failure(S3(spec(store.url, **fields), Destinations("API")))
            assert error.for_all
            assert "signed as the worker" in str(error)
    assert store.bodies() == {}
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_WORKER_IDENTITY", "False")
    error = failure(S3(spec(None), Destinations("API")))
    assert error.for_all
    assert "[jobs] sink_worker_identity" in str(error)
    # Where the operator has put the endpoint into a connection, it is the operator's; and so are job files.
    S3(S3Sink(type="s3", bucket="results", conn_id="placed"), Destinations("API")).deliver(delivery())
    S3(spec(store.url, key="file"), Destinations("CODE")).deliver(delivery())
    assert set(store.bodies()) == {DEFAULT_KEY, "file"}


@pytest.mark.parametrize(
    ("fields", "allowed", "said"),
    [
        ({}, False, "[jobs] sink_worker_identity"),
        ({}, True, None),
        ({"endpoint": "https://s3.example.com"}, True, "signed as the worker"),
        ({"connId": "store", "endpoint": "https://s3.example.com"}, False, None),
        (KEYS, False, None),
    ],
)
def test_a_definition_over_rest_is_refused_if_it_would_deliver_as_the_worker(
    fields: dict[str, Any], allowed: bool, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_WORKER_IDENTITY", str(allowed))
    definition = {"id": "x", "payload": [{"api": "a"}], "sink": {"type": "s3", "bucket": "results", **fields}}
    if said is None:
        check(definition)
        return
    with pytest.raises(InvalidDefinition) as caught:
        check(definition)
    (fault,) = caught.value.faults
    assert fault.path == ("sink",)
    assert said in fault.message
    assert "give connId, or accessKeyId and secretAccessKey" in fault.message


def test_a_connection_that_is_not_there_is_no_reason_to_use_the_workers_own_rights(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWORKER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "worker-secret")
    error = failure(S3(spec(store.url, connId="nowhere")))
    assert not error.retriable
    assert "no connection 'nowhere'" in str(error)
    assert store.bodies() == {}


def test_a_connection_that_cannot_be_used_is_told_without_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"conn_type": "aws", "extra": {"config_kwargs": {"nonsense": "s3cr3t"}}}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(broken))
    error = failure(S3(S3Sink(type="s3", bucket="results", conn_id="store")))
    assert not error.retriable
    assert "'store' cannot be used" in str(error)
    assert "s3cr3t" not in str(error)


def test_a_bucket_that_is_not_there_is_said_at_once(store: Store) -> None:
    error = failure(S3(spec(store.url, bucket="elsewhere", **KEYS)))
    assert (error.retriable, error.status_code) == (False, 404)
    assert "s3://elsewhere/job/" in str(error)
    assert "NoSuchBucket" in str(error)


def test_keys_that_may_not_write_are_refused_at_once(store: Store) -> None:
    iam = boto3.client(
        "iam", endpoint_url=store.url, region_name="us-east-1", aws_access_key_id="root", aws_secret_access_key="root"
    )
    iam.create_user(UserName="reader")
    read = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(read))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    reader = {"accessKeyId": key["AccessKeyId"], "secretAccessKey": key["SecretAccessKey"]}
    httpx.post(f"{store.url}/moto-api/reset-auth", content=b"0", timeout=30).raise_for_status()
    try:
        error = failure(S3(spec(store.url, **reader)))
        assert (error.retriable, error.status_code) == (False, 403)
        assert "AccessDenied" in str(error)
        unknown = failure(S3(spec(store.url, **KEYS)))
        assert (unknown.retriable, unknown.status_code) == (False, 403)
        assert "InvalidAccessKeyId" in str(unknown)
    finally:
        httpx.post(f"{store.url}/moto-api/reset-auth", content=b"Infinity", timeout=30)


def refusal(status: int, code: str, message: str = "no") -> Reply:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, body.encode(), {"Content-Type": "application/xml"})


@pytest.mark.parametrize(
    ("reply", "retriable"),
    [
        (refusal(403, "AccessDenied"), False),
        (refusal(403, "SignatureDoesNotMatch"), False),
        (refusal(403, "InvalidAccessKeyId"), False),
        (refusal(403, "RequestTimeTooSkewed"), True),
        (refusal(400, "RequestTimeout"), True),
        (refusal(400, "EntityTooLarge"), False),
        (refusal(404, "NoSuchBucket"), False),
        (refusal(408, "Whatever"), True),
        (refusal(429, "TooManyRequests"), True),
        (refusal(500, "InternalError"), True),
        (refusal(503, "SlowDown"), True),
        (Reply(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"}), True),
    ],
    ids=lambda value: str(value.status) + value.body.decode()[20:60] if isinstance(value, Reply) else None,
)
def test_what_a_store_refuses_is_final_unless_it_may_pass(
    reply: Reply, retriable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_TRIES", 1)
    with Answers(reply) as server:
        error = failure(S3(spec(server.url, forcePathStyle=True, **KEYS)))
        assert len(server.ledger) == 1
    assert (error.retriable, error.status_code) == (retriable, reply.status)
    assert f"was refused with {reply.status}" in str(error)


def test_what_a_store_repeats_of_the_keys_is_told_without_them() -> None:
    echo = refusal(403, "SignatureDoesNotMatch", f"you are {KEYS['accessKeyId']} with {KEYS['secretAccessKey']}\n" * 50)
    with Answers(echo) as server:
        error = failure(S3(spec(server.url, **KEYS)))
    assert "you are *** with ***" in str(error)
    assert len(str(error)) < 600


def test_one_lost_request_does_not_cost_the_upload() -> None:
    with Answers(refusal(503, "SlowDown"), Reply(200, b"")) as server:
        S3(spec(server.url, forcePathStyle=True, **KEYS)).deliver(delivery(b"whole"))
        assert [request.raw for request in server.ledger.all()] == [b"whole", b"whole"]


@pytest.mark.parametrize(("style", "path", "host"), [(True, "/results/k", "127"), (False, "/k", "results.localhost")])
def test_the_bucket_is_in_the_path_or_in_the_host(
    style: bool, path: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not every resolver knows names below localhost.
    known = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *a, **k: known("127.0.0.1", *a, **k))
    with Answers(Reply(200, b"")) as server:
        url = server.url if style else server.url.replace("127.0.0.1", "localhost")
        S3(spec(url, key="k", forcePathStyle=style, **KEYS)).deliver(delivery(b"whole"))
        (got,) = server.ledger.all()
    assert got.path == path
    assert got.headers["host"].startswith(host)
    assert got.raw == b"whole"


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A socket server whose every connection is handled by ``talk``."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted:
                talk(accepted)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def test_a_store_that_is_down_is_tried_again() -> None:
    with talking(lambda _: None) as url:
        pass
    error = failure(S3(spec(url, **KEYS)))
    assert error.retriable
    assert "could not be reached" in str(error)


def test_a_store_that_hangs_up_or_breaks_off_is_tried_again() -> None:
    half = b'HTTP/1.1 503 x\r\nContent-Type: application/xml\r\nContent-Length: 500\r\n\r\n<?xml version="1.0"?><Err'

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(half)

    for said in (talk, lambda connection: connection.recv(10)):
        with talking(said) as url:  # type: ignore[arg-type]
            assert failure(S3(spec(url, **KEYS))).retriable


def test_a_store_that_does_not_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    over = threading.Event()
    with talking(lambda _: over.wait(20) and None) as url:  # type: ignore[func-returns-value]
        began = time.monotonic()
        error = failure(S3(spec(url, **KEYS)))
        over.set()
    assert error.retriable
    assert time.monotonic() - began < 10


def test_a_key_that_is_too_long_is_a_fault_of_the_definition() -> None:
    names = {**run_names(FACTS), "jobRunId": "+" * 400}
    error = failure(S3(spec("http://127.0.0.1:1", **KEYS)), delivery(names=names))
    assert not error.retriable
    assert "1024" in str(error)


def test_a_client_is_used_again_until_it_is_old_or_something_goes_wrong(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = S3._make_client
    monkeypatch.setattr(S3, "_make_client", lambda sink: made.append(sink) or make(sink))
    sink = S3(spec(store.url, **KEYS))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: sink.deliver(delivery()), range(40)))
    assert len(made) == 1
    monkeypatch.setattr(module, "CLIENT_SECONDS", -1.0)
    sink.deliver(delivery())
    assert len(made) == 2, "what the connection says may have changed"
    monkeypatch.setattr(module, "CLIENT_SECONDS", 60.0)
    wrong = S3(spec(store.url, **KEYS | {"bucket": "no-such-bucket"}))
    failure(wrong)
    failure(wrong)
    assert len(made) == 4, "it may be the credentials"


def test_its_window_is_ten_minutes() -> None:
    sink = sink_for(spec(None, **KEYS))
    assert sink.window.total.total_seconds() == 600
    assert sink.destination() == "s3://results/{jobId}/{jobRunId}.json"
    assert sink.format == "json"
