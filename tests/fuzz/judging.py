"""What has to hold of any input: the real functions are called, from the text of a job file to the requests it makes."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
from pydantic import ValidationError
from yarl import URL

from airflow_jobs_plugin.errors import AttemptError, ConfigurationError, JobFileError
from airflow_jobs_plugin.factory import documentation, summary
from airflow_jobs_plugin.linting import MAX_MAP_LENGTH
from airflow_jobs_plugin.run.items import item_id, plan_items, too_many
from airflow_jobs_plugin.sinks.base import Delivery
from airflow_jobs_plugin.sinks.bodies import RunFacts, item_names
from airflow_jobs_plugin.sinks.destinations import on_the_wire
from airflow_jobs_plugin.sinks.webhook import Webhook
from airflow_jobs_plugin.spec import HttpTarget, Job, RunApiTarget, S3Sink, WebhookSink, explain, item_name
from airflow_jobs_plugin.spec.keys import MAX_KEY_BYTES, fill
from airflow_jobs_plugin.spec.published import for_client, published
from airflow_jobs_plugin.spec.targets import PythonTarget
from airflow_jobs_plugin.spec.writeonly import join, masks, split
from airflow_jobs_plugin.store.base import StoredJob
from airflow_jobs_plugin.store.files import JobFileErrors, read
from airflow_jobs_plugin.targets.base import Attempt, Grant
from airflow_jobs_plugin.targets.connection import job_proxy
from airflow_jobs_plugin.targets.exchange import _merged
from airflow_jobs_plugin.targets.request import Call, build_call
from airflow_jobs_plugin.targets.run_protocol import RunCalls, run_id_in
from tests.fuzz.seeds import SECRET
from timetables.job import JobTimetable
from timetables.recurrence import delay, next_after, previous_before, upcoming

#: Characters of one message, and faults of one input, that are told.
LONGEST_MESSAGE, MOST_FAULTS = 2000, 101
BASE = "https://api.example.com/base"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
#: How many times as long everything may take. Seconds of a processor are longer where others use its other half.
PATIENCE = 1.0
#: Ids of runs, which Airflow's users may choose, and an API that is polled.
RUN_IDS = ("scheduled__2026-11-24T02:00:00+00:00", "../x/..", "a\r\nX: y", "é\u2028", "..", ".", "x" * 250, "a//b/")


class Broken(Exception):
    """Something does not hold."""


def hold(condition: object, what: str, *shown: object) -> None:
    """Raise ``Broken`` unless the condition is true."""
    if not condition:
        raise Broken(f"{what}: {', '.join(repr(one)[:300] for one in shown)}")


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """The block takes no more seconds of the processor than that."""
    before = time.process_time()
    yield
    taken = time.process_time() - before
    hold(taken <= seconds * PATIENCE, f"{what} took {taken:.2f} s and has {seconds:.1f}")


def seconds_for(size: int) -> float:
    """What an input of so many bytes may take: a second, and some more for large ones."""
    return 1 + 5 * size / 1_000_000


def judge_file(stem: str, ending: str, data: bytes) -> bool:
    """Read a job file, and follow it as far as it goes. Returns whether it was accepted. Raises ``Broken``."""
    # As the reader gets it: a path that is printable text.
    path = Path("/jobs") / (stem + ending)
    with within(seconds_for(len(data)), "reading"):
        try:
            stored = read(path, data)
        except JobFileErrors as errors:
            judge_faults(errors.faults)
            return False
    # Aliases may have unfolded to more than what was written.
    judge_job(stored, len(json.dumps(stored.definition)))
    return True


def judge_definition(definition: Any, whole: bool) -> bool:
    """Give a definition to the models. Returns whether it was accepted. Raises ``Broken``."""
    with within(1, "validating"):
        try:
            job = Job.model_validate(definition)
        except ValidationError as error:
            found = explain(error)
            for fault in found[:MOST_FAULTS]:
                judge_message(str(fault))
            hold(found, "no fault")
            return False
    stored = StoredJob(job, definition, "API", "")
    if whole:
        judge_job(stored, 0)
    else:
        dumped = json.loads(strict(job.model_dump(mode="json", by_alias=True, exclude_none=True)))
        hold(Job.model_validate(dumped) == job, "not the same after writing and reading", dumped)
    return True


def judge_faults(faults: list[JobFileError]) -> None:
    """Each says what and where, in few words, without secrets."""
    hold(faults and len(faults) <= MOST_FAULTS, "so many faults", len(faults))
    for fault in faults:
        hold(type(fault) is JobFileError and fault.line >= 1 and fault.column >= 1, "no place", fault)
        judge_message(fault.message)


def judge_message(message: str) -> None:
    """A message can be printed, stored, sent and read, and gives no secret away."""
    hold(message.strip(), "an empty message")
    hold(len(message) <= LONGEST_MESSAGE, f"a message of {len(message)} characters", message)
    hold(message.isprintable(), "a message that cannot be printed", message)
    hold(SECRET not in message, "a message repeats a secret", message)
    # Pydantic's own words for what it met; none of ours.
    hold("validation error" not in message and "Traceback" not in message, "a message from inside", message)


def judge_job(stored: StoredJob, size: int) -> None:
    """All that is made of an accepted definition."""
    job, limit = stored.job, seconds_for(size)
    hold(re.fullmatch(r"[A-Za-z0-9_-]{1,200}", job.id), "an id", job.id)
    with within(limit, "writing and masking"):
        judge_written(stored)
    if job.schedule is not None:
        with within(limit, "the schedule"):
            judge_schedule(stored)
    with within(limit, "the requests"):
        judge_requests(job)
    if job.sink is not None:
        with within(limit, "the sink"):
            judge_sink(job)


def judge_written(stored: StoredJob) -> None:
    """Written as JSON and read again it is the same; what is shown of it has no secrets."""
    job = stored.job
    dumped = json.loads(strict(job.model_dump(mode="json", by_alias=True, exclude_none=True)))
    hold(Job.model_validate(dumped) == job, "not the same after writing and reading", dumped)
    public, secrets = split(stored.definition)
    text = strict(public)
    hold(SECRET not in strict(_of_known_names(public)), "masking leaves a secret", text)
    hold(join(json.loads(text), json.loads(strict(secrets))) == stored.definition, "parts do not join", public)
    masks(public)
    shown = Job.model_validate({"id": job.id, **public}, context={"masked": True})
    for listed in (False, True):
        strict(for_client(published(shown), listed=listed))
    again = {**published(shown), "id": job.id}
    hold(
        published(Job.model_validate(again, context={"masked": True})) == published(shown), "the published form", again
    )
    for said in (summary(job), documentation(stored)):
        said.encode()
        hold("\0" not in said, "NUL in what is shown", said)
    for item in job.payload[:5]:
        name = item_name(item.api, item.parameters)
        name.encode()
        hold(len(name) <= 200 and len(name.splitlines()) == 1 and "\0" not in name, "the name of an item", name)
    for attempt in (0, 1, 20, 999):
        for policy in (
            job.configuration.retry,
            *(item.retry.over(job.configuration.retry) for item in job.payload[:5] if item.retry),
        ):
            hold(timedelta(0) <= policy.wait_after(attempt) <= timedelta(days=3653), "a wait", policy)
    if too_many(len(job.payload), job.configuration.items_per_task, MAX_MAP_LENGTH) is None:
        strict(plan_items(job, None, MAX_MAP_LENGTH))


def _of_known_names(public: dict[str, Any]) -> dict[str, Any]:
    # Names of what is passed on as it is are the author's, and may have been changed to such as nobody would mask.
    return {name: value for name, value in public.items() if name not in ("auth_session", "authSession", "payload")}


def strict(value: Any) -> str:
    """JSON text that any reader takes: no NaN, and valid Unicode."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    hold(not re.search(r"(?<!\\)(\\\\)*\\u0000", text), "a NUL character is kept", text)
    return text


