"""What the REST API answers. Names and types are those of the platform's published client, snake_case where it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.api.shapes import (
    Answer,
    ConfigurationOut,
    DeliveryOut,
    Instant,
    NotificationOut,
    PayloadItemOut,
    ProxyOut,
    ScheduleOut,
    SinkOut,
    SnapshotOut,
    TargetOut,
    TerminatedOut,
)
from airflow_jobs_plugin.control.items import ItemStatus, ItemView
from airflow_jobs_plugin.control.jobs import JobView, Source, State
from airflow_jobs_plugin.control.runs import RunView, Status
from airflow_jobs_plugin.spec.published import for_client, published

Count = Annotated[int, Field(ge=0)]
Ready = Annotated[
    bool, Field(description="Whether Airflow knows it already; if not, it does within a minute, and can be triggered.")
]


@dataclass(frozen=True)
class Place:
    """What this Airflow is called where the platform has workspaces and projects. Asked for once an answer."""

    workspace: str
    project: str

    @classmethod
    def configured(cls) -> Place:
        """As the configuration says."""
        return cls(settings.text("workspace_id"), settings.text("project_name"))


class JobOut(Answer):
    """A job: its definition in the published form, secrets masked, and what is known of it."""

    id: str = Field(examples=["nightly-prices"])
    workspace_id: str
    project_id: str
    projectId: str = Field(description="The same as project_id.")
    state: State
    source: Source = Field(description="API: created over REST. CODE: a job file, read-only here.")
    location: str = Field(description="Where the definition is, for people.")
    created_at: Instant
    next_run_time: Instant | None = Field(
        description="UTC; null while paused, and for a job that runs on triggers only."
    )
    last_run_time: Instant | None = Field(description="UTC; null for a job that has never run.")
    description: str = Field(
        description="The schedule in words; empty until Airflow knows the job.", examples=["at 02:00, Europe/Berlin"]
    )
    ready: bool = Field(description="Whether Airflow knows the job, so that it can be triggered.")
    configuration: ConfigurationOut
    payload: list[PayloadItemOut]
    schedule: ScheduleOut | None = Field(description="Null: the job runs on triggers only.")
    sink: SinkOut | None = Field(description="Null: results stay in Airflow.")
    target: TargetOut
    proxy: ProxyOut | None
    auth_session: dict[str, Any] | None
    notifications: list[NotificationOut] | None
    etag: str = Field(description="For If-Match.", examples=['"5f8a4c0d9be2f1a7c3d6"'])

    @classmethod
    def of(cls, view: JobView, place: Place, *, client: bool, listed: bool = False) -> JobOut:
        """The published form; ``client``: in the types of the platform's client."""
        definition = published(view.job)
        if client:
            definition = for_client(definition, listed=listed)
        project = place.project
        return cls(
            id=view.id,
            workspace_id=place.workspace,
            project_id=project,
            projectId=project,
            state="PAUSED" if view.paused else "ACTIVE",
            source=view.source,
            location=view.location,
            created_at=instant(view.created_at),
            next_run_time=_instant(view.next_run),
            last_run_time=_instant(view.last_run),
            description=view.summary,
            ready=view.registered,
            etag=view.etag,
            **definition,
        )


class CreatedOut(Answer):
    """A job was created."""

    id: str = Field(examples=["nightly-prices"])
    message: Literal["created"] = "created"
    ready: Ready


class UpdatedOut(Answer):
    """A job was changed."""

    id: str = Field(examples=["nightly-prices"])
    message: Literal["updated job successfully"] = "updated job successfully"
    ready: Ready


class PausedOut(Answer):
    """The job is paused."""

    message: Literal["Paused"] = "Paused"


class ResumedOut(Answer):
    """The job is active."""

    message: Literal["Resumed"] = "Resumed"


class TerminatedRunOut(Answer):
    """The run has ended."""

    message: str = Field(description="Whether this ended it, or it had ended before.", examples=["Terminated"])


