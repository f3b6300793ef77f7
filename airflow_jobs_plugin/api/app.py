"""The REST API as one app, which Airflow's API server mounts."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.api import docs, document, errors, health, items, jobs, runs
from airflow_jobs_plugin.api.access import Authenticated

#: Where Airflow mounts the app, and where its routes are below that.
MOUNT = "/jobs"
ROOT = "/api/v1"
#: The same routes, for clients that know workspaces and projects. Both names are taken as they come: an Airflow is one.
PLATFORM = ROOT + "/workspace/{workspaceId}/projects/{projectName}"

DESCRIPTION = """
Jobs of this Airflow: created, changed, paused, triggered, watched and terminated.

Send an Airflow access token as `Authorization: Bearer …` or as `x-api-key`; a browser's session cookie works from
Airflow's own pages. What a caller may do is decided by Airflow's auth manager, job by job.

Every error has the same body: a short `code` that stays the same, a `message` for people, and in `details` each fault
with its place. Secrets go in and never come out: where one is stored, answers show `***`.

The same routes answer under `/api/v1/workspace/{workspaceId}/projects/{projectName}`, whatever the two names are, for
the platform's published client. There, values are in the types of that client: whole seconds, a proxy that is a URL,
and the time-out of every item.
"""


def create_app() -> FastAPI:
    """The app."""
    app = FastAPI(
        title="Jobs", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None, openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    routes = APIRouter()
    routes.include_router(jobs.router)
    routes.include_router(runs.router)
    routes.include_router(items.router)
    routes.include_router(health.router)
    app.include_router(routes, prefix=ROOT)
    app.include_router(routes, prefix=PLATFORM, include_in_schema=False)
    app.add_middleware(Authenticated)
    errors.install(app)

    @cache
    def described() -> dict[str, Any]:
        return document.openapi(app)

    def served(request: Request) -> dict[str, Any]:
        # Where this request reached it: Airflow may be below a path of its own.
        return {**described(), "servers": [{"url": request.scope.get("root_path", "").rstrip("/") or "/"}]}

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> JSONResponse:
        return JSONResponse(served(request))

    @app.get("/docs", include_in_schema=False)
    def documentation(request: Request) -> HTMLResponse:
        return HTMLResponse(docs.page(served(request)), headers=docs.HEADERS)

    app.openapi = lambda: {**described(), "servers": [{"url": MOUNT}]}  # type: ignore[method-assign]
    return app
