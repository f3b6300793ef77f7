"""What every request of a page goes through: who asks, whether they mean it, and what a browser may do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders

from airflow_jobs_plugin.service.callers import SAFE, body_fault, identify, same_site
from airflow_jobs_plugin.ui import assets
from airflow_jobs_plugin.ui.errors import page
from airflow_jobs_plugin.ui.pages import HEADERS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORM = "application/x-www-form-urlencoded"


class Guarded:
    """ASGI middleware: lets requests of known users pass, and of what changes something only own pages' forms."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        app = self.app
        request.state.job_user = request.state.permit = None
        if not _public(scope):
            try:
                _must_be_readable(request)
                request.state.job_user = await identify(request)
            except HTTPException as error:
                app = page(request, error.status_code, str(error.detail))
        await app(scope, receive, guarded)


def _public(scope: Scope) -> bool:
    below = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in SAFE and below.startswith(assets.PREFIX)


def _must_be_readable(request: Request) -> None:
    if fault := body_fault(request):
        raise HTTPException(*fault)
    if request.method in SAFE:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise HTTPException(415, "only the forms of these pages can be sent here")
    # With a token as well: where every visitor is an admin, Airflow gives one to each request that has none, and
    # unlike the JSON of the REST API a form is something that any site can have a browser send.
    if not same_site(request):
        raise HTTPException(403, "this has to come from one of these pages")
