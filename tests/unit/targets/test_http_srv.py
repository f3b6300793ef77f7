"""Connections whose host is the name of an SRV record, asked of a name server on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rrset
import pytest
from airflow.providers.http.hooks.http import HttpAsyncHook

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.targets.connection import resolve

from .conftest import Server, attempt, call

NAME = "_jobs._tcp.example.test."


class Names(asyncio.DatagramProtocol):
    """A name server with one record. ``asked`` counts the questions."""

    def __init__(self) -> None:
        self.targets: list[tuple[int, int]] = []
        """Of the record: priority and port, all on 127.0.0.1."""
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        records = [f"{priority} 0 {port} 127.0.0.1." for priority, port in self.targets]
        answer.answer.append(dns.rrset.from_text(NAME, 60, "IN", "SRV", *records))
        self._transport.sendto(answer.to_wire(), address)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Names]:
    server = Names()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    connection = {"conn_type": "http", "host": NAME.rstrip("."), "extra": {"srv_lookup": True, "X-Team": "ours"}}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    yield server
    transport.close()


async def closed_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_a_call_goes_to_the_first_of_the_records_hosts_that_can_be_reached(server: Server, names: Names) -> None:
    names.targets = [(1, await closed_port()), (2, server.port)]
    result = await call(made=attempt("list-products"))
    assert result.value == {"path": "/list-products"}
    assert server.seen[0][0].headers["X-Team"] == "ours"
    assert names.asked == 1


async def test_a_record_none_of_whose_hosts_can_be_reached_is_a_connection_error(names: Names) -> None:
    names.targets = [(1, await closed_port())]
    with pytest.raises(AttemptError) as caught:
        await call(made=attempt("list-products"))
    assert caught.value.code == "connection-error"


async def test_only_such_connections_take_the_long_way(
    server: Server, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the provider calls it something else: all calls would then take the longer way."""
    assert hasattr(HttpAsyncHook(), "_srv_lookup_enabled")
    assert (await resolve("api")).srv
    monkeypatch.setenv("AIRFLOW_CONN_API", server.url)
    assert not (await resolve("api")).srv
