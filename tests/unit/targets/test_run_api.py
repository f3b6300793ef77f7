"""The run-api target against a real server that speaks the platform's Run API, as its published client knows it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from intuned_client import models
from pydantic import BaseModel

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.targets import open_target, run_api
from airflow_jobs_plugin.targets.base import Attempt, Grant, Limits, Result

from .conftest import Server, attempt

FAST = {"type": "run-api", "connId": "api", "pollInterval": 5, "maxPollInterval": 20}
CANCELING = {**FAST, "cancelPath": "/run/{runId}/terminate"}
COMPLETED = {"status": "completed", "result": {"price": 5}}
#: Seconds in which everything that a test waits for happens, with much to spare.
SOON = 10

Step = dict[str, Any] | web.Response | Callable[[], Any]


class RunApi:
    """Runs that take the steps of a script: each poll is answered with the next one, the last one again and again."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.steps: list[Step] = [COMPLETED]
        self.starts: list[web.Request] = []
        self.polls: list[web.Request] = []
        self.cancels: list[web.Request] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.polled, self.started, self.may_start = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.may_start.set()
        self.start_answer: web.Response | None = None
        self.cancel_answer: web.Response | None = None
        server.answer = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (request.method, request.path) == ("POST", "/run/start"):
            return await self._start(request)
        _, _, run_id, what = request.path.split("/")
        if (request.method, what) == ("GET", "result"):
            return await self._poll(request, run_id)
        assert (request.method, what) == ("POST", "terminate")
        self.cancels.append(request)
        return self.cancel_answer or web.json_response({})

    async def _start(self, request: web.Request) -> web.StreamResponse:
        self.starts.append(request)
        self.bodies.append(await request.json())
        self.started.set()
        await self.may_start.wait()
        if self.start_answer is not None:
            return self.start_answer
        answer = {"runId": f"run-{len(self.starts)}", "status": "pending"}
        models.RunStartResponse.model_validate(answer)
        return web.json_response(answer, status=201)

    async def _poll(self, request: web.Request, run_id: str) -> web.StreamResponse:
        self.polls.append(request)
        self.times.append(time.monotonic())
        self.polled.set()
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if callable(step):
            step = await step()
        if isinstance(step, dict):
            answer = {"runId": run_id, **step}
            models.RunResultResponse.model_validate(answer)
            return web.json_response(answer)
        # A response is sent once.
        return web.Response(status=step.status, headers=step.headers, body=step.body)


@pytest.fixture
def api(server: Server) -> RunApi:
    return RunApi(server)


class Remembered:
    """A memory as a driver would provide it; ``history`` has every value that was kept."""

    def __init__(self, value: dict[str, Any] | None = None) -> None:
        self.value = value
        self.history: list[dict[str, Any] | None] = []

    async def recall(self) -> dict[str, Any] | None:
        return self.value

    async def remember(self, value: dict[str, Any] | None) -> None:
        await asyncio.sleep(0)
        self.value = json.loads(json.dumps(value))
        self.history.append(self.value)


async def made(target: dict[str, Any] = FAST, limits: Limits | None = None, **fields: Any) -> Result:
    return await call(target, attempt("list-products", {"page": 2}, **fields), limits)


async def call(target: dict[str, Any], made: Attempt, limits: Limits | None = None) -> Result:
    spec = Job.model_validate({"id": "x", "payload": [{"api": "a"}], "target": target}).target
    async with open_target(spec, limits or Limits()) as caller:
        return await caller(made)


