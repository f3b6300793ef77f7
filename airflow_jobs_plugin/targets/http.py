"""The http target: an attempt is one HTTP call through an Airflow connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airflow_jobs_plugin.spec.targets import HttpTarget
from airflow_jobs_plugin.targets.answers import extended_payloads
from airflow_jobs_plugin.targets.base import Attempt, Caller, Limits, Result
from airflow_jobs_plugin.targets.exchange import Client, open_client
from airflow_jobs_plugin.targets.request import build_call


@asynccontextmanager
async def open_http(spec: HttpTarget, limits: Limits) -> AsyncIterator[Caller]:
    """Open the target's connection for any number of attempts."""
    async with open_client(spec.conn_id, spec.headers, limits) as client:
        yield _HttpCaller(spec, client)


class _HttpCaller:
    def __init__(self, spec: HttpTarget, client: Client) -> None:
        self._spec = spec
        self._client = client

    async def __call__(self, attempt: Attempt) -> Result:
        answer = await self._client.call(build_call(self._spec, attempt), attempt.timeout, attempt.proxy)
        return Result(answer.value, answer.status, extended_payloads(answer.value))
