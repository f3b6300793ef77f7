"""Authentication of the REST API: an ASGI middleware asks who it is before anything of a request is read, so that no
route can forget it; each route then checks the caller's rights on the very job (``service.callers``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request

from airflow_jobs_plugin import fields
from airflow_jobs_plugin.api.errors import answer
from airflow_jobs_plugin.control import tokens
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.run.tokens import CLOSING, PREFIX
from airflow_jobs_plugin.service.callers import SAFE, body_fault, identify

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: The routes that take run tokens, whatever comes before; the second one only those of the task that closes the run.
_APPENDS = re.compile(r"/jobs/[^/]+/runs/[^/]+/payloads$")
_OUTCOMES = re.compile(r"/jobs/[^/]+/runs/[^/]+/outcomes(/counts)?$")
#: The one route that tells something to whoever asks.
_HEALTH = re.compile(r"/api/v1(/workspace/[^/]+/projects/[^/]+)?/health$")
#: The job and the run that a request is about.
_ABOUT = re.compile(r"/jobs/(?P<job_id>[^/]+)(?:/runs/(?P<run_id>[^/]+))?")


class Authenticated:
    """ASGI middleware: lets requests of known users pass, and none that another site made with a user's cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        with fields.bound(**_about(scope)):
            refusal = _unreadable(request) or await _identify(request)
            await (refusal or self.app)(scope, receive, send)


def _about(scope: Scope) -> dict[str, str]:
    """Of which job and run a request's lines in the log are, as far as its path says so."""
    # Below where Airflow mounts it, which has the same name as the routes of jobs.
    found = _ABOUT.search(scope["path"].removeprefix(scope.get("root_path", "")))
    return {name: value[:250] for name, value in found.groupdict().items() if value} if found else {}


async def _identify(request: Request) -> Any:
    from fastapi.concurrency import run_in_threadpool

    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip().startswith(PREFIX):
        return await run_in_threadpool(_permit, request, credentials.strip())
    request.state.permit = None
    is_probe = request.method in SAFE and _HEALTH.search(request.scope["path"]) is not None
    request.state.job_user = None
    if is_probe and not credentials and "x-api-key" not in request.headers and not request.cookies:
        return None
    try:
        request.state.job_user = await identify(request)
    except HTTPException as error:
        return answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    except Exception:
        # Who asks is in the database, too, and that it does not answer is what a probe is to hear.
        if not is_probe:
            raise
    return None


def _permit(request: Request, token: str) -> Any:
    permit = transact(lambda session: tokens.permit_of(session, token))
    if permit is None:
        return answer(401, "this run token is not valid, or its time is over", headers={"WWW-Authenticate": "Bearer"})
    path = request.scope["path"]
    appends = request.method == "POST" and _APPENDS.search(path) and permit.index >= 0
    closes = request.method == "GET" and _OUTCOMES.search(path) and permit.own and permit.index == CLOSING
    if not appends and not closes:
        return answer(403, "a run token is good for appending to its run, and for nothing else")
    request.state.permit, request.state.job_user = permit, None
    return None


def _unreadable(request: Request) -> Any:
    if fault := body_fault(request):
        return answer(*fault)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = int(request.headers.get("content-length") or 0) > 0
    if request.method not in SAFE and has_body and kind != "application/json" and not kind.endswith("+json"):
        return answer(415, "the body should be JSON, with 'Content-Type: application/json'")
    return None
