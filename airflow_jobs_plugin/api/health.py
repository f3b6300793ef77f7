"""The route of the plugin's health."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.api.errors import documented
from airflow_jobs_plugin.control import health
from airflow_jobs_plugin.control.health import Status
from airflow_jobs_plugin.service.callers import Caller

router = APIRouter(tags=["health"])
Me = Annotated[Caller, Depends(Caller)]


class PartOut(BaseModel):
    """Something that has to work."""

    name: str = Field(description="What it is.", examples=["scheduler"])
    status: Status
    message: str | None = Field(
        default=None, description="What is wrong and what would help; null for whoever is not signed in."
    )


class HealthOut(BaseModel):
    """The plugin's health."""

    status: Status = Field(description="The worst of the parts'.")
    version: str | None = Field(description="The plugin's; null for whoever is not signed in.", examples=["1.0.0"])
    parts: list[PartOut]


@router.get(
    "/health",
    response_model=HealthOut,
    responses={503: {"model": HealthOut, "description": "Unhealthy: no job can run."}, **documented()},
    openapi_extra={"security": [{}, {"token": []}, {"apiKey": []}]},
)
def get_health(me: Me, response: Response) -> HealthOut:
    """Look at what has to work for jobs to run. For probes: needs no token, and then says no more than statuses.

    200 while jobs can run: `healthy`, or `degraded`, which affects some of them. 503 if `unhealthy`.
    """
    parts = health.look()
    status = health.worst(parts)
    response.status_code = 503 if status == "unhealthy" else 200
    response.headers["Cache-Control"] = "no-store"
    known = me.user is not None
    return HealthOut(
        status=status,
        version=__version__ if known else None,
        parts=[PartOut(name=p.name, status=p.status, message=p.message if known else None) for p in parts],
    )