def judge_schedule(stored: StoredJob) -> None:
    """The timetable and its run times."""
    schedule, job_id = stored.job.schedule, stored.job.id
    assert schedule is not None
    timetable = JobTimetable(job_id, stored.definition["schedule"])
    again = JobTimetable.deserialize(json.loads(strict(timetable.serialize())))
    hold(again == timetable and len(timetable.description) <= 1000, "the timetable", timetable.description)
    for after in (NOW, datetime(1, 1, 1, tzinfo=UTC), datetime(2100, 12, 31, 23, 59, 59, tzinfo=UTC)):
        tick = next_after(schedule, after)
        if tick is None:
            continue
        hold(tick > after and tick.tzinfo is UTC, "the next run time", tick, after)
        wait = delay(schedule, job_id, tick)
        following = next_after(schedule, tick)
        hold(timedelta(0) <= wait and (following is None or tick + wait < following), "the jitter", tick, wait)
        hold(following is None or previous_before(schedule, following) == tick, "back and forth", tick, following)
    times = list(islice(upcoming(schedule, NOW), 5))
    hold(times == sorted(set(times)), "in order", times)


# -- what is sent ----------------------------------------------------------------------------------------------------


def attempts(job: Job) -> Iterator[Attempt]:
    """Attempts of the job's first items in runs with ids that people may choose."""
    for index, item in enumerate(job.payload[:3]):
        for run_id in RUN_IDS[index::3]:
            yield Attempt(
                job.id, run_id, index, 1, item_id(job.id, run_id, index), item.api, item.parameters,
                item.request_timeout or job.configuration.request_timeout, job.proxy or job.configuration.proxy, job.auth_session,
                grant=Grant("https://airflow.example/jobs/api/v1/x", "token"),
            )  # fmt: skip


