"""Routes of a run's items and their results: listed, looked at, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from airflow_jobs_plugin.api.errors import documented
from airflow_jobs_plugin.api.examples import FILE, LINE, ROWS
from airflow_jobs_plugin.api.models import ItemOut, ItemsOut
from airflow_jobs_plugin.api.parameters import JobId, PageNumber, RunId, Search, page_of, page_size, sort_by, sort_of
from airflow_jobs_plugin.control import items, runs
from airflow_jobs_plugin.control.items import ItemStatus
from airflow_jobs_plugin.control.transactions import reading, transact
from airflow_jobs_plugin.service import results
from airflow_jobs_plugin.service.callers import Caller

router = APIRouter(tags=["runs"])
Me = Annotated[Caller, Depends(Caller)]


@router.get("/jobs/{jobId}/runs/{jobRunId}/payloads", response_model=ItemsOut, responses=documented(404))
def list_items(
    me: Me,
    job_id: JobId,
    run_id: RunId,
    status: Annotated[ItemStatus | None, Query(description="Only these.")] = None,
    search: Annotated[Search, Query(description="Part of the API's name or the parameters.")] = None,
    size: Annotated[int, page_size("Items on a page.")] = 100,
    number: PageNumber = 1,
    order: Annotated[str, sort_by(items.SORTS)] = "index",
) -> ItemsOut:
    """List a run's items with status, attempts, timing, and result or error."""
    sort, descending = sort_of(order, items.SORTS)
    limit, offset = page_of(size, number)

    def read(session: Session) -> ItemsOut:
        me.must_read_results(session, job_id)
        wanted = items.Filter(status, search, sort, descending, limit or 0, offset)
        found, total = items.list_items(session, job_id, run_id, wanted)
        return ItemsOut(payloads=[ItemOut.of(view) for view in found], totalCount=total)

    return transact(read)


@router.get("/jobs/{jobId}/runs/{jobRunId}/payloads/{index}", response_model=ItemOut, responses=documented(404))
def get_item(
    me: Me,
    job_id: JobId,
    run_id: RunId,
    index: Annotated[int, Path(ge=0, description="The item's place in the run's list, from 0.", examples=[0])],
) -> ItemOut:
    """Look at one item of a run."""

    def read(session: Session) -> ItemOut:
        me.must_read_results(session, job_id)
        return ItemOut.of(items.get_item(session, job_id, run_id, index))

    return transact(read)


@router.get(
    "/jobs/{jobId}/runs/{jobRunId}/results",
    response_class=StreamingResponse,
    responses={
        **documented(404),
        200: {
            "description": "One line per item that has ended, in index order.",
            "headers": FILE,
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}, "example": LINE},
                "text/csv": {"schema": {"type": "string"}, "example": ROWS},
            },
        },
    },
)
def stream_results(
    me: Me,
    job_id: JobId,
    run_id: RunId,
    format: Annotated[Literal["jsonl", "csv"], Query(description="JSON Lines, or comma-separated values.")] = "jsonl",
) -> StreamingResponse:
    """Stream a run's results: as JSON Lines, each as a sink sends it, or as CSV."""
    return results.streamed(me, job_id, run_id, format)


@router.get("/jobs/{jobId}/runs/{jobRunId}/outcomes/counts", include_in_schema=False)
def count_outcomes(me: Me, job_id: JobId, run_id: RunId) -> dict[str, int]:
    """For the task that closes a run: whether every item has ended, and how many succeeded."""

    def read(session: Session) -> dict[str, int]:
        me.must_close(session, job_id, run_id)
        counts = runs.get_run(session, job_id, run_id).counts
        still = counts.pending + counts.running + counts.retrying
        return {"total": counts.total or 0, "succeeded": counts.succeeded, "open": still}

    return transact(read)


@router.get("/jobs/{jobId}/runs/{jobRunId}/outcomes", include_in_schema=False)
def stream_outcomes(me: Me, job_id: JobId, run_id: RunId) -> StreamingResponse:
    """For the task that closes a run: the outcome of every item, a line each, and an empty line at the end."""

    def allowed(session: Session) -> None:
        me.must_close(session, job_id, run_id)

    transact(allowed)

    def lines() -> Iterator[str]:
        with reading() as session:
            for brought in items.outcomes(session, job_id, run_id):
                yield json.dumps(brought) + "\n"
        yield "\n"

    return StreamingResponse(results.in_pieces(lines()), media_type="application/x-ndjson")