async def error_of(*args: Any, **kwargs: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await made(*args, **kwargs)
    return caught.value


def answering(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, text="no luck")


def unknown_fields(model: BaseModel) -> list[str]:
    """Fields that the client's models do not know: they let them pass."""
    found = list(model.model_extra or {})
    for _, value in model:
        if isinstance(value, BaseModel):
            found += unknown_fields(value)
    return found


def remembered(run_id: str = "run-0", **changes: Any) -> dict[str, Any]:
    return {"runId": run_id, "itemId": "item-3", "connId": "api", "resultPath": "/run/{runId}/result", **changes}


# -- what is sent ---------------------------------------------------------------------------------------------


async def test_a_run_is_started_and_asked_for_until_it_has_completed(api: RunApi) -> None:
    api.steps = [{"status": "pending"}, {"status": "started"}, COMPLETED]
    assert await made() == Result({"price": 5}, 200)
    assert [request.path for request in api.polls] == ["/run/run-1/result"] * 3
    assert len(api.starts) == 1


async def test_the_start_is_what_the_published_client_sends(api: RunApi) -> None:
    await made(timeout=9.2)
    (body,) = api.bodies
    assert body == {
        "api": "list-products", "parameters": {"page": 2}, "requestTimeout": 10, "retry": {"maximumAttempts": 1},
    }  # fmt: skip
    assert unknown_fields(models.RunStartRequestBody.model_validate(body)) == []
    assert api.starts[0].content_type == "application/json"


@pytest.mark.parametrize(
    ("session", "model"),
    [
        (
            {"id": "s", "check_attempts": 2, "createAttempts": 1},
            models.RunStartRequestBodyAuthSessionCredentialsBasedAuthSessionInput,
        ),
        (
            {"runtime_input": {"user": "me"}, "auto_recreate": True},
            models.RunStartRequestBodyAuthSessionRuntimeBasedAuthSessionInput,
        ),
    ],
)
@pytest.mark.parametrize("proxy", ["http://me:pw@p:1", {"version": "v1", "url": "http://me:pw@p:1"}])
async def test_session_and_proxy_are_the_runs(api: RunApi, session: dict, model: type, proxy: Any) -> None:
    # The proxy answers nobody: the calls themselves do not go there.
    await made(auth_session=session, proxy=proxy)
    sent = models.RunStartRequestBody.model_validate(api.bodies[0])
    assert unknown_fields(sent) == []
    assert type(sent.auth_session) is model
    assert sent.proxy == "http://me:pw@p:1"


async def test_a_proxy_without_a_url_is_told_before_anything_is_started(api: RunApi) -> None:
    error = await error_of(proxy={"host": "p"})
    assert (error.code, error.retriable, api.starts) == ("configuration-error", False, [])
    assert "an object with the text 'url'" in error.message


async def test_every_call_says_which_attempt_it_is_and_a_cancel_repeats_no_start(api: RunApi) -> None:
    api.steps = [{"status": "started"}]
    await error_of(CANCELING, timeout=0.1)
    for request in (*api.starts, *api.polls, *api.cancels):
        assert (request.headers["X-Job-Id"], request.headers["X-Attempt"]) == ("job", "2")
        assert request.headers["X-Item-Index"] == "3"
    assert api.starts[0].headers["Idempotency-Key"] == "item-3"
    assert "Idempotency-Key" not in api.cancels[0].headers


async def test_paths_and_headers_are_configurable_and_the_run_id_is_encoded(server: Server) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"runId": "a/b ?"} if request.method == "POST" else COMPLETED)

    server.answer = answer
    paths = {"startPath": "/v2/{api}/runs?wait=0", "resultPath": "/v2/{api}/runs/{runId}?full=1"}
    await made({**FAST, **paths, "headers": {"X-Key": "k"}})
    assert [request.raw_path for request, _ in server.seen] == [
        "/v2/list-products/runs?wait=0",
        "/v2/list-products/runs/a%2Fb%20%3F?full=1",
    ]
    assert {request.headers["X-Key"] for request, _ in server.seen} == {"k"}


# -- how a run ends -------------------------------------------------------------------------------------------


async def test_status_code_and_extended_payloads_come_from_the_answer(api: RunApi) -> None:
    more = [{"api": "details", "parameters": {"id": 1}}]
    api.steps = [{**COMPLETED, "statusCode": 206, "extendedPayloads": more}]
    assert await made() == Result({"price": 5}, 206, more)
    api.steps = [{**COMPLETED, "extendedPayloads": None}]
    assert (await made()).extended_payloads is None
    api.steps = [{"status": "completed"}]
    assert (await made()).value is None


