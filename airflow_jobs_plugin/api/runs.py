"""Routes of runs: trigger, list, look at, terminate, items and results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from sqlalchemy.orm import Session

from airflow_jobs_plugin.api.document import RUN_TOKEN, definition_of
from airflow_jobs_plugin.api.errors import InvalidRequest, documented
from airflow_jobs_plugin.api.examples import APPENDS, TERMINATIONS, TRIGGERS
from airflow_jobs_plugin.api.models import (
    AppendedOut,
    NewItemOut,
    Place,
    RedeliveredOut,
    RunDetailOut,
    RunOut,
    RunsOut,
    TerminatedRunOut,
    TriggeredOut,
)
from airflow_jobs_plugin.api.parameters import (
    NO_NUL,
    ForClient,
    JobId,
    PageNumber,
    RunId,
    page_of,
    page_size,
    sort_by,
    sort_of,
)
from airflow_jobs_plugin.api.shapes import SnapshotOut
from airflow_jobs_plugin.control import jobs as jobs_control
from airflow_jobs_plugin.control import runs
from airflow_jobs_plugin.control.appending import Appended
from airflow_jobs_plugin.control.runs import RunView, Status
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.callers import Caller
from airflow_jobs_plugin.spec.base import integral
from airflow_jobs_plugin.spec.published import for_client, published

router = APIRouter(tags=["runs"])
Me = Annotated[Caller, Depends(Caller)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=250,
        description="The same key does it once only, however often it is sent.",
    ),
]
Note = Annotated[str, Field(max_length=1000, pattern=NO_NUL)] | None


class TriggerIn(BaseModel):
    """What a trigger may bring."""

    model_config = ConfigDict(extra="forbid")
    payload: list[Annotated[Any, definition_of("PayloadItem")]] | None = Field(
        default=None, min_length=1, description="Replaces the job's own list for this run."
    )
    note: Note = Field(default=None, description="For people; shown with the run.")


@router.post("/jobs/{jobId}/trigger", response_model=TriggeredOut, responses=documented(400, 404, 409, 415))
def trigger_job(
    me: Me,
    job_id: JobId,
    body: Annotated[TriggerIn | None, Body(openapi_examples=TRIGGERS)] = None,
    idempotency_key: IdempotencyKey = None,
) -> TriggeredOut:
    """Start a run now, whatever the schedule. Refused while the job is paused."""
    asked = body or TriggerIn()
    run_id, new = operations.trigger(me, job_id, asked.payload, asked.note, idempotency_key)
    return TriggeredOut(jobRunId=run_id, message="Triggered" if new else "Triggered before with this Idempotency-Key")


@router.get("/jobs/{jobId}/runs", response_model=RunsOut, responses=documented(404))
def list_runs(
    me: Me,
    client: ForClient,
    job_id: JobId,
    status: Annotated[Status | None, Query(description="Only these.")] = None,
    type: Annotated[Literal["MANUAL", "SCHEDULED"] | None, Query(description="Only these.")] = None,
    size: Annotated[int, page_size("Runs on a page.")] = 20,
    number: PageNumber = 1,
    order: Annotated[str, sort_by(runs.SORTS)] = "-createdAt",
) -> RunsOut:
    """List a job's runs with their status and counts, the newest first."""
    sort, descending = sort_of(order, runs.SORTS)

    def read(session: Session) -> RunsOut:
        me.must(session, "GET", job_id, "RUN")
        limit, offset = page_of(size, number)
        found, total = runs.list_runs(
            session,
            job_id,
            limit=limit or 0,
            offset=offset,
            sort=sort,
            descending=descending,
            status=status,
            manual=None if type is None else type == "MANUAL",
        )
        if not total:
            jobs_control.get_job(session, job_id)
        return RunsOut(jobRuns=_shown(session, found, client), totalCount=total)

    return transact(read)


@router.get("/jobs/{jobId}/runs/{jobRunId}", response_model=RunDetailOut, responses=documented(404))
def get_run(me: Me, client: ForClient, job_id: JobId, run_id: RunId) -> RunDetailOut:
    """Look at a run: its status and counts as they are now."""

    def read(session: Session) -> RunDetailOut:
        me.must(session, "GET", job_id, "RUN")
        jobs_control.get_job(session, job_id)
        (shown,) = _shown(session, [runs.get_run(session, job_id, run_id)], client)
        return RunDetailOut(jobRun=shown)

    return transact(read)