def judge_requests(job: Job) -> None:
    """Every call that an attempt would make: its URL, headers and body."""
    for proxy in (job.proxy, job.configuration.proxy):
        try:
            way = job_proxy(proxy)
        except ConfigurationError as error:
            judge_message(str(error))
        else:
            if way is not None:
                hold(clean(way.url) and clean(way.authorization or ""), "the proxy", way.url)
    target = job.target
    if isinstance(target, PythonTarget):
        hold(
            target.module is None or all(part.isidentifier() for part in target.module.split(".")),
            "a module",
            target.module,
        )
        return
    for attempt in attempts(job):
        try:
            calls = list(_calls(target, attempt))
        except AttemptError as error:
            hold(error.code in ("invalid-parameters", "configuration-error") and not error.retriable, "the code", error)
            judge_message(error.message)
            continue
        for call in calls:
            judge_call(call, attempt, target)


def _calls(target: HttpTarget | RunApiTarget, attempt: Attempt) -> Iterator[Call]:
    if isinstance(target, HttpTarget):
        yield build_call(target, attempt)
        return
    calls = RunCalls(target, attempt)
    yield calls.start()
    for answered in RUN_IDS:
        if (run_id := run_id_in({"runId": answered})) is not None:
            yield calls.result(run_id)
            if (cancel := calls.cancel(run_id)) is not None:
                yield cancel