class RedeliveredOut(Answer):
    """The run closes again."""

    message: Literal["Redelivering"] = "Redelivering"


class TriggeredOut(Answer):
    """A run was started."""

    jobRunId: str = Field(examples=["manual__2026-11-24T05:02:21.123456+00:00_1f8e9a3c"])
    message: str = Field(
        description="Whether this started it, or an earlier request with the same key.", examples=["Triggered"]
    )


class ReasonOut(Answer):
    """Why a run ended as it did."""

    type: Literal["terminated"] = "terminated"
    message: str
    details: TerminatedOut


class RunErrorOut(Answer):
    """What kept a run from ending well, apart from items that failed."""

    message: str
    code: Literal["internal-server-error"] = "internal-server-error"
    category: Literal["infrastructure"] = "infrastructure"
    details: DeliveryOut | None = Field(default=None, description="Of a delivery that failed.")
    retirable: bool = True


class CountsOut(Answer):
    """Items of a run by what has become of them."""

    total: Count | None = Field(description="Null before the list is fixed.")
    pending: Count
    running: Count
    retrying: Count
    succeeded: Count
    failed: Count
    canceled: Count


class RunOut(Answer):
    """A job run."""

    id: str = Field(examples=["scheduled__2026-11-24T02:00:00+00:00"])
    job_id: str = Field(examples=["nightly-prices"])
    workspace_id: str
    project_id: str
    type: Literal["MANUAL", "SCHEDULED"]
    status: Status
    start_time: Instant = Field(description="UTC; of a run that waits, when it was created.")
    end_time: Instant | None = Field(description="Null until it has ended.")
    created_at: Instant
    updated_at: Instant
    payloads: Count | None = Field(description="How many items; null before the list is fixed.")
    successful_runs: Count | None
    failed_runs: Count | None
    counts: CountsOut
    note: str | None
    triggered_by: str | None = Field(description="The user who did; null for the schedule.")
    delivery: DeliveryOut | None = Field(description="Of a run that has ended, if its job has a sink.")
    error: RunErrorOut | None = None
    reason: ReasonOut | None = Field(default=None, description="Of a run that was terminated.")
    job_configuration_snapshot: SnapshotOut

    @classmethod
    def of(cls, view: RunView, place: Place, snapshot: SnapshotOut) -> RunOut:
        """The published form, with the definition that the run was created from."""
        counts, terminated, delivery = view.counts, view.terminated, view.delivery
        reason = error = None
        if terminated is not None:
            why = f": {terminated['why']}" if terminated.get("why") else ""
            details: TerminatedOut = {
                "by": terminated.get("by"),
                "at": terminated.get("at"),
                "why": terminated.get("why"),
            }
            reason = ReasonOut(message=f"terminated by {details['by']} at {details['at']}{why}", details=details)
        elif delivery is not None and delivery.get("status") == "failed":
            error = RunErrorOut(message=f"the results were not delivered: {delivery.get('message')}", details=delivery)
        elif view.status == "FAILURE" and counts.total is None:
            error = RunErrorOut(message="the plan failed and nothing was called; the log of the task 'plan' says why")
        return cls(
            id=view.id,
            job_id=view.job_id,
            workspace_id=place.workspace,
            project_id=place.project,
            type="MANUAL" if view.manual else "SCHEDULED",
            status=view.status,
            start_time=instant(view.start_time or view.created_at),
            end_time=_instant(view.end_time),
            created_at=instant(view.created_at),
            updated_at=instant(view.updated_at),
            payloads=counts.total,
            successful_runs=counts.succeeded if counts.total is not None else None,
            failed_runs=counts.failed if counts.total is not None else None,
            counts=CountsOut(**counts.__dict__),
            note=view.note,
            triggered_by=view.triggered_by,
            delivery=delivery,
            error=error,
            reason=reason,
            job_configuration_snapshot=snapshot,
        )


class RunsOut(Answer):
    """A page of a job's runs."""

    jobRuns: list[RunOut]
    totalCount: Count = Field(description="How many match, on all pages.")


