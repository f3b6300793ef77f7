"""A client of the REST API, for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from airflow_jobs_plugin.errors import RemoteError
from airflow_jobs_plugin.remote.connection import Connection
from airflow_jobs_plugin.remote.session import Json, Session

#: Entries asked for at a time.
PAGE = 100


@dataclass(frozen=True)
class Page:
    """Some entries of a list, and how many there are in all."""

    entries: list[Json]
    total: int


class JobsClient:
    """The jobs of one Airflow. What it answers is the API's JSON; every failure is a ``RemoteError``.

    :param connection: where it is, and the credentials. Without any it asks for the token that an Airflow without
        passwords gives to everybody.
    """

    def __init__(self, connection: Connection) -> None:
        self._session = Session(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def health(self) -> Json:
        """The plugin's health: ``{"status", "version", "parts"}``, also where it is unhealthy."""
        return self._session.object("GET", "health", "status", "parts", also=(503,))

    # -- jobs --------------------------------------------------------------------------------------------

    def jobs(self, **filters: str | None) -> Iterator[Page]:
        """The jobs, by id. Filters: ``search``, ``state``, ``source``."""

        def page(number: int) -> Page:
            params = {**filters, "pageSize": PAGE, "pageNumber": number}
            entries, headers = self._session.array("jobs", params)
            return Page(entries, _number(headers.get("X-Total-Count"), len(entries)))

        return _pages(page)

    def job(self, job_id: str) -> Json:
        """One job."""
        return self._session.object("GET", _job(job_id), "id", "payload", "configuration", "target", "sink", "etag")

    def create(self, definition: Json) -> Json:
        """Create a job: ``{"id", "message", "ready"}``."""
        return self._session.object("POST", "jobs", "ready", body=definition)

    def update(self, job_id: str, definition: Json, if_match: str | None = None) -> Json:
        """Replace a job's definition: ``{"id", "message", "ready"}``."""
        return self._session.object("PUT", _job(job_id), "ready", body=definition, headers=_if_match(if_match))

    def delete(self, job_id: str, *, force: bool = False, if_match: str | None = None) -> int:
        """Delete a job with its runs; returns how many runs that were."""
        params = {"force": "true"} if force else {}
        headers = self._session.done("DELETE", _job(job_id), params=params, headers=_if_match(if_match))
        return _number(headers.get("X-Deleted-Runs"), 0)

    def pause(self, job_id: str) -> Json:
        """Pause a job: ``{"message"}``."""
        return self._session.object("POST", f"{_job(job_id)}/pause", "message")

    def resume(self, job_id: str) -> Json:
        """Resume a job: ``{"message"}``."""
        return self._session.object("POST", f"{_job(job_id)}/resume", "message")

    def trigger(
        self, job_id: str, payload: list[Any] | None = None, note: str | None = None, key: str | None = None
    ) -> Json:
        """Start a run: ``{"jobRunId", "message"}``."""
        body = {name: value for name, value in (("payload", payload), ("note", note)) if value is not None}
        headers = {"Idempotency-Key": key} if key is not None else {}
        path = f"{_job(job_id)}/trigger"
        return self._session.object("POST", path, "jobRunId", "message", body=body, headers=headers)

    # -- runs --------------------------------------------------------------------------------------------

    def runs(self, job_id: str, limit: int) -> Page:
        """The newest runs of a job."""
        found: list[Json] = []
        total = 0
        for page in _pages(lambda number: self._run_page(job_id, min(limit, PAGE), number)):
            found += page.entries
            total = page.total
            if len(found) >= limit:
                break
        return Page(found[:limit], total)

    def _run_page(self, job_id: str, size: int, number: int) -> Page:
        params = {"pageSize": size, "pageNumber": number}
        answer = self._session.object("GET", f"{_job(job_id)}/runs", "jobRuns", "totalCount", params=params)
        return Page(answer["jobRuns"], answer["totalCount"])

    def latest_run(self, job_id: str) -> str:
        """The id of a job's newest run."""
        newest = self._run_page(job_id, 1, 1).entries
        if not newest:
            raise RemoteError(f"the job {job_id!r} has no runs", 404, "run-not-found")
        return str(newest[0]["id"])

    def run(self, job_id: str, run_id: str) -> Json:
        """One run: ``{"jobRun", "results"}``."""
        return self._session.object("GET", _run(job_id, run_id), "jobRun")

    def terminate(self, job_id: str, run_id: str, reason: str | None = None) -> Json:
        """End a run: ``{"message"}``."""
        body = {} if reason is None else {"reason": reason}
        return self._session.object("POST", f"{_run(job_id, run_id)}/terminate", "message", body=body)

    def redeliver(self, job_id: str, run_id: str) -> Json:
        """Deliver a run's results once more: ``{"message"}``."""
        return self._session.object("POST", f"{_run(job_id, run_id)}/redeliver")

    def append(
        self, job_id: str, run_id: str, payload: list[Any], parent: int | None = None, key: str | None = None
    ) -> Json:
        """Append items to a run: ``{"payloads", "message"}``."""
        body = {"payload": payload, **({"parent": parent} if parent is not None else {})}
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self._session.object("POST", f"{_run(job_id, run_id)}/payloads", body=body, headers=headers)

    def items(self, job_id: str, run_id: str, **filters: str | None) -> Iterator[Page]:
        """A run's items, by index. Filters: ``status``, ``search``."""

        def page(number: int) -> Page:
            params = {**filters, "pageSize": PAGE, "pageNumber": number}
            path = f"{_run(job_id, run_id)}/payloads"
            answer = self._session.object("GET", path, "payloads", "totalCount", params=params)
            return Page(answer["payloads"], answer["totalCount"])

        return _pages(page)

    def results(self, job_id: str, run_id: str, kind: str) -> Iterator[bytes]:
        """A run's results as ``jsonl`` or ``csv``, in the pieces in which they come."""
        kinds = ("application/x-ndjson", "text/csv")
        return self._session.stream(f"{_run(job_id, run_id)}/results", {"format": kind}, kinds)


def _pages(fetch: Callable[[int], Page]) -> Iterator[Page]:
    """All pages of a list, each when it is wanted."""
    seen = 0
    number = 1
    while True:
        page = fetch(number)
        yield page
        seen += len(page.entries)
        number += 1
        if not page.entries or seen >= page.total:
            return


def _number(header: str | None, default: int) -> int:
    return int(header) if header is not None and header.isascii() and header.isdecimal() else default


def _segment(text: str, what: str) -> str:
    if text in ("", ".", ".."):
        raise RemoteError(f"there is no {what} {text!r}", 404)
    return quote(text, safe="")


def _job(job_id: str) -> str:
    return f"jobs/{_segment(job_id, 'job')}"


def _run(job_id: str, run_id: str) -> str:
    return f"{_job(job_id)}/runs/{_segment(run_id, 'run')}"


def _if_match(etag: str | None) -> dict[str, str]:
    if etag is None:
        return {}
    return {"If-Match": etag if etag == "*" or '"' in etag else f'"{etag}"'}
