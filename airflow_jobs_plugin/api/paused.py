"""A paused job starts no new run, not by Airflow's own routes either.

Airflow accepts triggers of a paused DAG and runs them after the un-pausing. For a job that is a refusal: an ASGI
middleware answers these requests in Airflow's place when they would start a run of a paused job.

====================================================  =========================================================
``POST /api/v2/dags/{dag_id}/dagRuns``                the UI's trigger form and REST clients; 409
``POST /api/v2/backfills``                            its DAG is in the body; 409
``POST /api/v2/assets/{asset_id}/materialize``        runs the one DAG that has the asset as an outlet; 409
``POST /execution/dag-runs/{dag_id}/{run_id}``        ``TriggerDagRunOperator``; 400, see below
====================================================  =========================================================

These are all that create a run in Airflow 3.3.2. Looked at and left alone:

- ``/ui``: none creates a run; the UI uses the routes above. ``/api/v2/backfills/dry_run`` creates none.
- ``POST /api/v2/assets/events``, and outlets of tasks: the scheduler creates these runs, and of DAGs that are not
  paused only; a job is not scheduled by assets anyway.
- Existing runs (``…/clear``, ``clearDagRuns``, ``clearTaskInstances``, PATCH of a state, un-pausing a backfill,
  ``/execution/…/clear``): no run is new, and the scheduler lets none of a paused DAG go on.

To a task a 409 says that the run exists: the task would be skipped under ``skip_when_already_exists``, or clear a run
that is not there under ``reset_dag_run``. A 400 is what Airflow answers itself where a DAG takes no such runs; the
task fails, and its log has the reason.

Whom Airflow would turn away is passed on to it, so that nobody learns of a job who may not trigger it.

No HTTP, so not seen here: ``airflow dags trigger`` and ``airflow backfill create``. Airflow loads no middleware of
plugins in an API server that serves ``--apps execution`` alone; triggers by tasks go through there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import Request, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds to wait for an un-pausing. The UI's forms have "Unpause … on trigger" ticked; they send the trigger and
#: the un-pausing in the same instant, the trigger first.
GRACE = 1.0
CHECK_EVERY = 0.1

#: Longest body of a backfill, in bytes. What is longer cannot be judged and is refused: its ``dag_run_conf`` would be
#: copied into every run.
MAX_BODY = 4 * 1024 * 1024

# As Starlette matches: against the decoded path below the API's root. A final slash is a redirect or a 405 today.
_ROUTES = re.compile(
    r"/api/v2/(?:dags/(?P<dag_id>[^/]+)/dagRuns|(?P<backfills>backfills)|assets/(?P<asset_id>[^/]+)/materialize)/?$"
    r"|/execution/dag-runs/(?P<target_dag_id>[^/]+)/[^/]+/?$"
)


class PausedJobs:
    """ASGI middleware that refuses to start runs of paused jobs. For ``fastapi_root_middlewares``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (route := match(scope)) is not None:
            refusal, receive = await _judge(route, scope, receive)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def match(scope: Scope) -> re.Match[str] | None:
    """Return which of the routes a POST is for; None for all others."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return _ROUTES.match(path, len(root) if path.startswith(f"{root}/") else 0)


async def _judge(route: re.Match[str], scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
    """Return a refusal, or None to let the request pass, and the channel on which its body can be read."""
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    request = Request(scope)
    if dag_id := route["target_dag_id"]:
        # No grace: nobody is at a form.
        if await _is_task(request) and await run_in_threadpool(_is_paused, dag_id):
            return _answer(400, {"reason": "paused", "message": _reason(dag_id)}), receive
        return None, receive

    # Before the body is read, and before anything is looked up: strangers cost next to nothing.
    user = await _user(request)
    if user is None:
        return None, receive
    dag_id = route["dag_id"]
    if route["backfills"]:
        body, receive = await _read(receive)
        if len(body) > MAX_BODY:
            return _answer(413, f"The body of a backfill may have {MAX_BODY} bytes; this one has more."), receive
        dag_id = _named_in(body)
    elif route["asset_id"]:
        dag_id = await run_in_threadpool(_producer, route["asset_id"], user)
    if dag_id and await run_in_threadpool(_may_trigger, dag_id, user) and await _stays_paused(dag_id):
        return _answer(409, _reason(dag_id)), receive
    return None, receive


def _reason(dag_id: str) -> str:
    return f"The job '{dag_id}' is paused and starts no new run; resume it first, or have the trigger form unpause it."


def _answer(status: int, detail: Any) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"detail": detail}, status)


# -- who asks ------------------------------------------------------------------------------------------


async def _user(request: Request) -> BaseUser | None:
    """The user whom Airflow's routes would see; None where they would answer 401 or 403."""
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import HTTPException

    from airflow_jobs_plugin.service.callers import beside_the_loop

    try:
        bearer = await bearer_scheme(request)
        return await beside_the_loop(lambda: get_user(request, None, bearer))
    except HTTPException:
        return None