class RunDetailOut(Answer):
    """One run."""

    jobRun: RunOut
    results: None = Field(default=None, description="Results are streamed by …/results.")


class ItemErrorOut(Answer):
    """Why an item failed."""

    code: str = Field(examples=["http-error"])
    message: str
    statusCode: int | None = Field(description="Of the API's answer, if there was one.", examples=[503])


class ItemOut(Answer):
    """One payload item of a run."""

    index: Count = Field(description="Its place in the run's list, from 0.")
    id: str = Field(description="The Idempotency-Key of its calls.")
    apiName: str = Field(examples=["list-products"])
    parameters: dict[str, Any] = Field(description="Values of sensitive names are masked.")
    status: ItemStatus
    attempts: Count = Field(description="Attempts begun so far.")
    maximumAttempts: Count
    startTime: Instant | None = Field(description="Of the latest attempt.")
    endTime: Instant | None = Field(description="Of the latest attempt.")
    duration: float | None = Field(description="Seconds that the latest attempt took.")
    parent: int | None = Field(description="The index of the item that appended this one.")
    depth: Count = Field(description="How many appends it is away from the run's own list.")
    result: Any = Field(default=None, description="Of an item that succeeded.")
    statusCode: int | None = Field(default=None, description="Of the API's last answer.")
    error: ItemErrorOut | None = None

    @classmethod
    def of(cls, view: ItemView) -> ItemOut:
        """The published form."""
        outcome = view.outcome or {}
        error = None
        if outcome.get("status") == "failed":
            error = ItemErrorOut(
                code=outcome["error"], message=outcome["message"], statusCode=outcome.get("statusCode")
            )
        return cls(
            index=view.index,
            id=view.id,
            apiName=view.api,
            parameters=view.parameters,
            status=view.status,
            attempts=view.attempts,
            maximumAttempts=view.maximum_attempts,
            startTime=_instant(view.start_time),
            endTime=_instant(view.end_time),
            duration=view.duration,
            parent=view.parent,
            depth=view.depth,
            result=outcome.get("result"),
            statusCode=outcome.get("statusCode"),
            error=error,
        )


class NewItemOut(Answer):
    """An item that was appended."""

    index: Count = Field(description="Its place in the run's list, from 0.")
    id: str = Field(description="The Idempotency-Key of its calls.")
    apiName: str = Field(examples=["list-products"])


class AppendedOut(Answer):
    """Items were appended to a run."""

    payloads: list[NewItemOut] = Field(description="The items, in the order in which they were sent.")
    message: str = Field(
        description="Whether this appended them, or an earlier request with the same key.", examples=["Appended"]
    )


class ItemsOut(Answer):
    """A page of a run's items."""

    payloads: list[ItemOut]
    totalCount: Count = Field(description="How many match, on all pages.")


class FaultOut(Answer):
    """One fault of a definition."""

    path: str = Field(description="Where in the definition; empty: as a whole.", examples=["payload[3].retry"])
    message: str = Field(description="What is wrong, and what would be right.")


class ValidationOut(Answer):
    """What a definition would do, or what is wrong with it."""

    valid: bool
    errors: list[FaultOut]
    description: str | None = Field(default=None, description="The job in one line; null if it is not valid.")
    nextRunTimes: list[Instant] = Field(default_factory=list, description="Up to ten, UTC, without jitter.")


class PreviewOut(Answer):
    """When a schedule fires."""

    description: str = Field(examples=["every 7 days and on day 1 of every month at 00:00, Europe/Berlin"])
    timezone: str = Field(examples=["Europe/Berlin"])
    runTimes: list[Instant] = Field(description="UTC, without jitter.")


def instant(when: datetime) -> str:
    """ISO 8601 in UTC."""
    text = _instant(when)
    if text is None:
        raise ValueError("no instant")
    return text


def _instant(when: datetime | None) -> str | None:
    if when is None:
        return None
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
