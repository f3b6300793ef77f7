"""What answers are made of: their base, and the parts of a definition as ``spec.published`` makes them.

They are typed for the OpenAPI document. Fields that a definition does not have are left out, hence ``NotRequired``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    with_config,
)
from pydantic_core import core_schema

# Below Python 3.12 pydantic takes no other.
from typing_extensions import TypedDict

from airflow_jobs_plugin.spec.sinks import SINK_TYPES

#: Texts of instants. They are made here and not read again.
Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Milliseconds = Annotated[int, Field(description="Milliseconds.")]
Seconds = Annotated[int | float, Field(description="Seconds.")]
Headers = Annotated[dict[str, str], Field(description="Names only; the values are masked.")]
MonthName = Literal[
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE",
    "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER",
]  # fmt: skip
DayName = Literal["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"]


class Answer(BaseModel):
    """Base of whole answers: every field is always there, those with a default as well."""

    model_config = ConfigDict(populate_by_name=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        resolved = handler.resolve_ref_schema(found)
        resolved["required"] = list(resolved["properties"])
        return found


# A field that is missing here shows undocumented rather than not at all.
@with_config(ConfigDict(extra="allow"))
class _Shape(TypedDict):
    pass


class RetryOut(_Shape):
    """A retry policy; of an item: what it sets itself."""

    maximumAttempts: NotRequired[Annotated[int, Field(description="The first one included.")]]
    initialInterval: NotRequired[Milliseconds]
    maximumInterval: NotRequired[Milliseconds]
    backoffCoefficient: NotRequired[float]


class ConfigurationOut(_Shape):
    """How a job runs its items."""

    retry: NotRequired[RetryOut]
    maxConcurrentRequests: NotRequired[int]
    requestTimeout: NotRequired[Seconds]
    itemsPerTask: NotRequired[int]
    maxRuns: NotRequired[int]
    toleratedFailurePercentage: NotRequired[float]
    proxy: NotRequired[str]


class PayloadItemOut(_Shape):
    """One API with its parameters."""

    apiName: str
    parameters: dict[str, Any]
    retry: NotRequired[RetryOut]
    requestTimeout: NotRequired[Seconds]


class IntervalOut(_Shape):
    """The instants k · every + offset since the Unix epoch."""

    every: Milliseconds
    offset: NotRequired[Milliseconds]


class RangeOut(_Shape):
    """Every step-th value from start to end, both included."""

    start: int
    end: int
    step: NotRequired[int]


class MonthsOut(_Shape):
    """A range of months."""

    start: MonthName
    end: MonthName
    step: NotRequired[int]


class DaysOut(_Shape):
    """A range of days of the week."""

    start: DayName
    end: DayName
    step: NotRequired[int]


Numbers = Literal["*"] | int | RangeOut | list[int]


class CalendarOut(_Shape):
    """Instants at which the clock shows these fields, all of them. `*` matches everything."""

    year: Numbers
    month: Literal["*"] | MonthName | MonthsOut | list[MonthName]
    dayOfMonth: Numbers
    dayOfWeek: Literal["*"] | DayName | DaysOut | list[DayName]
    hour: Numbers
    minute: Numbers
    second: Numbers
    comment: NotRequired[str]


class ScheduleOut(_Shape):
    """When a job runs: the union of intervals and calendars, less skip."""

    intervals: NotRequired[list[IntervalOut]]
    calendars: NotRequired[list[CalendarOut]]
    skip: NotRequired[list[CalendarOut]]
    timezone: str
    jitter: NotRequired[Milliseconds]
    startAt: NotRequired[Instant]
    endAt: NotRequired[Instant]


class _SinkOut(_Shape):
    skipOnFail: bool
    apisToSend: NotRequired[list[str]]
    delivery: Literal["run", "payload"]


class WebhookSinkOut(_SinkOut):
    """A POST to a URL. Its query, headers and secret are masked."""

    type: Literal["webhook"]
    url: str
    headers: Headers
    secret: NotRequired[Annotated[str, Field(description="Masked.")]]


class S3SinkOut(_SinkOut):
    """Objects in a bucket."""

    type: Literal["s3"]
    bucket: str
    region: NotRequired[str]
    connId: NotRequired[str]
    accessKeyId: NotRequired[Annotated[str, Field(description="Masked.")]]
    secretAccessKey: NotRequired[Annotated[str, Field(description="Masked.")]]
    key: NotRequired[str]
    prefix: NotRequired[str]
    endpoint: NotRequired[str]
    forcePathStyle: NotRequired[bool]
    format: Literal["json", "jsonl"]


class PluginSinkOut(_SinkOut):
    """A sink of a type that another distribution brings, with fields of its own. Secrets are masked by their names."""

    type: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": list(SINK_TYPES)}})]


class HttpTargetOut(_Shape):
    """Calls through an HTTP connection."""

    type: Literal["http"]
    connId: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    parametersAs: NotRequired[Literal["json", "query", "form"]]
    headers: Headers
    sendRunToken: bool


class RunApiTargetOut(_Shape):
    """An API that starts a run and is polled until the run ends."""

    type: Literal["run-api"]
    connId: str
    startPath: str
    resultPath: str
    cancelPath: NotRequired[str]
    pollInterval: Milliseconds
    maxPollInterval: Milliseconds
    headers: Headers
    sendRunToken: bool


class PythonTargetOut(_Shape):
    """Python functions."""

    type: Literal["python"]
    module: NotRequired[str]


SinkOut = Annotated[
    Annotated[WebhookSinkOut, Tag("webhook")]
    | Annotated[S3SinkOut, Tag("s3")]
    | Annotated[PluginSinkOut, Tag("plug-in")],
    Discriminator(lambda sink: sink["type"] if sink["type"] in SINK_TYPES else "plug-in"),
]
TargetOut = Annotated[HttpTargetOut | RunApiTargetOut | PythonTargetOut, Field(discriminator="type")]
ProxyOut = Annotated[str | dict[str, Any], Field(description="As it was written, without credentials.")]


class NotificationOut(_Shape):
    """Passed on to targets that know it."""

    type: str
    url: str
    headers: Headers


class SnapshotOut(_Shape):
    """What of a job's definition is shown with a run: as it was when the run was created."""

    configuration: ConfigurationOut
    sink: NotRequired[SinkOut | None]
    proxy: NotRequired[ProxyOut | None]
    auth_session: NotRequired[dict[str, Any] | None]
    notifications: NotRequired[list[NotificationOut] | None]


class DeliveryOut(_Shape):
    """What became of the delivery of a run's results."""

    status: Annotated[
        Literal["delivered", "failed", "retrying"], Field(description="`retrying`: it failed so far, and goes on.")
    ]
    to: NotRequired[Annotated[str, Field(description="Where to, without secrets.")]]
    statusCode: NotRequired[int | None]
    message: NotRequired[Annotated[str, Field(description="Why it failed.")]]
    tries: NotRequired[int]
    nextTry: NotRequired[Annotated[Instant, Field(description="When it is tried again.")]]
    payloads: NotRequired[Annotated[int, Field(description="Of a delivery item by item: how many there are.")]]
    delivered: NotRequired[Annotated[int, Field(description="How many of them arrived.")]]
    refused: NotRequired[
        Annotated[int, Field(description="How many of them were refused for good, each for a reason of its own.")]
    ]
    bytes: NotRequired[int]


class TerminatedOut(_Shape):
    """Who ended a run, when, and why."""

    by: str | None
    at: Instant | None
    why: str | None
