"""The platform's published client, unchanged, against a real Airflow. Its models check every answer by themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from intuned_client import AsyncIntunedClient, IntunedClient, models
from intuned_client.exceptions import ApiError, AuthenticationError, NotFoundError, ValidationError
from intuned_client.jobs import JobsService
from pydantic import BaseModel

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from .conftest import Api, Jobs, token

pytestmark = pytest.mark.e2e

PROJECT = "any-project"
WEEKDAYS = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"]
PYTHON: dict[str, Any] = {
    "payload": [{"apiName": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}],
    "configuration": {},
    "target": {"type": "python"},
}


@pytest.fixture(scope="module")
def url(strict: httpx.Client) -> str:
    # Where everybody is an admin, a key that is not looked at would do.
    return f"{str(strict.base_url).rstrip('/')}/jobs/api/v1/workspace"


def client_of(url: str, key: str | None) -> IntunedClient:
    http = httpx.Client(timeout=60, trust_env=False)
    return IntunedClient(api_key=key, workspace_id=str(uuid.uuid4()), base_url=url, client=http)


@pytest.fixture(scope="module")
def client(url: str, airflow: AirflowStack) -> Iterator[IntunedClient]:
    with client_of(url, airflow.token()) as client:
        yield client


@pytest.fixture(scope="module")
def service(client: IntunedClient) -> JobsService:
    return client.projects.jobs


def created(client: IntunedClient, job_id: str, **definition: Any) -> models.JobsGetResponse:
    body = models.JobsCreateRequestBody.model_validate({"id": job_id, **PYTHON, **definition})
    answer = client.projects.jobs.create(project_name=PROJECT, body=body)
    assert (answer.id, answer.message) == (job_id, "created")
    return client.projects.jobs.get(project_name=PROJECT, job_id=job_id)


def listed(service: JobsService, job_id: str) -> models.JobsListResponseValueItem:
    (found,) = [job for job in service.list(project_name=PROJECT) if job.id == job_id]
    return found


def run_of(client: IntunedClient, job_id: str, run_id: str) -> models.JobsRunsGetResponseJobRun:
    return client.projects.jobs.runs.get(project_name=PROJECT, job_id=job_id, job_run_id=run_id).job_run


def written(value: Any) -> Any:
    """What the client's models hold, as JSON; a plain dict would mean that they did not recognize it."""
    assert isinstance(value, BaseModel)
    return value.model_dump(by_alias=True, exclude_none=True)


def refused(error: ApiError, status: int, code: str, category: str) -> dict[str, Any]:
    """The error's body, which is the platform's."""
    assert error.status_code == status
    body: dict[str, Any] = error.body
    assert set(body) == {"code", "category", "message", "details", "correlationId", "retirable"}
    assert (body["code"], body["category"]) == (code, category)
    assert uuid.UUID(body["correlationId"])
    assert body["message"]
    return body


