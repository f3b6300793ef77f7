"""Real servers for the targets to call: an aiohttp one that can be told what to answer, and raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Attempt, Limits, Result

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A web server on a free port; ``seen`` has every request with its body."""

    def __init__(self) -> None:
        self.seen: list[tuple[web.Request, bytes]] = []
        self.port = 0
        self.answer: Handler = self._default

    @staticmethod
    async def _default(request: web.Request) -> web.StreamResponse:
        return web.json_response({"path": request.raw_path})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request, await request.read()))
        return await self.answer(request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    async with Server().running() as running:
        monkeypatch.setenv("AIRFLOW_CONN_API", running.url)
        yield running


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A socket server whose every connection is handled by ``talk``; gives its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def attempt(api: str = "echo", parameters: dict[str, Any] | None = None, **fields: Any) -> Attempt:
    defaults = {"job_id": "job", "run_id": "run", "index": 3, "number": 2, "item_id": "item-3", "timeout": 5.0}
    return Attempt(api=api, parameters=parameters or {}, **{**defaults, **fields})


async def call(
    target: dict[str, Any] | None = None, made: Attempt | None = None, limits: Limits | None = None
) -> Result:
    """Open the target of a job, make one attempt."""
    spec = Job.model_validate(
        {"id": "x", "payload": [{"api": "a"}], "target": {"connId": "api", **(target or {})}}
    ).target
    async with open_target(spec, limits or Limits()) as caller:
        return await caller(made or attempt())
