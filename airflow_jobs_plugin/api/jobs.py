"""Routes of jobs: create, read, change, delete, pause, resume, and what would be of a definition or a schedule."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, WithJsonSchema
from sqlalchemy.orm import Session

from airflow_jobs_plugin.api.document import definition_of
from airflow_jobs_plugin.api.errors import InvalidRequest, documented
from airflow_jobs_plugin.api.examples import CHANGES, DELETED, ETAG, EXAMPLES, LOCATION, PREVIEWS, TOTAL
from airflow_jobs_plugin.api.models import (
    CreatedOut,
    FaultOut,
    JobOut,
    PausedOut,
    Place,
    PreviewOut,
    ResumedOut,
    UpdatedOut,
    ValidationOut,
    instant,
)
from airflow_jobs_plugin.api.parameters import (
    ForClient,
    JobId,
    PageNumber,
    Search,
    page_of,
    page_size,
    sort_by,
    sort_of,
)
from airflow_jobs_plugin.control import definitions
from airflow_jobs_plugin.control import jobs as views
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.jobs import JobView, Source, State
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.factory import summary
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.callers import Caller
from airflow_jobs_plugin.spec import Schedule, explain
from airflow_jobs_plugin.spec.base import integral
from airflow_jobs_plugin.spec.faults import dotted, quoted
from timetables.description import describe
from timetables.recurrence import upcoming

router = APIRouter(tags=["jobs"])
Me = Annotated[Caller, Depends(Caller)]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="An ETag, or `*`: do it only if the job is still that one.")
]


@router.get(
    "/jobs",
    response_model=list[JobOut],
    responses={
        200: {
            "description": "The jobs of this page.",
            "headers": TOTAL,
        },
        **documented(),
    },
)
def list_jobs(
    me: Me,
    client: ForClient,
    response: Response,
    search: Annotated[Search, Query(description="Part of the id.")] = None,
    state: Annotated[State | None, Query(description="Only these.")] = None,
    source: Annotated[Source | None, Query(description="Only these. CODE: of job files.")] = None,
    size: Annotated[int | None, page_size("Default: all jobs.")] = None,
    number: PageNumber = 1,
    order: Annotated[str, sort_by(views.SORTS)] = "id",
) -> list[JobOut]:
    """List the jobs that the caller may read. `X-Total-Count` has their number on all pages."""
    sort, descending = sort_of(order, views.SORTS)

    def read(session: Session) -> tuple[list[JobView], int]:
        wanted = views.Filter(me.readable(session), search, state, source, sort, descending, *page_of(size, number))
        return views.list_jobs(session, wanted)

    found, total = transact(read)
    response.headers["X-Total-Count"] = str(total)
    place = Place.configured()
    return [JobOut.of(view, place, client=client, listed=True) for view in found]


@router.post(
    "/jobs",
    status_code=201,
    response_model=CreatedOut,
    responses={
        201: {
            "description": "The job was created.",
            "headers": {**ETAG, **LOCATION},
        },
        **documented(400, 409, 415),
    },
)
def create_job(
    me: Me,
    definition: Annotated[dict[str, Any], definition_of("NewJob"), Body(openapi_examples=EXAMPLES)],
    response: Response,
) -> CreatedOut:
    """Create a job. It can be triggered when the answer says `ready`."""
    view = operations.create_job(me, definition)
    response.headers["ETag"] = view.etag
    response.headers["Location"] = f"jobs/{view.id}"
    return CreatedOut(id=view.id, ready=view.registered)


@router.post("/jobs/validate", response_model=ValidationOut, responses=documented(400, 415))
def validate_job(
    me: Me,
    definition: Annotated[
        dict[str, Any],
        WithJsonSchema({"type": "object", "description": "A job definition, right or wrong."}),
        Body(openapi_examples=EXAMPLES),
    ],
) -> ValidationOut:
    """Say what a definition would do, or everything that is wrong with it. Nothing is stored."""
    try:
        job = definitions.check(definition)
    except InvalidDefinition as error:
        faults = [FaultOut(path=dotted(fault.path), message=fault.message) for fault in error.faults]
        return ValidationOut(valid=False, errors=faults)
    times = [] if job.schedule is None else _times(job.schedule, datetime.now(UTC), 10)
    return ValidationOut(valid=True, errors=[], description=summary(job), nextRunTimes=times)


@router.get(
    "/jobs/{jobId}",
    response_model=JobOut,
    responses={200: {"description": "The job.", "headers": ETAG}, **documented(404)},
)
def get_job(me: Me, client: ForClient, job_id: JobId, response: Response) -> JobOut:
    """Read a job. Secrets are masked; the ETag changes with the definition."""

    def read(session: Session) -> JobView:
        me.must(session, "GET", job_id)
        return definitions.written(session, job_id)

    view = transact(read)
    response.headers["ETag"] = view.etag
    return JobOut.of(view, Place.configured(), client=client)


@router.put(
    "/jobs/{jobId}",
    response_model=UpdatedOut,
    responses={
        200: {"description": "The job was changed.", "headers": ETAG},
        **documented(400, 404, 409, 412, 415),
    },
)
def update_job(
    me: Me,
    job_id: JobId,
    definition: Annotated[dict[str, Any], definition_of("Job"), Body(openapi_examples=CHANGES)],
    response: Response,
    if_match: IfMatch = None,
) -> UpdatedOut:
    """Replace a job's definition. Runs that have started keep theirs.

    A value that reads `***` stands for the stored secret, unless it would be sent to another place than before. An
    `id` in the body has to be the one in the path.
    """
    if definition.get("id", job_id) != job_id:
        raise InvalidRequest([("id", f"is not the id in the path, {job_id!r}; a job keeps its id")])
    view = operations.update_job(me, job_id, definition, if_match)
    response.headers["ETag"] = view.etag
    return UpdatedOut(id=job_id, ready=view.registered)


@router.delete(
    "/jobs/{jobId}",
    status_code=204,
    response_model=None,
    responses={
        204: {
            "description": "The job is gone.",
            "headers": DELETED,
        },
        **documented(404, 409, 412, 415),
    },
)
def delete_job(
    me: Me,
    job_id: JobId,
    if_match: IfMatch = None,
    force: Annotated[bool, Query(description="Terminate active runs instead of refusing.")] = False,
) -> Response:
    """Delete a job together with the history of its runs. Refused while runs are active, unless forced."""
    runs = operations.delete_job(me, job_id, force=force, if_match=if_match)
    return Response(status_code=204, headers={"X-Deleted-Runs": str(runs)})


@router.post("/jobs/{jobId}/pause", response_model=PausedOut, responses=documented(404, 415))
def pause_job(me: Me, job_id: JobId) -> PausedOut:
    """Pause a job: no new run, item or retry starts; calls in flight finish and keep their results."""
    operations.set_paused(me, job_id, True)
    return PausedOut()


@router.post("/jobs/{jobId}/resume", response_model=ResumedOut, responses=documented(404, 415))
def resume_job(me: Me, job_id: JobId) -> ResumedOut:
    """Resume a job: its runs go on where they were, the schedule with the next run time to come."""
    operations.set_paused(me, job_id, False)
    return ResumedOut()


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("should be a text such as 2026-03-01T09:00:00Z")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a date and time such as 2026-03-01T09:00:00Z") from None
    if not 1900 <= found.year <= 2200:
        raise ValueError("should be in one of the years 1900 to 2200")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class PreviewIn(BaseModel):
    """A schedule to look at."""

    model_config = ConfigDict(extra="forbid")
    schedule: Annotated[dict[str, Any], definition_of("Schedule")]
    after: Annotated[datetime, BeforeValidator(_instant)] | None = Field(
        default=None,
        description="Run times strictly after this, years 1900 to 2200; default: now. Without an offset it is UTC.",
    )
    count: Annotated[int, Strict(), Field(ge=1, le=1000), BeforeValidator(integral)] = Field(
        default=10, description="At most so many."
    )


@router.post("/schedules/preview", response_model=PreviewOut, tags=["schedules"], responses=documented(400, 415))
def preview_schedule(me: Me, preview: Annotated[PreviewIn, Body(openapi_examples=PREVIEWS)]) -> PreviewOut:
    """Say a schedule in words, and its next run times."""
    try:
        schedule = Schedule.model_validate(preview.schedule)
    except ValidationError as error:
        faults = explain(error)
        raise InvalidDefinition([type(fault)(("schedule", *fault.path), fault.message) for fault in faults]) from None
    after = preview.after or datetime.now(UTC)
    return PreviewOut(
        description=describe(schedule), timezone=schedule.timezone, runTimes=_times(schedule, after, preview.count)
    )


def _times(schedule: Schedule, after: datetime, count: int) -> list[str]:
    return [instant(when) for when in itertools.islice(upcoming(schedule, after), count)]
