from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from typing import Any

import pytest
from aiohttp import web

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec import HttpTarget
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Grant, Limits

from .conftest import Server, attempt, call, raw_server


async def error_of(
    target: dict[str, Any] | None = None, made: Any = None, limits: Limits | None = None
) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await call(target, made, limits)
    return caught.value


def answering(status: int = 200, **answer: Any) -> Any:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, **answer)

    return handler


# -- what is sent ---------------------------------------------------------------------------------------------


async def test_parameters_are_posted_as_json_to_the_apis_path(server: Server) -> None:
    result = await call(made=attempt("list-products", {"page": 1, "q": "ä"}))
    request, body = server.seen[0]
    assert (request.method, request.path, json.loads(body)) == ("POST", "/list-products", {"page": 1, "q": "ä"})
    assert request.content_type == "application/json"
    assert (result.value, result.status_code) == ({"path": "/list-products"}, 200)


async def test_every_call_says_which_attempt_of_which_item_it_is(server: Server) -> None:
    await call(made=attempt(run_id="manual__2026-01-01T00:00:00+00:00 ä\r\nX-Evil: 1"))
    headers = server.seen[0][0].headers
    assert headers["Idempotency-Key"] == "item-3"
    assert headers["X-Job-Id"] == "job"
    assert headers["X-Job-Run-Id"] == "manual__2026-01-01T00:00:00+00:00 %C3%A4%0D%0AX-Evil: 1"
    assert (headers["X-Item-Index"], headers["X-Attempt"]) == ("3", "2")
    assert "X-Evil" not in headers


@pytest.mark.parametrize(
    ("api", "raw_path"),
    [
        ("a/b", "/v1/a/b"),
        ("a b", "/v1/a%20b"),
        ("a?x=1#y", "/v1/a%3Fx%3D1%23y"),
        ("a%2Fb", "/v1/a%252Fb"),
        ("ä", "/v1/%C3%A4"),
        ("a;b&c=d", "/v1/a%3Bb%26c%3Dd"),
    ],
)
async def test_each_segment_of_the_api_name_is_percent_encoded(server: Server, api: str, raw_path: str) -> None:
    # What matters is that the server reads the name back, and no more than the name.
    result = await call({"path": "/v1/{api}"}, attempt(api))
    assert server.seen[0][0].path == f"/v1/{api}"
    assert result.value["path"].partition("?")[1] == ""
    assert "#" not in result.value["path"]


