"""Parameters that several routes take."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.params import Query as QueryParameter

from airflow_jobs_plugin.api.errors import InvalidRequest
from airflow_jobs_plugin.spec.base import did_you_mean

#: What neither databases nor headers can hold.
NO_NUL = r"^[^\x00]*$"

JobId = Annotated[
    str,
    Path(
        alias="jobId",
        description="The job's id, which is its DAG's.",
        pattern="^[a-zA-Z0-9_-]{1,200}$",
        examples=["nightly-prices"],
    ),
]
RunId = Annotated[
    str,
    Path(
        alias="jobRunId",
        description="The run's id, which is its DAG run's.",
        min_length=1,
        max_length=250,
        pattern=NO_NUL,
        examples=["scheduled__2026-11-24T02:00:00+00:00"],
    ),
]
Search = Annotated[str | None, Query(max_length=200, pattern=NO_NUL)]
PageNumber = Annotated[int, Query(alias="pageNumber", ge=1, le=1_000_000, description="From 1.")]


def page_size(description: str) -> Any:
    """The parameter ``pageSize``."""
    return Query(alias="pageSize", ge=1, le=1000, description=description)


def sort_by(known: tuple[str, ...]) -> QueryParameter:
    """The parameter ``sortBy``: one of some names as ``createdAt``, ``-createdAt`` or ``created_at:desc``."""
    names = "|".join(spelling for name in known for spelling in dict.fromkeys((name, _snake(name))))
    parameter: QueryParameter = Query(
        alias="sortBy",
        max_length=40,
        description=f"One of {', '.join(known)}; descending with `-` in front, or `:desc` behind.",
        # For readers only: a wrong name gets an answer that has the nearest right one.
        json_schema_extra={"pattern": f"^-?({names})(:(asc|desc))?$"},
        examples=[f"-{known[1]}"],
    )
    return parameter


def sort_of(written: str, known: tuple[str, ...]) -> tuple[str, bool]:
    """``("createdAt", True)`` of ``-createdAt``, ``created_at:desc`` or ``createdAt:desc``.

    Raises ``InvalidRequest``.
    """
    name, _, direction = written.partition(":")
    descending = name.startswith("-") or direction.lower() == "desc"
    folded = {k.lower(): k for k in known}
    found = folded.get(name.removeprefix("-").replace("_", "").lower())
    if found is None or direction.lower() not in ("", "asc", "desc"):
        raise InvalidRequest([("sortBy", f"unknown order {written!r}{did_you_mean(name, list(known))}")])
    return found, descending


def page_of(size: int | None, number: int) -> tuple[int | None, int]:
    """Limit and offset of a page, numbered from 1."""
    return (size, size * (number - 1)) if size is not None else (None, 0)


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital.group().lower()}", name)


def _by_client(request: Request) -> bool:
    return "workspaceId" in request.path_params


#: Whether the request came by the path of the platform's client, whose models take fewer types than jobs may have.
ForClient = Annotated[bool, Depends(_by_client)]
