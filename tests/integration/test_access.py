from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fastapi import Request

from airflow_jobs_plugin.api.access import Authenticated


async def test_finding_out_who_asks_holds_nobody_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class User:
        def get_name(self) -> str:
            return "anna"

    async def get_user(*_: Any) -> User:
        time.sleep(0.5)  # noqa: ASYNC251 -- as Airflow's does when it waits for a connection to the database
        return User()

    monkeypatch.setattr("airflow.api_fastapi.core_api.security.get_user", get_user)
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(Request(scope).state.job_user.get_name())

    async def beats() -> int:
        count = 0
        while not seen:
            await asyncio.sleep(0.01)
            count += 1
        return count

    scope = {"type": "http", "method": "GET", "path": "/jobs", "headers": [], "query_string": b"", "state": {}}
    counting = asyncio.create_task(beats())
    await Authenticated(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == ["anna"]
    assert await counting > 10, "the loop went on"