async def test_extended_payloads_that_are_no_list_end_the_item(server: Server) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"runId": "r", **COMPLETED, "extendedPayloads": {"api": "a"}})

    server.answer = answer
    error = await error_of()
    assert (error.code, error.retriable) == ("invalid-extended-payloads", False)
    assert "is an object; it should be a list of items" in error.message


FAILURE = {"message": "element\nnot found", "code": "script-execution-exception", "category": "execution"}


@pytest.mark.parametrize(
    ("step", "code", "text", "retriable"),
    [
        (
            {"status": "failed", "error": FAILURE, "message": "x"},
            "run-failed",
            "the run run-1 failed: script-execution-exception: element not found",
            True,
        ),
        ({"status": "failed", "message": "out of luck"}, "run-failed", "the run run-1 failed: out of luck", True),
        ({"status": "failed"}, "run-failed", "the run run-1 failed", True),
        (
            {"status": "canceled", "reason": {"type": "failed-to-initialize-job-run", "message": "no machine"}},
            "run-canceled",
            "the run run-1 was canceled: failed-to-initialize-job-run: no machine",
            True,
        ),
        (
            {"status": "canceled", "reason": {"type": "cancelled-user-action", "message": "by Ann"}},
            "run-canceled",
            "the run run-1 was canceled: cancelled-user-action: by Ann",
            False,
        ),
        ({"status": "canceled"}, "run-canceled", "the run run-1 was canceled", True),
    ],
)
async def test_a_run_that_fails_or_is_canceled_fails_the_attempt(
    api: RunApi, step: dict, code: str, text: str, retriable: bool
) -> None:
    api.steps = [{"status": "started"}, step]
    memory = Remembered()
    error = await error_of(CANCELING, memory=memory)
    assert (error.code, error.message, error.retriable) == (code, text, retriable)
    assert (memory.value, api.cancels) == (None, []), "the next attempt starts anew, and nothing is left to cancel"


async def test_a_failed_runs_status_code_is_kept(api: RunApi) -> None:
    api.steps = [{"status": "failed", "statusCode": 404}]
    error = await error_of()
    assert (error.code, error.status_code) == ("run-failed", 404)


async def test_a_result_over_the_limit_ends_the_item(api: RunApi) -> None:
    api.steps = [{"status": "completed", "result": "x" * 500}]
    memory = Remembered()
    error = await error_of(limits=Limits(max_result_bytes=400), memory=memory)
    assert (error.code, error.retriable, memory.value) == ("result-too-big-error", False, None)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": "pending"}, "without a run's id"),
        ({"runId": "", "status": "pending"}, "without a run's id"),
        ({"runId": "..", "status": "pending"}, "without a run's id"),
        ({"runId": "a\nb", "status": "pending"}, "without a run's id"),
        ({"runId": "x" * 600}, "without a run's id"),
        (["run-1"], "a JSON object with a text 'runId'"),
    ],
    ids=str,
)
async def test_a_start_that_names_no_run_is_an_invalid_response(api: RunApi, answer: Any, told: str) -> None:
    api.start_answer = web.json_response(answer)
    memory = Remembered()
    error = await error_of(memory=memory)
    assert (error.code, error.status_code, memory.history) == ("invalid-response", 200, [])
    assert told in error.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"status": "exploded"}', "should be pending, started, completed, failed or canceled, not 'exploded'"),
        ('{"status": ["completed"]}', "not ['completed']"),
        ('{"result": 1}', "and there is none"),
        ("[]", "and there is none"),
    ],
)
async def test_an_unknown_status_is_an_invalid_response(api: RunApi, body: str, told: str) -> None:
    api.steps = [web.Response(body=body.encode(), content_type="application/json")]
    error = await error_of()
    assert (error.code, error.status_code) == ("invalid-response", 200)
    assert told in error.message


async def test_a_refused_start_is_one_failed_attempt(api: RunApi) -> None:
    api.start_answer = answering(429, Retry_After="1")
    error = await error_of(CANCELING)
    assert (error.code, error.status_code, error.retriable) == ("http-error", 429, True)
    assert (len(api.starts), api.polls, api.cancels) == (1, [], [])