async def test_a_base_url_keeps_its_path_with_or_without_a_slash(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base in ("/prefix", "/prefix/"):
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": server.url + base}))
        await call()
    assert [request.path for request, _ in server.seen] == ["/prefix/echo", "/prefix/echo"]


async def test_parameters_can_be_a_query_or_a_form(server: Server) -> None:
    parameters = {"a": "x y&z", "n": 1.5, "yes": True, "none": None, "list": [1, "b"], "object": {"k": [1]}}
    await call({"method": "GET"}, attempt(parameters=parameters))
    await call({"method": "DELETE", "parametersAs": "query", "path": "/{api}?v=2"}, attempt(parameters=parameters))
    await call({"parametersAs": "form"}, attempt(parameters=parameters))
    expected = [("a", "x y&z"), ("n", "1.5"), ("yes", "true"), ("list", "1"), ("list", "b"), ("object", '{"k": [1]}')]
    get, delete, form = (request for request, _ in server.seen)
    assert (get.method, list(get.query.items())) == ("GET", expected)
    assert (delete.method, list(delete.query.items())) == ("DELETE", [("v", "2"), *expected])
    assert list((await form.post()).items()) == expected


async def test_the_connection_gives_credentials_and_headers_and_the_target_overrides(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": server.port,
        "login": "me",
        "password": "hunter2",
        "extra": {"X-Team": "ours", "X-Both": "connection"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    await call({"headers": {"X-Both": "target"}})
    headers = server.seen[0][0].headers
    assert headers["Authorization"] == "Basic bWU6aHVudGVyMg=="
    assert (headers["X-Team"], headers["X-Both"]) == ("ours", "target")


# -- what counts as success --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
async def test_every_2xx_is_success(server: Server, status: int) -> None:
    server.answer = answering(status, text="5", content_type="application/json")
    result = await call()
    assert (result.value, result.status_code) == (5, status)


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/problem+json; charset=utf-8", b'"x"', "x"),
        ("text/plain; charset=iso-8859-1", b"\xe4", "ä"),
        ("text/html", "<p>ä".encode(), "<p>ä"),
        ("text/plain", b'{"not": "parsed"}', '{"not": "parsed"}'),
        ("application/json", b"", None),
        ("application/octet-stream", b"plain", "plain"),
    ],
)
async def test_json_is_parsed_and_text_is_text(server: Server, content_type: str, body: bytes, value: Any) -> None:
    server.answer = answering(body=body, headers={"Content-Type": content_type})
    assert (await call()).value == value


async def test_no_content_is_null(server: Server) -> None:
    server.answer = answering(204)
    assert await call() == (await call())
    assert (await call()).value is None


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b'{"a": ', "says that it is JSON and is not"),
        ("application/json", b"\xff\xfe", "says that it is JSON and is not"),
        ("application/json", b'{"a": NaN}', "NaN is not a JSON number"),
        ("application/json", b"[" * 200_000, "nested too deeply"),
        ("application/json", b"[" * 100 + b"]" * 100, "cannot be stored: nested deeper"),
        ("application/json", b'"\\u0000"', "NUL"),
        ("application/json", b'"\\ud800"', "surrogate"),
        ("image/png", b"\x89PNG\xff", "5 bytes of image/png are not text"),
        ("text/plain; charset=klingon", b"a", "are not text (klingon)"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_bodies_that_are_not_what_they_say_fail_the_attempt(
    server: Server, content_type: str, body: bytes, message: str
) -> None:
    server.answer = answering(body=body, headers={"Content-Type": content_type})
    error = await error_of()
    assert (error.code, error.status_code, error.retriable) == ("invalid-response", 200, True)
    assert message in error.message


# -- what counts as failure --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 409, 410, 418, 422, 429, 500, 502, 503, 504, 599])
async def test_every_other_status_is_an_error_that_may_be_retried(server: Server, status: int) -> None:
    server.answer = answering(status, text="" if status == 304 else "no\nluck")
    error = await error_of()
    assert (error.code, error.status_code, error.retriable) == ("http-error", status, True)
    assert f"POST /echo answered {status}" in error.message
    assert status == 304 or "no luck" in error.message


async def test_an_errors_message_comes_from_its_json_and_is_short(server: Server) -> None:
    server.answer = answering(
        500, text=json.dumps({"error": {"message": "x" * 9000}})[:4000], content_type="text/plain"
    )
    assert len((await error_of()).message) < 400
    server.answer = answering(
        422, text=json.dumps({"trace": 1, "message": "page 9 is gone"}), content_type="application/json"
    )
    assert (await error_of()).message.endswith(": page 9 is gone")


async def test_redirects_are_followed_on_the_same_host_only(server: Server) -> None:
    async def here(request: web.Request) -> web.Response:
        if request.path == "/echo":
            raise web.HTTPTemporaryRedirect("/moved?x=1")
        return web.json_response("arrived")

    server.answer = here
    assert (await call()).value == "arrived"

    async with Server().running() as other:
        server.answer = answering(307, headers={"Location": f"{other.url}/steal"})
        error = await error_of({"headers": {"X-Key": "hunter2"}})
        assert (error.code, error.status_code) == ("http-error", 307)
        assert "a redirect to another host" in error.message
        assert other.seen == []


async def test_endless_redirects_end(server: Server) -> None:
    server.answer = answering(302, headers={"Location": "/echo"})
    assert (await error_of()).code == "invalid-response"
    assert len(server.seen) < 20


async def test_oversized_results_are_errors_that_are_not_retried(server: Server) -> None:
    limits = Limits(max_result_bytes=1000)
    server.answer = answering(text="x" * 1000)
    assert len((await call(limits=limits)).value) == 1000
    server.answer = answering(text="x" * 1001)
    error = await error_of(limits=limits)
    assert (error.code, error.retriable) == ("result-too-big-error", False)
    assert "[jobs] max_result_bytes" in error.message


async def test_an_endless_body_is_left_at_the_limit(server: Server) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    server.answer = endless
    assert (await error_of(limits=Limits(max_result_bytes=100_000))).code == "result-too-big-error"
    assert sent < 50_000_000


async def test_a_compressed_bomb_is_left_at_the_limit(server: Server) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    server.answer = answering(body=bomb, headers={"Content-Encoding": "gzip"})
    assert (await error_of(limits=Limits(max_result_bytes=100_000))).code == "result-too-big-error"


# -- appending to the run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        ({"n": 1, "extendedPayloads": [{"api": "a"}]}, [{"api": "a"}]),
        ({"extendedPayloads": []}, []),
        ({"extendedPayloads": None}, None),
        ({"n": 1}, None),
        ([{"extendedPayloads": [1]}], None),
        ("extendedPayloads", None),
    ],
)
async def test_an_answers_extended_payloads_are_items_to_append(server: Server, body: Any, payloads: Any) -> None:
    server.answer = answering(text=json.dumps(body), content_type="application/json")
    result = await call()
    assert (result.value, result.extended_payloads) == (body, payloads)