class TerminateIn(BaseModel):
    """What terminating a run may bring."""

    model_config = ConfigDict(extra="forbid")
    reason: Note = Field(default=None, description="Shown with the run.")


@router.post(
    "/jobs/{jobId}/runs/{jobRunId}/terminate", response_model=TerminatedRunOut, responses=documented(400, 404, 415)
)
def terminate_run(
    me: Me,
    job_id: JobId,
    run_id: RunId,
    body: Annotated[TerminateIn | None, Body(openapi_examples=TERMINATIONS)] = None,
) -> TerminatedRunOut:
    """End a run now: calls in flight are canceled, what waits never starts. A run that has ended stays as it is.

    Of a run whose results are being delivered anew, that alone is ended: the run is what it was judged before, and can
    be delivered anew again.
    """
    done = operations.terminate(me, job_id, run_id, body.reason if body else None)
    messages = {
        "run": "Terminated",
        "redelivery": "The redelivery was ended; the run is what it was before",
        None: "The run had ended already; nothing was changed",
    }
    return TerminatedRunOut(message=messages[done])


@router.post(
    "/jobs/{jobId}/runs/{jobRunId}/redeliver", response_model=RedeliveredOut, responses=documented(404, 409, 415)
)
def redeliver_run(me: Me, job_id: JobId, run_id: RunId) -> RedeliveredOut:
    """Deliver the results of a run that has ended once more, with the sink as the job has it now.

    No API is called. What had failed goes out under the id that it had, and of a run that delivers item by item only
    what is still owed; what had been delivered goes out as a new message. The run closes again: it is PENDING until
    it is known what has become of it.
    """
    operations.redeliver(me, job_id, run_id)
    return RedeliveredOut()


class AppendIn(BaseModel):
    """Items for a run that is in progress."""

    model_config = ConfigDict(extra="forbid")
    payload: list[Annotated[Any, definition_of("PayloadItem")]] = Field(min_length=1, description="The items.")
    parent: Annotated[int, Strict(), Field(ge=0), BeforeValidator(integral)] | None = Field(
        default=None, description="Index of the item that they come from; with a run token it is the token's."
    )


@router.post(
    "/jobs/{jobId}/runs/{jobRunId}/payloads",
    response_model=AppendedOut,
    responses=documented(400, 404, 409, 415),
    openapi_extra={"security": [{"token": []}, {"apiKey": []}, {RUN_TOKEN: []}]},
)
async def append_items(
    me: Me,
    job_id: JobId,
    run_id: RunId,
    body: Annotated[AppendIn, Body(openapi_examples=APPENDS)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Append items to a run that is in progress: all or none. They run in it and are delivered with it.

    The same Idempotency-Key again answers as the first time and appends nothing. Refused once the run has begun to
    close. A run token, which calls bring along where the job's target says `sendRunToken`, is good for this route of
    its run, and for nothing else.
    """
    permit = me.permit
    if permit is not None and body.parent not in (None, permit.index):
        raise InvalidRequest([("parent", f"this run token is of item {permit.index}; leave the parent out")])
    done = await operations.append(me, job_id, run_id, body.payload, parent=body.parent, key=idempotency_key)
    return await run_in_threadpool(_appended, done)


def _appended(done: Appended) -> Response:
    """The answer, written here and not by FastAPI, which would do it between all other requests: it may be long."""
    added = zip(done.indexes, done.ids, done.apis, strict=True)
    answer = AppendedOut(
        payloads=[NewItemOut(index=index, id=item, apiName=api) for index, item, api in added],
        message="Appended" if done.new else "Appended before with this Idempotency-Key",
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _shown(session: Session, found: list[RunView], client: bool) -> list[RunOut]:
    versions = jobs_control.definition_of_version(session, (view.version for view in found))
    snapshots = {version: _snapshot(definition, client) for version, definition in versions.items()}
    place = Place.configured()
    return [RunOut.of(view, place, snapshots.get(view.version, {"configuration": {}})) for view in found]


def _snapshot(definition: dict[str, Any], client: bool) -> SnapshotOut:
    """What of a definition the platform shows with a run."""
    whole = published(jobs_control.outline(definition))
    if client:
        whole = for_client(whole, listed=True)
    return {
        "configuration": whole["configuration"],
        "sink": whole["sink"],
        "auth_session": whole["auth_session"],
        "proxy": whole["proxy"],
        "notifications": whole["notifications"],
    }