# -- waiting --------------------------------------------------------------------------------------------------


async def test_waits_grow_up_to_the_longest(api: RunApi) -> None:
    api.steps = [*[{"status": "started"}] * 6, COMPLETED]
    await made({**FAST, "pollInterval": 20, "maxPollInterval": 40})
    waits = [after - before for before, after in zip(api.times, api.times[1:], strict=False)]
    # An event loop never wakes up early; how late it does is the machine's.
    for wait, least in zip(waits, (0.02, 0.03, 0.04, 0.04, 0.04, 0.04), strict=True):
        assert wait > least * 0.95


async def test_a_poll_that_fails_in_passing_is_repeated_on_the_same_run(api: RunApi) -> None:
    async def hang_up() -> web.Response:
        transport = api.polls[-1].transport
        assert transport is not None
        transport.abort()
        return answering(500)

    api.steps = [
        *(answering(status) for status in (500, 502, 503, 504, 429, 408, 425)),
        hang_up,
        {"status": "started"},
        COMPLETED,
    ]
    memory = Remembered()
    assert (await made(memory=memory)).value == {"price": 5}
    assert (len(api.starts), len(api.polls)) == (1, 10)
    assert memory.history == [remembered("run-1")]


async def test_a_server_that_is_away_for_a_moment_costs_nothing(api: RunApi, monkeypatch: pytest.MonkeyPatch) -> None:
    port = api.server.port
    other = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    closed = other.sockets[0].getsockname()[1]
    other.close()
    target = {**FAST, "resultPath": "/run/{runId}/result"}
    spec = Job.model_validate({"id": "x", "payload": [{"api": "a"}], "target": target}).target
    monkeypatch.setenv("AIRFLOW_CONN_API", f"http://127.0.0.1:{closed}")
    async with open_target(spec, Limits()) as caller:
        task = asyncio.create_task(caller(attempt(memory=Remembered(remembered("run-7")))))
        await asyncio.sleep(0.05)
        assert not task.done(), "refused connections are polled again"
        site = await asyncio.start_server(_relay(port), "127.0.0.1", closed)
        async with site:
            assert (await asyncio.wait_for(task, SOON)).value == {"price": 5}
    assert api.starts == []


def _relay(port: int) -> Any:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, down = await asyncio.open_connection("127.0.0.1", port)
        down.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await upstream.read(65536))
        writer.close()
        down.close()

    return relay