@pytest.mark.parametrize(
    ("found", "kind"), [({}, "an object"), ("a", "a text"), (1.5, "a number"), (True, "a boolean")]
)
async def test_extended_payloads_that_are_no_list_end_the_item(server: Server, found: Any, kind: str) -> None:
    server.answer = answering(text=json.dumps({"extendedPayloads": found}), content_type="application/json")
    error = await error_of()
    assert (error.code, error.retriable) == ("invalid-extended-payloads", False)
    assert error.message.startswith(
        f"the answer's extendedPayloads is {kind}; it should be a list of items such as [{{"
    )


async def test_text_appends_nothing(server: Server) -> None:
    server.answer = answering(text='{"extendedPayloads": 1}', content_type="text/plain")
    assert (await call()).extended_payloads is None


GRANT = Grant("https://airflow.example/jobs/api/v1/jobs/job/runs/manual__1%3A/payloads", "tok-hunter2")


async def test_the_run_token_is_sent_where_the_target_wants_it(server: Server) -> None:
    async def here(request: web.Request) -> web.Response:
        if request.path == "/echo":
            raise web.HTTPSeeOther("/moved")
        return web.json_response("arrived")

    server.answer = here
    await call({"sendRunToken": True}, attempt(grant=GRANT))
    for request, _ in server.seen:
        assert request.headers.getall("X-Job-Append-Url") == [GRANT.url]
        assert request.headers.getall("X-Job-Append-Token") == ["tok-hunter2"]
    server.seen.clear()
    forged = {"headers": {"X-Job-Append-Token": "forged", "x-job-append-url": "forged"}}
    await call(forged, attempt(grant=GRANT))
    await call({**forged, "sendRunToken": True}, attempt())
    assert not [name for request, _ in server.seen for name in request.headers if name.lower().startswith("x-job-app")]