def test_the_life_of_a_job(
    client: IntunedClient, service: JobsService, airflow: AirflowStack, receiver: WebhookReceiver, jobs: Jobs
) -> None:
    job_id = "client-life"
    started = datetime.now(UTC)
    job = created(
        client,
        job_id,
        payload=[
            {"apiName": "echo", "parameters": {"page": 1}},
            {"apiName": "fail", "parameters": {"status": 503}, "retry": {"maximumAttempts": 1}, "requestTimeout": 30},
        ],
        target={"type": "http"},
        configuration={
            "retry": {"maximumAttempts": 2, "initialInterval": "1s"}, "maxConcurrentRequests": 2, "requestTimeout": 60,
            "maxRuns": 10, "toleratedFailurePercentage": 50,
        },
        schedule={
            "calendars": [{"year": 2099, "dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}, "hour": 9}],
            "intervals": [{"every": "7d"}, {"every": 86_400_000}],
            "jitter": "30s",
        },
        sink={"type": "webhook", "url": f"{receiver.url}/client?key=hidden", "headers": {"X-Key": "hidden"}},
    )  # fmt: skip
    assert (job.id, job.state, job.project_id, job.last_run_time) == (job_id, "ACTIVE", "default", None)
    assert job.next_run_time is not None
    assert datetime.fromisoformat(job.next_run_time) > started
    assert abs(datetime.fromisoformat(job.created_at) - started).total_seconds() < 60
    assert job.configuration.retry is not None
    assert written(job.configuration.retry) == {
        "maximumAttempts": 2, "initialInterval": 1000, "backoffCoefficient": 1.0,
    }  # fmt: skip
    assert job.configuration.max_concurrent_requests == 2
    assert (job.configuration.request_timeout, job.configuration.max_runs) == (60, 10)
    assert job.payload is not None
    # The client writes its default of 600 seconds into every item that has none.
    assert [written(item) for item in job.payload] == [
        {"apiName": "echo", "parameters": {"page": 1}, "requestTimeout": 600},
        {"apiName": "fail", "parameters": {"status": 503}, "requestTimeout": 30, "retry": {"maximumAttempts": 1}},
    ]
    assert written(job.schedule) == {
        "jitter": 30_000,
        "timezone": "UTC",
        "intervals": [{"every": 604_800_000, "offset": 0}, {"every": 86_400_000, "offset": 0}],
        "calendars": [
            {
                "year": 2099, "month": "*", "dayOfMonth": "*", "dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"},
                "hour": 9, "minute": 0, "second": 0,
            }
        ],
    }  # fmt: skip
    assert isinstance(job.sink, models.JobsGetResponseSinkWebhookSinkConfiguration)
    assert (job.sink.url, job.sink.headers) == (f"{receiver.url}/client?key=***", {"X-Key": "***"})

    seen = listed(service, job_id)
    assert (seen.source, seen.state, seen.workspace_id) == ("API", "ACTIVE", "airflow")
    assert [written(item) for item in seen.payload] == [written(item) for item in job.payload]
    assert written(seen.schedule) == written(job.schedule)
    assert written(seen.configuration) == written(job.configuration)
    assert written(seen.sink) == written(job.sink)

    # As a client edits a job: what it has read, with one change; secrets are kept.
    body = {
        "payload": [written(item) for item in job.payload],
        "configuration": {**written(job.configuration), "maxConcurrentRequests": 1},
        "sink": written(job.sink),
        "target": {"type": "http"},
    }
    changed = service.update(
        project_name=PROJECT, job_id=job_id, body=models.JobsUpdateRequestBody.model_validate(body)
    )
    assert (changed.id, changed.message) == (job_id, "updated job successfully")
    job = service.get(project_name=PROJECT, job_id=job_id)
    assert (job.configuration.max_concurrent_requests, job.schedule, job.next_run_time) == (1, None, None)

    assert service.pause(project_name=PROJECT, job_id=job_id).message == "Paused"
    assert listed(service, job_id).state == "PAUSED"
    with pytest.raises(ValidationError) as caught:
        service.trigger(project_name=PROJECT, job_id=job_id)
    body = refused(caught.value, 409, "job-paused", "conflict")
    assert (body["retirable"], body["details"]) == (True, [])
    assert service.resume(project_name=PROJECT, job_id=job_id).message == "Resumed"

    triggered = service.trigger(project_name=PROJECT, job_id=job_id)
    assert triggered.message == "Triggered"
    first = triggered.job_run_id

    def ended() -> Any:
        run = run_of(client, job_id, first)
        assert run.status in ("PENDING", "COMPLETED")
        return run if run.end_time else None

    run: models.JobsRunsGetResponseJobRun = airflow.client.wait_until("the run to end", ended, 90)
    assert (run.status, run.type, run.job_id, run.workspace_id) == ("COMPLETED", "MANUAL", job_id, "airflow")
    assert (run.payloads, run.successful_runs, run.failed_runs) == (2, 1, 1)
    assert (run.error, run.reason) == (None, None)
    assert run.end_time is not None
    times = [datetime.fromisoformat(t) for t in (run.created_at, run.start_time, run.end_time, run.updated_at)]
    assert times[0] <= times[1] <= times[2]
    snapshot = run.job_configuration_snapshot
    assert snapshot.configuration.max_concurrent_requests == 1
    assert isinstance(
        snapshot.sink, models.JobsRunsGetResponseJobRunJobConfigurationSnapshotSinkWebhookSinkConfiguration
    )
    (delivery,) = jobs.delivered(job_id)
    assert (delivery.path, delivery.headers["x-key"]) == ("/client?key=hidden", "hidden")
    assert service.get(project_name=PROJECT, job_id=job_id).last_run_time is not None

    others = [service.trigger(project_name=PROJECT, job_id=job_id).job_run_id for _ in range(2)]
    pages = [
        client.projects.jobs.runs.list(project_name=PROJECT, job_id=job_id, **query)
        for query in ({}, {"page_size": "2"}, {"page_size": "2", "page_number": "2"}, {"page_number": "9"})
    ]
    assert [page.total_count for page in pages] == [3] * 4
    newest = [others[1], others[0], first]
    assert [[run.id for run in page.job_runs] for page in pages] == [newest, newest[:2], newest[2:], []]
    for order, expected in (
        ("createdAt", newest[::-1]), ("-createdAt", newest), ("created_at", newest[::-1]), ("created_at:desc", newest),
    ):  # fmt: skip
        page = client.projects.jobs.runs.list(project_name=PROJECT, job_id=job_id, sort_by=order)
        assert [run.id for run in page.job_runs] == expected, order
    with pytest.raises(ValidationError) as caught:
        client.projects.jobs.runs.list(project_name=PROJECT, job_id=job_id, sort_by="createdOn")
    body = refused(caught.value, 422, "invalid", "validation")
    assert body["details"] == [
        {"path": "sortBy", "message": "unknown order 'createdOn'; did you mean 'createdAt'?"}
    ]  # fmt: skip

    for run_id in others:
        airflow.client.wait_until("the run to end", lambda run_id=run_id: run_of(client, job_id, run_id).end_time, 90)
    assert service.delete(project_name=PROJECT, job_id=job_id) is None
    with pytest.raises(NotFoundError) as missing:
        service.get(project_name=PROJECT, job_id=job_id)
    refused(missing.value, 404, "job-not-found", "not-found")
    assert job_id not in [job.id for job in service.list(project_name=PROJECT)]


def test_terminating_a_run(client: IntunedClient, service: JobsService, airflow: AirflowStack, api: Api) -> None:
    job_id = "client-doomed"
    created(client, job_id, payload=[{"apiName": "slow", "parameters": {"seconds": 120}}], target={"type": "http"})
    run_id = service.trigger(project_name=PROJECT, job_id=job_id).job_run_id
    airflow.client.wait_until("the call", lambda: api.calls(job_id), 60)
    run = run_of(client, job_id, run_id)
    assert (run.status, run.payloads, run.end_time) == ("PENDING", 1, None)
    with pytest.raises(ValidationError) as caught:
        service.delete(project_name=PROJECT, job_id=job_id)
    refused(caught.value, 409, "job-has-active-runs", "conflict")

    terminate = client.projects.jobs.runs.terminate
    assert terminate(project_name=PROJECT, job_id=job_id, job_run_id=run_id).message == "Terminated"
    again = terminate(project_name=PROJECT, job_id=job_id, job_run_id=run_id)
    assert again.message == "The run had ended already; nothing was changed"
    run = run_of(client, job_id, run_id)
    assert run.status == "TERMINATED"
    assert run.end_time is not None
    assert run.reason is not None
    assert run.reason.type == "terminated"
    assert run.reason.details["by"] in run.reason.message
    service.delete(project_name=PROJECT, job_id=job_id)


def numbers(high: int, low: int = 0) -> list[tuple[Any, Any]]:
    return [
        ("*", "*"),
        (low + 1, low + 1),
        ({"start": low}, low),
        ({"start": low, "end": high}, "*"),
        ({"start": low, "end": low + 4}, {"start": low, "end": low + 4}),
        ({"start": low, "step": 2, "end": low + 5}, {"start": low, "step": 2, "end": low + 4}),
        ([low, low + 1, low + 6], [low, low + 1, low + 6]),
        (
            [low + 9, {"start": low, "end": low + 1}, {"start": low + 3, "step": 2, "end": low + 5}],
            [low, low + 1, low + 3, low + 5, low + 9],
        ),
    ]


CALENDARS: dict[str, list[tuple[Any, Any]]] = {
    "second": numbers(59),
    "minute": numbers(59),
    "hour": numbers(23),
    "dayOfMonth": numbers(31, 1),
    "year": numbers(2100, 2000),
    "dayOfWeek": [
        ("*", "*"),
        *((name, name) for name in WEEKDAYS),
        ({"start": "SUNDAY", "end": "SATURDAY"}, "*"),
        ({"start": "TUESDAY"}, "TUESDAY"),
        ({"start": "MONDAY", "end": "FRIDAY"}, {"start": "MONDAY", "end": "FRIDAY"}),
        ({"start": "SUNDAY", "step": 2, "end": "FRIDAY"}, {"start": "SUNDAY", "step": 2, "end": "THURSDAY"}),
        (["SATURDAY", {"start": "MONDAY", "end": "TUESDAY"}], ["MONDAY", "TUESDAY", "SATURDAY"]),
    ],
    "month": [
        ("*", "*"),
        *((name, name) for name in ("JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY")),
        *((name, name) for name in ("AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER")),
        ({"start": "JANUARY", "step": 3, "end": "DECEMBER"}, {"start": "JANUARY", "step": 3, "end": "OCTOBER"}),
        ({"start": "MAY", "end": "JULY"}, {"start": "MAY", "end": "JULY"}),
        (["DECEMBER", {"start": "MARCH", "step": 2, "end": "MAY"}], ["MARCH", "MAY", "DECEMBER"]),
    ],
}


def test_every_kind_of_calendar_value(client: IntunedClient, service: JobsService) -> None:
    cases = [(field, given, shown) for field, values in CALENDARS.items() for given, shown in values]
    given = [{"year": 2099, "comment": f"case {n}", field: value} for n, (field, value, _) in enumerate(cases)]
    job_id = "client-calendars"
    job = created(client, job_id, schedule={"calendars": given})
    omitted = {
        "year": 2099, "month": "*", "dayOfMonth": "*", "dayOfWeek": "*", "hour": 0, "minute": 0, "second": 0,
    }  # fmt: skip
    expected = [{**omitted, "comment": f"case {n}", field: shown} for n, (field, _, shown) in enumerate(cases)]
    for schedule in (job.schedule, listed(service, job_id).schedule):
        assert schedule is not None
        assert schedule.calendars is not None
        assert [written(calendar) for calendar in schedule.calendars] == expected
    # A long schedule has a description all the same, and Airflow has room for it.
    description = service.get(project_name=PROJECT, job_id=job_id).model_extra["description"]
    assert f" and {len(cases) - 20} more, UTC" in description
    assert len(description) <= 1000
    # What was read is what may be written.
    body = {**PYTHON, "schedule": written(job.schedule)}
    service.update(project_name=PROJECT, job_id=job_id, body=models.JobsUpdateRequestBody.model_validate(body))
    assert service.get(project_name=PROJECT, job_id=job_id).schedule == job.schedule
    service.delete(project_name=PROJECT, job_id=job_id)


def test_jobs_of_files_that_say_more_than_the_client_knows(
    client: IntunedClient, service: JobsService, jobs: Jobs, rest: httpx.Client
) -> None:
    job_id = "client-file"
    definition: dict[str, Any] = {
        "payload": [
            {"api": "acme_jobs:add", "parameters": {"a": 1, "b": 2}, "request_timeout": 1.5},
            {"api": "acme_jobs:add", "parameters": {"a": 1, "b": 3}, "retry": {"initialInterval": "2s"}},
        ],
        "configuration": {"requestTimeout": 0.25, "retry": {"maximumAttempts": 4}, "itemsPerTask": 1},
        "schedule": {
            "calendars": [{"dayOfWeek": ["mon", 5], "month": "feb", "dayOfMonth": "3"}],
            "skip": [{"month": 12}],
            "timezone": "Europe/Berlin",
            "startAt": "2098-01-01",
        },
        "target": {"type": "python"},
        "proxy": {"version": "v1", "url": "http://user:hidden@proxy.example:3128"},
        "auth_session": {"note": "without an id", "checkAttempts": "often"},
        "notifications": [
            {"type": "pager", "url": "https://example.com/pager"},
            {"type": "webhook", "url": "https://example.com/hook", "headers": {"X-Key": "hidden"}},
        ],
    }
    jobs.write(job_id, **definition)
    job, seen = service.get(project_name=PROJECT, job_id=job_id), listed(service, job_id)
    assert seen.source == "CODE"
    for payload in (job.payload, seen.payload):
        assert [(i.request_timeout, i.retry and i.retry.maximum_attempts) for i in payload or []] == [(2, None), (1, 4)]
    assert job.configuration.request_timeout == seen.configuration.request_timeout == 1
    assert job.schedule is not None
    assert seen.schedule is not None
    assert written(job.schedule) == written(seen.schedule)
    (calendar,) = job.schedule.calendars or []
    assert (calendar.day_of_week, calendar.month, calendar.day_of_month) == (["MONDAY", "FRIDAY"], "FEBRUARY", 3)
    assert job.proxy == "http://***@proxy.example:3128"
    assert written(seen.proxy) == {"version": "v1", "url": job.proxy}
    assert (job.auth_session, seen.auth_session) == (None, None)
    assert [written(notification) for notification in seen.notifications or []] == [
        {"type": "webhook", "url": "https://example.com/hook", "headers": {"X-Key": "***"}}
    ]

    # Those who know no workspaces see what was written.
    exact = rest.get(f"/jobs/{job_id}").json()
    assert exact == next(job for job in rest.get("/jobs").json() if job["id"] == job_id)
    assert [item.get("requestTimeout") for item in exact["payload"]] == [1.5, None]
    assert exact["configuration"]["requestTimeout"] == 0.25
    assert exact["proxy"] == {"version": "v1", "url": "http://***@proxy.example:3128"}
    assert exact["auth_session"] == definition["auth_session"]
    assert [notification["type"] for notification in exact["notifications"]] == ["pager", "webhook"]

    run_id = service.trigger(project_name=PROJECT, job_id=job_id).job_run_id
    snapshot = run_of(client, job_id, run_id).job_configuration_snapshot
    assert (snapshot.configuration.request_timeout, snapshot.auth_session) == (1, None)
    assert snapshot.proxy is not None
    assert snapshot.proxy.url == "http://***@proxy.example:3128"
    for refusal in (
        lambda: service.delete(project_name=PROJECT, job_id=job_id),
        lambda: service.update(
            project_name=PROJECT, job_id=job_id, body=models.JobsUpdateRequestBody.model_validate(PYTHON)
        ),
    ):
        with pytest.raises(ValidationError) as caught:
            refusal()
        refused(caught.value, 409, "job-is-code", "conflict")


def test_what_the_client_knows_beside_the_payload(client: IntunedClient, service: JobsService) -> None:
    job_id = "client-session"
    job = created(
        client,
        job_id,
        proxy="http://user:hidden@proxy.example:3128",
        auth_session={"id": "shop", "checkAttempts": 5, "createAttempts": 2, "saveTrace": True},
        notifications=[{"type": "webhook", "url": "https://example.com/hook", "headers": {"X-Key": "hidden"}}],
        configuration={"retry": {"maximumAttempts": 7, "maximumInterval": "1m", "backoffCoefficient": 1.5}},
        sink={"type": "webhook", "url": "https://example.com/x", "skipOnFail": True, "apisToSend": ["acme_jobs:add"]},
    )
    assert job.proxy == "http://***@proxy.example:3128"
    assert written(job.auth_session) == {"id": "shop", "checkAttempts": 5, "createAttempts": 2, "saveTrace": True}
    assert isinstance(job.sink, models.JobsGetResponseSinkWebhookSinkConfiguration)
    assert (job.sink.skip_on_fail, job.sink.apis_to_send) == (True, ["acme_jobs:add"])
    seen = listed(service, job_id)
    assert written(seen.proxy) == {"version": "v1", "url": "http://***@proxy.example:3128"}
    assert written(seen.auth_session) == written(job.auth_session)
    assert seen.configuration.retry is not None
    assert written(seen.configuration.retry) == {
        "maximumAttempts": 7, "initialInterval": 0, "maximumInterval": 60_000, "backoffCoefficient": 1.5,
    }  # fmt: skip
    service.delete(project_name=PROJECT, job_id=job_id)


def test_what_is_not_there(client: IntunedClient, service: JobsService) -> None:
    runs = client.projects.jobs.runs
    body = models.JobsUpdateRequestBody.model_validate(PYTHON)
    for call in (
        lambda: service.get(project_name=PROJECT, job_id="nowhere"),
        lambda: service.update(project_name=PROJECT, job_id="nowhere", body=body),
        lambda: service.delete(project_name=PROJECT, job_id="nowhere"),
        lambda: service.pause(project_name=PROJECT, job_id="nowhere"),
        lambda: service.resume(project_name=PROJECT, job_id="nowhere"),
        lambda: service.trigger(project_name=PROJECT, job_id="nowhere"),
        lambda: runs.list(project_name=PROJECT, job_id="nowhere"),
        lambda: runs.get(project_name=PROJECT, job_id="nowhere", job_run_id="x"),
        lambda: runs.terminate(project_name=PROJECT, job_id="nowhere", job_run_id="x"),
    ):
        with pytest.raises(NotFoundError) as caught:
            call()
        assert "'nowhere'" in refused(caught.value, 404, "job-not-found", "not-found")["message"]
    created(client, "client-runless")
    assert len(runs.list(project_name=PROJECT, job_id="client-runless")) == 0
    for run_id in ("manual__nothing", "../../jobs", "a b/c?d", "ü"):
        with pytest.raises(NotFoundError) as caught:
            runs.get(project_name=PROJECT, job_id="client-runless", job_run_id=run_id)
        assert caught.value.body["category"] == "not-found"
    service.delete(project_name=PROJECT, job_id="client-runless")


def test_a_definition_that_is_wrong(client: IntunedClient, service: JobsService) -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"payload": []}, "payload", "at least 1 item"),
        ({"configuration": {"retry": {"maximumAttempts": 0}}}, "configuration.retry.maximumAttempts", "greater than"),
        ({"configuration": {"retries": 3}}, "configuration.retries", "did you mean 'retry'"),
        ({"schedule": {"intervals": [{"every": "0s"}]}}, "schedule.intervals[0].every", "1000 ms"),
        ({"schedule": {"calendars": [{"hour": 24}]}}, "schedule.calendars[0].hour", "out of bounds"),
        ({"sink": {"type": "webhook", "url": "nowhere"}}, "sink.url", "absolute URL"),
        ({"id": "no spaces"}, "id", "is not a job id"),
    ]
    for change, path, message in wrong:
        body = models.JobsCreateRequestBody.model_validate({"id": "client-wrong", **PYTHON, **change})
        with pytest.raises(ValidationError) as caught:
            service.create(project_name=PROJECT, body=body)
        error = refused(caught.value, 422, "invalid-definition", "validation")
        assert [detail["path"] for detail in error["details"]] == [path]
        assert message in error["details"][0]["message"]
        assert not error["retirable"]
    with pytest.raises(NotFoundError):
        service.get(project_name=PROJECT, job_id="client-wrong")

    s3 = {"type": "s3", "bucket": "Results", "region": "eu-1", "accessKeyId": "hidden-1", "secretAccessKey": "hidden-2"}
    body = models.JobsCreateRequestBody.model_validate({"id": "client-wrong", **PYTHON, "sink": s3})
    with pytest.raises(ValidationError) as caught:
        service.create(project_name=PROJECT, body=body)
    error = refused(caught.value, 422, "invalid-definition", "validation")
    assert error["details"][0]["path"] == "sink.bucket"
    assert "hidden" not in str(error)

    created(client, "client-twice")
    with pytest.raises(ValidationError) as caught:
        created(client, "client-twice")
    refused(caught.value, 409, "job-exists", "conflict")
    service.delete(project_name=PROJECT, job_id="client-twice")