def _may_trigger(dag_id: str, user: BaseUser) -> bool:
    """Whether Airflow's routes would let the user start runs of this DAG."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.utils.session import create_session

    from airflow_jobs_plugin.control import pausing

    with create_session(scoped=False) as session:
        team = pausing.team_of(dag_id, session)
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=DagDetails(id=dag_id, team_name=team), user=user
    )


async def _is_task(request: Request) -> bool:
    """Whether the request carries a task's token that the execution API would accept for starting a run.

    A task may start runs of any DAG, so there is no more to check.
    """
    import svcs
    from airflow.api_fastapi.auth.tokens import JWTValidator
    from airflow.api_fastapi.execution_api.app import lifespan
    from airflow.api_fastapi.execution_api.security import JWTBearer
    from fastapi import HTTPException

    if JWTValidator not in lifespan.registry:
        return False  # this server has no execution API
    try:
        async with svcs.Container(lifespan.registry) as services:
            # Leaves what it found in the scope, where Airflow's own check looks first.
            token = await JWTBearer()(request, services)
    except HTTPException:
        return False
    return token is not None and token.claims.scope == "execution"


# -- what it is about ----------------------------------------------------------------------------------


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Return the body, or its beginning once it is too long, and a channel that has all of it again."""
    messages: deque[Message] = deque()
    body = bytearray()
    more = True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        more = message.get("more_body", False)  # also ends with a disconnect

    async def again() -> Message:
        return messages.popleft() if messages else await receive()

    return bytes(body), again


def _named_in(body: bytes) -> str | None:
    """The DAG that a backfill is for; None where the body is not what Airflow accepts, which will say so."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    dag_id = content.get("dag_id") if isinstance(content, dict) else None
    return dag_id if isinstance(dag_id, str) else None


def _producer(asset_id: str, user: BaseUser) -> str | None:
    """The DAG that materializes an asset, if the user may ask for that."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import AssetDetails
    from airflow.utils.session import create_session
    from pydantic import TypeAdapter, ValidationError

    from airflow_jobs_plugin.control import pausing

    try:
        # As the route reads it: " 1" and "1.0" are the asset 1.
        number = TypeAdapter(int).validate_python(asset_id)
    except ValidationError:
        return None
    if not get_auth_manager().is_authorized_asset(method="POST", details=AssetDetails(id=asset_id), user=user):
        return None
    with create_session(scoped=False) as session:
        return pausing.producer_of(number, session)


def _is_paused(dag_id: str) -> bool:
    from airflow.utils.session import create_session

    from airflow_jobs_plugin.control import pausing

    with create_session(scoped=False) as session:
        return pausing.is_paused_job(dag_id, session)


async def _stays_paused(dag_id: str) -> bool:
    """Whether a DAG is a paused job, and still is when the grace is over."""
    from starlette.concurrency import run_in_threadpool

    for _ in range(round(GRACE / CHECK_EVERY)):
        if not await run_in_threadpool(_is_paused, dag_id):
            return False
        await asyncio.sleep(CHECK_EVERY)
    return await run_in_threadpool(_is_paused, dag_id)