async def test_a_poll_without_an_answer_is_given_up_and_repeated(api: RunApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stall() -> dict[str, Any]:
        await asyncio.sleep(2)
        return {"status": "started"}

    api.steps = [stall, COMPLETED]
    connection = {"conn_type": "http", "host": api.server.url, "extra": {"timeout": 0.1}}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    assert (await made()).value == {"price": 5}
    monkeypatch.setenv("AIRFLOW_CONN_API", api.server.url)
    monkeypatch.setattr(run_api, "POLL_SECONDS", 0.1)
    api.steps = [stall, COMPLETED]
    assert (await made()).value == {"price": 5}
    assert len(api.polls) == 4


async def test_retry_after_is_honoured(api: RunApi) -> None:
    api.steps = [answering(503, Retry_After="0.1"), answering(429, Retry_After="0.1"), answering(500), COMPLETED]
    await made()
    first, second, third = (after - before for before, after in zip(api.times, api.times[1:], strict=False))
    assert min(first, second) > 0.095
    assert third < 0.095


async def test_a_retry_after_beyond_the_end_waits_for_the_end_without_asking(api: RunApi) -> None:
    api.steps = [answering(503, Retry_After="3600")]
    error = await error_of(timeout=1.5)
    assert error.code == "timeout"
    assert len(api.polls) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_a_run_that_the_api_does_not_know_is_a_failure(api: RunApi, status: int) -> None:
    api.steps = [{"status": "started"}, answering(status)]
    memory = Remembered()
    error = await error_of(memory=memory)
    assert (error.code, error.status_code, error.retriable) == ("run-not-found", status, True)
    assert f"GET /run/run-1/result answered {status}" in error.message
    assert memory.value is None, "the next attempt starts anew"


@pytest.mark.parametrize("status", [400, 401, 403, 302])
async def test_a_refused_poll_fails_the_attempt_and_leaves_the_run_to_the_next(api: RunApi, status: int) -> None:
    api.steps = [answering(status)]
    memory = Remembered()
    error = await error_of(CANCELING, memory=memory)
    assert (error.code, error.status_code, api.cancels) == ("http-error", status, [])
    api.steps = [COMPLETED]
    await made(CANCELING, memory=memory)
    assert len(api.starts) == 1


async def test_a_run_that_nobody_will_come_back_to_is_canceled(api: RunApi) -> None:
    api.steps = [answering(401)]
    await error_of(CANCELING)
    assert [request.path for request in api.cancels] == ["/run/run-1/terminate"]


# -- time-out -------------------------------------------------------------------------------------------------


async def test_the_time_out_bounds_the_whole_attempt_and_cancels_the_run(api: RunApi) -> None:
    api.steps = [{"status": "started"}]
    memory = Remembered()
    before = time.monotonic()
    error = await error_of(CANCELING, timeout=0.2, memory=memory)
    assert 0.19 < time.monotonic() - before < 2
    assert (error.code, error.retriable) == ("timeout", True)
    assert error.message == "the run run-1 did not end within 0.2 s"
    assert [request.path for request in api.cancels] == ["/run/run-1/terminate"]
    assert memory.history == [remembered("run-1"), None]


async def test_without_a_cancel_path_a_run_is_left_to_itself(api: RunApi) -> None:
    api.steps = [answering(500)]
    memory = Remembered()
    error = await error_of(timeout=0.1, memory=memory)
    assert error.message.startswith("the run run-1 did not end within 0.1 s; asking for it failed at last: GET /run/")
    assert (api.cancels, memory.value) == ([], None)


async def test_a_run_is_asked_for_once_more_before_the_time_is_over(api: RunApi) -> None:
    assert (await made({**FAST, "pollInterval": "1h", "maxPollInterval": "1h"}, timeout=0.2)).value == {"price": 5}


async def test_a_start_without_an_answer_is_a_time_out(api: RunApi) -> None:
    api.may_start.clear()
    error = await error_of(CANCELING, timeout=0.1)
    assert (error.code, error.message) == ("timeout", "no run was started within 0.1 s")
    api.may_start.set()


@pytest.mark.parametrize("status", [200, 404, 409, 410, 500])
async def test_a_cancel_that_is_refused_changes_nothing_about_the_time_out(api: RunApi, status: int) -> None:
    api.steps = [{"status": "started"}]
    api.cancel_answer = web.Response(status=status, text="{", content_type="application/json")
    assert (await error_of(CANCELING, timeout=0.05)).code == "timeout"
    assert len(api.cancels) == 1


# -- a worker that dies, and one that is stopped --------------------------------------------------------------


async def test_the_next_attempt_comes_back_to_the_run_that_was_started(api: RunApi) -> None:
    api.steps = [{"status": "started"}]
    memory = Remembered()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(memory=memory))
    assert memory.value == remembered("run-1"), "no cancel path: the run goes on"
    api.steps = [{"status": "started"}, COMPLETED]
    assert (await made(memory=memory, number=3)).value == {"price": 5}
    assert len(api.starts) == 1
    assert memory.value == remembered("run-1"), "should the worker die now, its successor still finds the result"


@pytest.mark.parametrize(
    "value",
    [
        remembered(itemId="item-4"), remembered(connId="other"), remembered(resultPath="/other/{runId}"),
        remembered(runId=None), {}, {"runId": "run-0"},
    ],
)  # fmt: skip
async def test_a_memory_of_something_else_is_none(api: RunApi, value: dict) -> None:
    await made(memory=Remembered(value))
    assert [request.path for request in api.polls] == ["/run/run-1/result"]


