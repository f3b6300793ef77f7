"""A run's items: the table, which is filtered and paged, and the page of a single one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import items, runs
from airflow_jobs_plugin.control.items import ITEM_STATUSES, ItemView
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.run.items import PAYLOAD
from airflow_jobs_plugin.ui import rights
from airflow_jobs_plugin.ui.pages import At, JobId, Me, RunId, number, render, search_of
from airflow_jobs_plugin.ui.queries import Query

#: Items on a page.
PAGE = 50
router = APIRouter()
Index = Annotated[int, Path(ge=0, le=10_000_000)]


@dataclass(frozen=True)
class Wanted(Query):
    """Which items are asked for."""

    by_default = "index"
    status: Any

    @classmethod
    def of(cls, request: Request) -> Wanted:
        """As a request asks for it."""
        query = request.query_params
        status, sort = query.get("status"), query.get("sort", "index")
        return cls(
            search_of(request),
            sort if sort.removeprefix("-") in items.SORTS else "index",
            number(query.get("page"), 1),
            status if status in ITEM_STATUSES else None,
        )


@dataclass(frozen=True)
class Table:
    """One page of a run's items."""

    rows: list[ItemView]
    total: int
    """How many match."""
    first: int
    """Of this page, counted from 1; 0 if there is none."""
    pages: int


def may_see(can: Iterable[str]) -> bool:
    """Whether whoever has these rights may look at items."""
    return {"see_items", "see_results"} <= set(can)


def table(session: Session, job_id: str, run_id: str, wanted: Wanted) -> Table:
    """The page of items that is asked for. What succeeded comes without its result."""
    chosen = items.Filter(
        wanted.status,
        wanted.q,
        *wanted.order,
        PAGE,
        PAGE * (wanted.page - 1),
        results=False,
    )
    found, total = items.list_items(session, job_id, run_id, chosen)
    return Table(found, total, PAGE * (wanted.page - 1) + 1 if found else 0, max(1, -(-total // PAGE)))


@router.get("/job/{job_id}/run/{run_id}/items")
def list_items(request: Request, me: Me, at: At, job_id: JobId, run_id: RunId) -> Response:
    """The table alone, for a page that is there already."""
    wanted = Wanted.of(request)

    def read(session: Session) -> dict[str, Any]:
        me.must_read_results(session, job_id)
        run = runs.get_run(session, job_id, run_id)
        return {"run": run, "table": table(session, job_id, run_id, wanted)}

    response = render(request, "_items.html", wanted=wanted, job_id=job_id, **transact(read))
    if request.query_params.get("again") is None:
        # The page's address says what it shows, so that it can be kept and sent to others.
        response.headers["HX-Replace-Url"] = at.run(job_id, run_id, **wanted.query())
    return response


@router.get("/job/{job_id}/run/{run_id}/item/{index}")
def show_item(request: Request, me: Me, job_id: JobId, run_id: RunId, index: Index) -> Response:
    """One item: what it was called with, its attempts, what became of it."""

    def read(session: Session) -> dict[str, Any]:
        job = me.must_read_results(session, job_id)
        run = runs.get_run(session, job_id, run_id)
        view, tried = items.examine(session, job_id, run_id, index)
        return {"job": job, "run": run, "item": view, "tried": tried, "can": rights.of_job(me, session, job_id)}

    return render(request, "item.html", task=PAYLOAD, **transact(read))


@router.get("/job/{job_id}/run/{run_id}/item/{index}/result")
def download_result(me: Me, job_id: JobId, run_id: RunId, index: Index) -> Response:
    """The result of one item as a file."""

    def read(session: Session) -> ItemView:
        me.must_read_results(session, job_id)
        return items.get_item(session, job_id, run_id, index)

    outcome = transact(read).outcome or {}
    text = json.dumps(outcome.get("result"), ensure_ascii=False, indent=2)
    headers = {"Content-Disposition": f'attachment; filename="{job_id}-{index}.json"'}
    return Response(text, media_type="application/json", headers=headers)
