"""What the http target does on the wire and with odd connections, against real peers."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec import HttpTarget
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Grant, Limits

from .conftest import Server, attempt, call, raw_server

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def connect(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", **fields}))


async def error_of(*args: Any, **kwargs: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await call(*args, **kwargs)
    return caught.value


def saying(raw: bytes, requests: list[bytes] | None = None) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(head)
        writer.write(raw)
        await writer.drain()

    return talk


@pytest.mark.parametrize(
    ("api", "raw"),
    [
        ("a/b c", b"/p/a/b%20c"),
        ("50%", b"/p/50%25"),
        ("a%2Fb", b"/p/a%252Fb"),
        ("x HTTP/1.1\r\nX-Evil: 1", b"/p/x%20HTTP/1.1%0D%0AX-Evil%3A%201"),
        ("//other.example/x", b"/p///other.example/x"),
        ("it's(1)", b"/p/it%27s%281%29"),
    ],
)
async def test_the_path_on_the_wire_is_encoded_exactly_once(
    api: str, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[bytes] = []
    async with raw_server(saying(b"HTTP/1.1 204 No Content\r\n\r\n", requests)) as port:
        connect(monkeypatch, host=f"http://127.0.0.1:{port}/p/")
        await call(made=attempt(api))
    lines = requests[0].split(b"\r\n")
    assert lines[0] == b"POST " + raw + b" HTTP/1.1"
    assert not [line for line in lines if line.lower().startswith(b"x-evil")]


async def test_dots_in_an_api_name_never_leave_the_path(server: Server) -> None:
    error = await error_of(made=attempt("../admin"))
    assert (error.code, error.retriable) == ("invalid-parameters", False)
    assert server.seen == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_one_attempt_is_one_call_also_when_the_server_hangs_up(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[bytes] = []
    async with raw_server(saying(b"", requests)) as port:
        connect(monkeypatch, host="127.0.0.1", port=port)
        error = await error_of({"method": method})
    assert (error.code, len(requests)) == ("connection-error", 1)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "connection-error"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "invalid-response"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "invalid-response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "result-too-big-error"),
        (b"HTTP/1.1 999999 Eh\r\n\r\n", "invalid-response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "http-error"),
    ],
)
async def test_a_broken_answer_has_the_code_of_what_broke(
    raw: bytes, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(saying(raw)) as port:
        connect(monkeypatch, host="127.0.0.1", port=port)
        assert (await error_of()).code == code


async def test_a_continue_before_the_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with raw_server(saying(raw)) as port:
        connect(monkeypatch, host="127.0.0.1", port=port)
        assert (await call()).value == "ok"


async def test_a_slow_error_page_does_not_turn_its_status_into_a_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(talk) as port:
        connect(monkeypatch, host="127.0.0.1", port=port)
        error = await error_of(made=attempt(timeout=0.4))
    assert (error.code, error.status_code) == ("http-error", 503)


async def test_a_server_that_echoes_the_request_reveals_no_secret(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "message": str(
                    [(k, v) for k, v in request.headers.items() if k in ("Authorization", "X-Conn", "X-Target")]
                )
            },
            status=401,
        )

    caplog.set_level(logging.DEBUG)
    server.answer = echo
    connect(
        monkeypatch, host="127.0.0.1", port=server.port, login="me", password="hunter2",
        extra={"X-Conn": "conn-secret"},
    )  # fmt: skip
    error = await error_of({"headers": {"X-Target": "Bearer target-secret"}})
    assert "X-Target" in error.message
    for secret in ("hunter2", "bWU6aHVudGVyMg==", "conn-secret", "target-secret"):
        assert secret not in f"{error} {error.__context__!r} {caplog.text}"


async def test_a_query_is_in_no_message(server: Server) -> None:
    server.answer = _status(500)
    error = await error_of({"method": "GET"}, attempt(parameters={"key": "value-of-key"}))
    assert "value-of-key" in server.seen[0][0].raw_path
    assert "value-of-key" not in str(error)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"host": "h", "schema": "v1"}, "schema 'v1'"),
        ({"host": "h", "extra": {"headers": {"X": "top-secret"}}}, "'headers'"),
        ({"host": "h", "extra": {"X-A": "a\r\nX-Evil: top-secret"}}, "'X-A'"),
        ({"host": "h", "extra": {"proxy": "socks5://u:top-secret@p:1"}}, "socks5"),
        ({"host": "h", "extra": {"timeout": "top-secret"}}, "'timeout'"),
        ({"host": "http://u:top-secret@h/?q=1"}, "query"),
        ({"host": "h", "extra": {"cert": "/no/such.pem"}}, "'cert'"),
    ],
)
async def test_a_wrong_connection_is_told_by_name_without_its_values(
    fields: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, **fields)
    error = await error_of()
    assert (error.code, error.retriable) == ("configuration-error", False)
    assert "the connection 'api' has" in error.message or "proxy" in error.message
    assert told in error.message
    assert "top-secret" not in str(error)


async def test_options_written_as_text_in_a_uri_mean_what_they_say(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = _status(302, {"Location": "/elsewhere"})
    monkeypatch.setenv("AIRFLOW_CONN_API", f"{server.url}/?allow_redirects=false&timeout=5&check_response=true")
    error = await error_of()
    assert (error.code, error.status_code, len(server.seen)) == ("http-error", 302, 1)


async def test_credentials_in_a_host_or_without_a_password_work(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, host=f"http://me:p%40ss@127.0.0.1:{server.port}")
    await call()
    connect(monkeypatch, host="127.0.0.1", port=server.port, login="token")
    await call({"headers": {"authorization": "Bearer mine"}})
    await call()
    sent = [request.headers.getall("Authorization") for request, _ in server.seen]
    assert sent == [["Basic bWU6cEBzcw=="], ["Bearer mine"], ["Basic dG9rZW46"]]


async def test_identity_headers_cannot_be_overridden(server: Server) -> None:
    await call({"headers": {"idempotency-key": "mine", "X-ATTEMPT": "9", "Content-Length": "1"}})
    headers = server.seen[0][0].headers
    assert headers.getall("Idempotency-Key") == ["item-3"]
    assert headers.getall("X-Attempt") == ["2"]


async def test_attempts_share_sockets_but_no_cookies(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cookie(request: web.Request) -> web.Response:
        return web.json_response(None, headers={"Set-Cookie": "session=1"})

    server.answer = cookie
    connect(monkeypatch, host="localhost", port=server.port)
    async with open_target(HttpTarget(conn_id="api"), Limits()) as caller:
        await caller(attempt())
        await caller(attempt())
    first, second = (request for request, _ in server.seen)
    assert "Cookie" not in second.headers
    assert first.transport is second.transport


async def test_tls_is_verified_as_the_connection_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = _certificate(tmp_path)
    server = await asyncio.start_server(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"), "127.0.0.1", 0, ssl=context
    )
    host = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        connect(monkeypatch, host=host)
        error = await error_of()
        assert error.code == "connection-error"
        assert "self-signed" in error.message or "self signed" in error.message
        for verify in (str(authority), False, "false"):
            connect(monkeypatch, host=host, extra={"verify": verify})
            assert (await call()).value == "ok"


async def test_the_run_token_is_not_sent_again_where_a_redirect_leads_to_another_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From http to https on the same host, which is followed: the connection's own headers go there, the token does not.
    context, _ = _certificate(tmp_path)
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.start_tls(context)
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        else:
            heads.append(head)
            writer.write(
                b"HTTP/1.1 307 Moved\r\nLocation: https://api.example/echo\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )
        await writer.drain()

    async with raw_server(proxy) as port:
        extra = {"proxy": f"http://127.0.0.1:{port}", "verify": False, "X-Key": "key"}
        connect(monkeypatch, host="api.example", extra=extra)
        made = attempt(grant=Grant("https://airflow.example/append", "tok-hunter2"))
        assert (await call({"sendRunToken": True}, made)).value == "ok"
    first, second = (head.lower() for head in heads)
    assert b"x-job-append-token: tok-hunter2" in first
    assert b"x-key: key" in second
    assert b"x-job-append" not in second


async def test_a_proxy_that_refuses_a_plain_call_is_a_connection_error(server: Server) -> None:
    server.answer = _status(407)
    error = await error_of(made=attempt(proxy=server.url))
    assert error.code == "connection-error"
    assert "407" in error.message


@pytest.mark.parametrize("proxy", ["socks5://u:hunter2@p:1", "http://", {"version": "1"}, {"url": 3}])
async def test_an_unusable_proxy_of_the_job_is_told_without_its_url(server: Server, proxy: Any) -> None:
    error = await error_of(made=attempt(proxy=proxy))
    assert (error.code, error.retriable) == ("configuration-error", False)
    assert "hunter2" not in str(error)
    assert server.seen == []


def _status(status: int, headers: dict[str, str] | None = None) -> Any:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return handler


def _certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A self-signed certificate for 127.0.0.1: the server's context, and the file that trusts it."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