async def test_a_remembered_run_is_asked_for_at_once_and_with_a_time_of_its_own(api: RunApi) -> None:
    before = time.monotonic()
    await made({**FAST, "pollInterval": "1h", "maxPollInterval": "1h"}, memory=Remembered(remembered()), timeout=60)
    assert time.monotonic() - before < SOON
    assert (api.starts, api.polls[0].path) == ([], "/run/run-0/result")


async def test_a_memory_that_cannot_be_read_starts_nothing(api: RunApi) -> None:
    class Broken(Remembered):
        async def recall(self) -> dict[str, Any] | None:
            raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        await made(memory=Broken())
    assert api.starts == []


async def test_a_memory_that_cannot_be_written_costs_no_run(api: RunApi, caplog: pytest.LogCaptureFixture) -> None:
    class Full(Remembered):
        async def remember(self, value: dict[str, Any] | None) -> None:
            raise OSError("disk full")

    assert (await made(memory=Full())).value == {"price": 5}
    assert "The run run-1 could not be remembered: OSError: disk full" in caplog.text
    api.steps = [{"status": "failed"}]
    assert (await error_of(memory=Full())).code == "run-failed"


async def _stopped(api: RunApi, work: Any, at: str = "polled", times: int = 1) -> None:
    """Cancel an attempt, once or more often, when the API has seen a poll (or a start)."""
    task = asyncio.create_task(work)
    await asyncio.wait_for(getattr(api, at).wait(), SOON)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.005)
    await asyncio.wait_for(task, SOON)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_stopped_attempt_cancels_its_run_and_goes_on_stopping(api: RunApi, times: int) -> None:
    api.steps = [{"status": "started"}]
    memory = Remembered()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(CANCELING, memory=memory), times=times)
    assert [request.path for request in api.cancels] == ["/run/run-1/terminate"]
    assert memory.value is None


async def test_a_run_that_could_not_be_canceled_stays_in_memory(api: RunApi, caplog: pytest.LogCaptureFixture) -> None:
    api.steps = [{"status": "started"}]
    api.cancel_answer = answering(500)
    memory = Remembered()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(CANCELING, memory=memory))
    assert memory.value == remembered("run-1")
    assert "The run run-1 could not be canceled: POST /run/run-1/terminate answered 500" in caplog.text


async def test_a_cancel_that_gets_no_answer_holds_nothing_up(api: RunApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_api, "STOP_SECONDS", 0.1)
    api.steps = [{"status": "started"}]
    inner = api.answer

    async def stalling(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("terminate"):
            await asyncio.sleep(2)
        return await inner(request)

    api.server.answer = stalling
    before = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(CANCELING))
    assert time.monotonic() - before < 1


async def test_a_run_whose_start_is_just_being_answered_is_not_lost(api: RunApi) -> None:
    for target, memory in ((CANCELING, Remembered()), (CANCELING, None), (FAST, Remembered())):
        api.may_start.clear()
        api.started.clear()
        asyncio.get_running_loop().call_later(0.05, api.may_start.set)
        with pytest.raises(asyncio.CancelledError):
            await _stopped(api, made(target, memory=memory), at="started", times=2)
        if target is FAST:
            assert memory is not None
            assert memory.value == remembered("run-3")
    assert [request.path for request in api.cancels] == ["/run/run-1/terminate", "/run/run-2/terminate"]
    assert api.polls == []


async def test_a_start_whose_answer_would_serve_nothing_is_hung_up(api: RunApi) -> None:
    api.may_start.clear()
    before = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(), at="started")
    assert time.monotonic() - before < 1
    api.may_start.set()