async def test_the_run_token_is_in_no_message(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer = answering(500, text="you sent tok-hunter2")
    error = await error_of({"sendRunToken": True}, attempt(grant=GRANT))
    assert "you sent ***" in error.message
    assert "tok-hunter2" not in f"{attempt(grant=GRANT)!r} {GRANT} {caplog.text}"


# -- what goes wrong on the way ------------------------------------------------------------------------------------


async def test_a_refused_connection_says_where_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(lambda reader, writer: asyncio.sleep(0)) as port:
        pass
    monkeypatch.setenv("AIRFLOW_CONN_API", f"http://me:hunter2@127.0.0.1:{port}")
    error = await error_of()
    assert (error.code, error.retriable) == ("connection-error", True)
    assert f"127.0.0.1:{port}" in error.message
    assert "refused" in error.message.lower() or "connect call failed" in error.message.lower()


async def test_an_unknown_host_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", "http://no-such-host.invalid")
    assert (await error_of()).code == "connection-error"


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("talk", [_silence, _trickle])
async def test_the_time_out_covers_the_whole_attempt(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(talk) as port:
        monkeypatch.setenv("AIRFLOW_CONN_API", f"http://127.0.0.1:{port}")
        before = time.monotonic()
        error = await error_of(made=attempt(timeout=0.3))
        assert time.monotonic() - before < 2
    assert (error.code, error.message, error.retriable) == ("timeout", "no answer within 0.3 s", True)


async def test_the_connections_time_out_narrows_the_attempts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(_silence) as port:
        connection = {"conn_type": "http", "host": "127.0.0.1", "port": port, "extra": {"timeout": 0.2}}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
        assert "within 0.2 s" in (await error_of()).message


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.transport.abort()


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def _no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("talk", "code"), [(_reset, "connection-error"), (_half, "connection-error"), (_no_http, "invalid-response")]
)
async def test_connections_that_break_are_errors_that_may_be_retried(
    talk: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(talk) as port:
        monkeypatch.setenv("AIRFLOW_CONN_API", f"http://127.0.0.1:{port}")
        error = await error_of()
    assert (error.code, error.retriable) == (code, True)


async def test_tls_to_a_plain_port_is_a_connection_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": f"https://127.0.0.1:{server.port}"})
    )
    assert (await error_of()).code == "connection-error"


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (None, "there is no connection 'api'; create it with `airflow connections add api"),
        ({"conn_type": "http"}, "the connection 'api' has no host"),
        ({"conn_type": "http", "extra": {"verify": "/no/such.pem"}, "host": "h"}, "certificates cannot be used"),
    ],
)
async def test_a_connection_that_cannot_be_used_is_told_and_not_retried(
    connection: dict | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_API", raising=False)
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    error = await error_of()
    assert (error.code, error.retriable) == ("configuration-error", False)
    assert message in error.message


async def test_cancelling_an_attempt_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hung_up = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        hung_up.set()

    async with raw_server(wait) as port:
        monkeypatch.setenv("AIRFLOW_CONN_API", f"http://127.0.0.1:{port}")
        task = asyncio.create_task(call())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(hung_up.wait(), 2)


# -- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["job", "job as object", "connection", "connection by scheme", "job over connection"])
async def test_calls_go_through_the_proxy(server: Server, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server().running() as proxy:
        proxy.answer = answering(text='"by proxy"', content_type="application/json")
        url = proxy.url.replace("//", "//me:hunter2@")
        connection = {"conn_type": "http", "host": "api.example", "extra": {}}
        given: Any = None
        if where == "job":
            given = url
        elif where == "job as object":
            given = {"version": "v1", "url": url}
        elif where == "connection":
            connection["extra"] = {"proxy": url}
        elif where == "connection by scheme":
            connection["extra"] = {"proxies": {"https": "http://127.0.0.1:1", "http": url}}
        else:
            given, connection["extra"] = url, {"proxy": "http://127.0.0.1:1"}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
        assert (await call(made=attempt(proxy=given))).value == "by proxy"
    request = proxy.seen[0][0]
    assert request.raw_path == "http://api.example/echo"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6aHVudGVyMg=="


async def test_a_proxy_that_is_away_or_refuses_is_a_connection_error(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    error = await error_of(made=attempt(proxy="http://me:hunter2@127.0.0.1:1"))
    assert error.code == "connection-error"
    server.answer = answering(407)
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": "https://api.example"}))
    refused = await error_of(made=attempt(proxy=server.url.replace("//", "//me:hunter2@")))
    assert refused.code == "connection-error"
    assert "hunter2" not in error.message + refused.message + caplog.text


# -- one target, many attempts ---------------------------------------------------------------------------------------


async def test_an_opened_target_makes_many_attempts_at_once(server: Server) -> None:
    arrived = 0
    everybody = asyncio.Event()

    async def together(request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == 150:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), 10)
        return web.json_response(await request.json())

    server.answer = together
    async with open_target(HttpTarget(connId="api"), Limits()) as caller:
        results = await asyncio.gather(*(caller(attempt(parameters={"n": n}, timeout=20)) for n in range(150)))
    assert [result.value["n"] for result in results] == list(range(150))


async def test_cookies_of_one_attempt_do_not_reach_another(server: Server) -> None:
    server.answer = answering(headers={"Set-Cookie": "a=b"})
    async with open_target(HttpTarget(connId="api"), Limits()) as caller:
        await caller(attempt())
        await caller(attempt())
    assert "Cookie" not in server.seen[1][0].headers


async def test_secrets_are_in_no_message_and_no_log(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    connection = {
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": server.port,
        "login": "me",
        "password": "hunter2",
        "extra": {"X-Secret": "hunter2"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    for status in (200, 500):
        server.answer = answering(status, text="fine")
        try:
            await call({"headers": {"X-Key": "hunter2"}})
        except AttemptError as error:
            caplog.handler.stream.write(error.message)
    assert "hunter2" not in caplog.text