def test_who_is_nobody_and_who_may_not(url: str, airflow: AirflowStack) -> None:
    expired = token(airflow, role="ADMIN", exp=datetime(2026, 1, 1, tzinfo=UTC))
    for key in (None, "not-a-token", expired, token(airflow, aud="somebody-else", role="ADMIN")):
        with client_of(url, key) as nobody, pytest.raises(AuthenticationError) as caught:
            nobody.projects.jobs.list(project_name=PROJECT)
        refused(caught.value, 401, "not-authenticated", "authentication")
    with client_of(url, token(airflow, role="VIEWER")) as viewer:
        assert isinstance(viewer.projects.jobs.list(project_name=PROJECT), list)
        with pytest.raises(AuthenticationError) as caught:
            created(viewer, "client-forbidden")
        refused(caught.value, 403, "not-authorized", "authorization")


async def test_the_asynchronous_client(url: str, airflow: AirflowStack) -> None:
    job_id = "client-async"
    http = httpx.AsyncClient(timeout=60, trust_env=False)
    workspace = str(uuid.uuid4())
    async with AsyncIntunedClient(
        api_key=airflow.token(), workspace_id=workspace, base_url=url, client=http
    ) as client, http:  # fmt: skip
        service = client.projects.jobs
        body = models.JobsCreateRequestBody.model_validate({"id": job_id, **PYTHON})
        assert (await service.create(project_name=PROJECT, body=body)).message == "created"
        assert (await service.get(project_name=PROJECT, job_id=job_id)).state == "ACTIVE"
        assert job_id in [job.id for job in await service.list(project_name=PROJECT)]
        run_id = (await service.trigger(project_name=PROJECT, job_id=job_id)).job_run_id
        runs = await service.runs.list(project_name=PROJECT, job_id=job_id)
        assert ([run.id for run in runs.job_runs], runs.total_count) == ([run_id], 1)
        assert (await service.runs.terminate(project_name=PROJECT, job_id=job_id, job_run_id=run_id)).message
        run = (await service.runs.get(project_name=PROJECT, job_id=job_id, job_run_id=run_id)).job_run
        assert run.status in ("TERMINATED", "CANCELED", "SUCCESS")
        await service.delete(project_name=PROJECT, job_id=job_id)
        with pytest.raises(NotFoundError):
            await service.get(project_name=PROJECT, job_id=job_id)