async def test_a_start_that_is_refused_while_stopping_leaves_nothing_behind(
    api: RunApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.may_start.clear()
    api.start_answer = answering(500)
    asyncio.get_running_loop().call_later(0.05, api.may_start.set)
    memory = Remembered()
    with pytest.raises(asyncio.CancelledError):
        await _stopped(api, made(CANCELING, memory=memory), at="started")
    assert (api.cancels, memory.history) == ([], [])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_signal_that_stops_the_whole_loop_cancels_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker is stopped: a handler raises into whatever is being done, and asyncio cancels what is left."""

    class Stopped(BaseException):
        pass

    class Api(LocalServer):
        def reply(self, request: Received) -> Reply:
            if request.path == "/run/start":
                signal.setitimer(signal.ITIMER_REAL, 0.1)  # the attempt then waits for its first poll
            return Reply(body={"runId": "r", "status": "started"})

    def stop(*_: Any) -> None:
        raise Stopped

    memory = Remembered()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with Api() as api:
            monkeypatch.setenv("AIRFLOW_CONN_API", api.url)
            with pytest.raises(Stopped):
                asyncio.run(made({**CANCELING, "pollInterval": "4s", "maxPollInterval": "4s"}, memory=memory))
            assert [request.path for request in api.ledger.all()] == ["/run/start", "/run/r/terminate"]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert memory.value is None


# -- secrets --------------------------------------------------------------------------------------------------

GRANT = Grant("https://airflow.example/jobs/api/v1/jobs/job/runs/manual__2026%3A/payloads", "tok-hunter2")


async def test_the_run_token_goes_with_the_start_alone_and_only_where_it_is_wanted(api: RunApi) -> None:
    api.steps = [{"status": "started"}]
    await error_of({**CANCELING, "sendRunToken": True}, grant=GRANT, timeout=0.05)
    assert api.starts[0].headers["X-Job-Append-Url"] == GRANT.url
    assert api.starts[0].headers["X-Job-Append-Token"] == "tok-hunter2"
    assert not [r for r in (*api.polls, *api.cancels) if [h for h in r.headers if h.startswith("X-Job-Append")]]
    api.steps = [COMPLETED]
    await made(grant=GRANT)
    await made({**FAST, "sendRunToken": True, "headers": {"x-job-append-token": "forged"}})
    assert not [r for r in api.starts[1:] if [h for h in r.headers if h.lower().startswith("x-job-append")]]


async def test_what_a_run_says_reveals_no_secret(
    api: RunApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("aiohttp.access"), "disabled", True)  # the server's own
    monkeypatch.setenv("AIRFLOW_CONN_API", f"http://me:conn-secret@127.0.0.1:{api.server.port}")
    secrets = ("conn-secret", "head-secret", "proxy-secret", "path-secret", "session-secret", "tok-hunter2")
    echo = {"message": " ".join(secrets), "code": "unexpected", "category": "execution"}
    target = {
        **CANCELING, "sendRunToken": True, "headers": {"X-Key": "head-secret"},
        "cancelPath": "/run/{runId}/terminate?key=path-secret",
    }  # fmt: skip
    fields: dict[str, Any] = {
        "proxy": "me:proxy-secret@p:1",
        "auth_session": {"runtimeInput": {"password": "session-secret"}},
        "grant": GRANT,
    }
    told = []
    for steps in ([{"status": "failed", "error": echo}], [web.Response(status=401, text=json.dumps(echo))]):
        api.steps = list(steps)
        told.append(await error_of(target, **fields))
    api.start_answer = web.Response(status=422, text=json.dumps(echo))
    told.append(await error_of(target, **fields))
    api.start_answer = web.json_response({"runId": "r"})
    api.steps = [{"status": "started"}]
    api.cancel_answer = web.Response(status=500, text=json.dumps(echo))
    await error_of(target, **fields, timeout=0.05)
    assert "could not be canceled" in caplog.text
    assert [error.code for error in told] == ["run-failed", "http-error", "http-error"]
    for secret in secrets:
        assert secret not in f"{[(e.message, e.__context__) for e in told]!r} {caplog.text}"
    assert all("***" in error.message for error in told)


async def test_many_runs_are_followed_at_once(api: RunApi) -> None:
    api.steps = [*[{"status": "started"}] * 60, COMPLETED]
    spec = Job.model_validate({"id": "x", "payload": [{"api": "a"}], "target": FAST}).target
    async with open_target(spec, Limits()) as caller:
        results = await asyncio.gather(*(caller(attempt(item_id=f"item-{n}", timeout=SOON)) for n in range(30)))
    assert [result.value for result in results] == [{"price": 5}] * 30
    assert len(api.starts) == 30