def judge_call(call: Call, attempt: Attempt, target: HttpTarget | RunApiTarget) -> None:
    """One call stays with its host, below its path, and is one message."""
    hold(call.path.startswith("/") and clean(call.path) and clean(call.query), "the path", call.path, call.query)
    hold(
        " " not in call.path + call.query and "#" not in call.path + call.query and "?" not in call.path,
        "the path",
        call.path,
    )
    segments = [unquote(segment) for segment in call.path.split("/")]
    hold("." not in segments and ".." not in segments, "the path leaves its place", call.path)
    url = URL(f"{BASE}{call.path}?{call.query}" if call.query else BASE + call.path, encoded=True)
    hold(url.origin() == URL("https://api.example.com") and url.raw_path == "/base" + call.path, "where it goes", url)
    hold(not url.raw_fragment and url.raw_query_string == call.query, "the query", url)
    headers = {**call.headers, **call.private, **_merged({}, call, target.headers)}
    for name, value in headers.items():
        hold(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), "a header's name", name)
        hold(not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), "a header's value", name, value)
    hold(headers["Idempotency-Key" if "Idempotency-Key" in headers else "X-Job-Id"], "no identity", headers)
    if call.body is not None and call.content_type == "application/json":
        body = json.loads(call.body.decode())
        sent = body["parameters"] if isinstance(target, RunApiTarget) else body
        hold(sent == attempt.parameters, "the body", sent)
        strict(body)
    elif call.body is not None:
        hold(clean(call.body.decode("ascii")), "the form", call.body)
        names = {name for name, _ in parse_qsl(call.body.decode("ascii"), keep_blank_values=True, max_num_fields=None)}
        hold(names <= set(attempt.parameters), "the form has other names", names)


def clean(text: str) -> bool:
    """Printable ASCII and nothing else."""
    return text.isascii() and (not text or text.isprintable())


def judge_sink(job: Job) -> None:
    """What goes to a receiver or into a bucket."""
    sink = job.sink
    if isinstance(sink, WebhookSink):
        webhook = Webhook(sink)
        shown = webhook.destination()
        shown.encode()
        url = httpx.URL(sink.url)
        host = (urlsplit(sink.url).hostname or "").rstrip(".")
        hold(on_the_wire(host) == url.raw_host.decode("ascii").rstrip("."), "two hosts", sink.url, host, url.raw_host)
        hold(b"\r" not in url.raw_path and b"\n" not in url.raw_path and b"\0" not in url.raw_path, "the URL", url)
        headers = webhook._headers(Delivery("d-1", BytesIO(b"{}"), 2))
        for name, value in headers.raw:
            hold(not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) and name.strip() == name, "a header", name, value)
        request = httpx.Request("POST", url, headers=headers, content=b"{}")
        hold(
            len([1 for name, _ in request.headers.raw if name.lower() in (b"host", b"content-length")]) == 2,
            "framing",
            headers,
        )
    elif isinstance(sink, S3Sink):
        literal = sink.key_template.partition("{")[0]
        for index, item in enumerate(job.payload[:3]):
            for run_id in RUN_IDS:
                run = RunFacts("w", "p", job.id, run_id, "SUCCESS", "MANUAL", NOW.isoformat(), NOW.isoformat(), 1, 1, 0)
                try:
                    key = fill(sink.key_template, item_names(run, index, item_id(job.id, run_id, index), item.api))
                except ValueError as error:
                    hold(type(error) is ValueError, "the error", error)
                    judge_message(str(error))
                    continue
                segments = key.split("/")
                hold(key.startswith(literal) and len(key.encode()) <= MAX_KEY_BYTES, "a key leaves its prefix", key)
                hold(not {"", ".", ".."} & set(segments), "a key's segments", key)
                hold(not any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\\" for c in key), "a key's characters", key)
        endpoint = sink.endpoint
        hold(
            endpoint is None or (clean(urlsplit(endpoint).netloc) or urlsplit(endpoint).hostname),
            "the endpoint",
            endpoint,
        )
        for credential in (sink.access_key_id, sink.secret_access_key):
            hold(credential is None or not re.search(r"[\x00-\x1f\x7f]", credential), "a credential", credential)
    for conn_id in (getattr(job.target, "conn_id", None), getattr(sink, "conn_id", None)):
        # Airflow puts it into the path of a request to its API, and into the name of an environment variable.
        hold(conn_id is None or re.fullmatch(r"[\w#!()\-.:/\\]+", conn_id), "a connection's id", conn_id)
        hold(not {".", ".."} & set(re.split(r"[/\\]", conn_id or "")), "a connection's id", conn_id)
    hold(math.isfinite(job.configuration.tolerated_failure_percentage), "the tolerance")
