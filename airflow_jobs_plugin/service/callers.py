"""Who asks, and what they may do: Airflow's users, Airflow's rights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control import jobs, pausing, runs
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.run.tokens import Permit
from airflow_jobs_plugin.spec import Job

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod

T = TypeVar("T")
SAFE = ("GET", "HEAD", "OPTIONS")
#: Longest body of a request, bytes.
MAX_BODY = 32 * 1024 * 1024
#: A method, and the part of a job (``RUN``, ``TASK_INSTANCE`` …) that it is used on; None: the job itself.
Right = tuple["ResourceMethod", str | None]


async def identify(request: Request) -> Any:
    """The user of a request: by the token that it brings, or by the session's cookie.

    Raises ``HTTPException``: 401 for what is no valid token, 403 for what another site made with a user's cookie.
    """
    from airflow.api_fastapi.core_api.security import get_user, resolve_user_from_token
    from fastapi.security import HTTPAuthorizationCredentials

    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    bearer = None
    if scheme.lower() == "bearer":
        bearer = HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials.strip())
    key = request.headers.get("x-api-key")
    try:
        if bearer is None and key is not None:
            user = await beside_the_loop(lambda: resolve_user_from_token(key))
        else:
            user = await beside_the_loop(lambda: get_user(request, None, bearer))
    except HTTPException as error:
        # Airflow answers 403 to what is no token at all. It is as good as none: 401 asks for another one.
        raise HTTPException(401, error.detail, {"WWW-Authenticate": "Bearer"}) from None
    if request.method not in SAFE:
        if bearer is None and key is None:
            meant = same_site(request)
        else:
            # Where every visitor is an admin, Airflow adds a token to every request, whoever sent it.
            meant = not (settings.all_admins() and _from_elsewhere(request))
        if not meant:
            raise HTTPException(403, "a request with a session cookie has to come from Airflow's own pages, as JSON")
    return user


def body_fault(request: Request) -> tuple[int, str] | None:
    """The status and the reason for which a body is refused before it is read; None: it may be read."""
    if "transfer-encoding" in request.headers:
        # Also beside a Content-Length, which would then be false.
        return 411, "a body needs a Content-Length, and no Transfer-Encoding"
    try:
        length = int(request.headers.get("content-length") or 0)
    except ValueError:
        return 400, "Content-Length is not a number"
    if length > MAX_BODY:
        return 413, f"the body has {length} bytes; {MAX_BODY} are the most"
    return None


async def beside_the_loop(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await something that may block, in a thread with a loop of its own.

    Airflow's coroutines that find out who asks wait for the database without giving way. Where all connections are
    taken, the requests that have them could not end and give them back: as many tasks that start in one moment as the
    pool has connections, and one more request, stood still until the pool's time-out of 30 seconds. Seen.
    """
    from fastapi.concurrency import run_in_threadpool

    return await run_in_threadpool(lambda: asyncio.run(ask()))


def same_site(request: Request) -> bool:
    """Whether a browser that sends a cookie along does so for one of Airflow's own pages."""
    # A browser tells at least one of the two; what tells none brings a token.
    told = "origin" in request.headers or "sec-fetch-site" in request.headers
    return told and not _from_elsewhere(request)


def _from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site has it send this."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin not in _own_origins(request)


def _own_origins(request: Request) -> set[str]:
    from airflow.configuration import conf

    origins = {f"{request.url.scheme}://{request.headers.get('host', '')}"}
    configured = urlsplit(conf.get("api", "base_url", fallback="") or "")
    if configured.scheme and configured.netloc:
        origins.add(f"{configured.scheme}://{configured.netloc}")
    return origins


class Caller:
    """The user of a request, and what they may do. A dependency of every route."""

    def __init__(self, request: Request) -> None:
        self.user: Any = request.state.job_user
        self.permit: Permit | None = request.state.permit
        """Of a request with a run token, which no user made. The one route that takes it asks ``must_append``."""

    @property
    def name(self) -> str:
        """Who it is, for records."""
        return str(self.user.get_name())

    def must(self, session: Session, method: ResourceMethod, job_id: str, entity: str | None = None) -> None:
        """Raise 403 unless the caller may do this to that job, or to a part of it (``RUN``, ``TASK_INSTANCE`` …)."""
        if self.user is None:
            raise HTTPException(403, "a run token is good for appending to its run, and for nothing else")
        if not self._may(method, job_id, pausing.team_of(job_id, session), entity):
            raise HTTPException(403, f"you may not do this to the job {job_id!r}")

    def rights(self, session: Session, job_ids: Iterable[str], wanted: Iterable[Right]) -> dict[str, frozenset[Right]]:
        """Which of some rights the caller has on which job: what a page offers. The operation itself asks ``must``."""
        ids = list(job_ids)
        teams = pausing.teams_of(ids, session)
        asked = list(wanted)
        return {
            job_id: frozenset(right for right in asked if self._may(right[0], job_id, teams.get(job_id), right[1]))
            for job_id in ids
        }

    def may_in_general(self, method: ResourceMethod) -> bool:
        """Whether the caller may do this to any job at all, as far as that can be said."""
        allowed: bool = _manager().is_authorized_dag(method=method, user=self.user)
        return allowed

    def _may(self, method: ResourceMethod, job_id: str, team: str | None, entity: str | None) -> bool:
        from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

        allowed: bool = _manager().is_authorized_dag(
            method=method,
            access_entity=DagAccessEntity[entity] if entity else None,
            details=DagDetails(id=job_id, team_name=team),
            user=self.user,
        )
        return allowed

    def must_close(self, session: Session, job_id: str, run_id: str) -> None:
        """Raise 403 unless it is the task that closes that run."""
        if self.permit is None:
            raise HTTPException(403, "this is for the task that closes the run")
        self.must_append(session, job_id, run_id)

    def must_append(self, session: Session, job_id: str, run_id: str) -> None:
        """Raise 403 unless the caller may append to that run: by right, or by a token of that very run."""
        if self.permit is None:
            self.must(session, "PUT", job_id, "RUN")
        elif (self.permit.job_id, self.permit.run_id, self.permit.run_after) != (
            job_id,
            run_id,
            runs.run_after(session, job_id, run_id),
        ):
            raise HTTPException(403, "this run token is for another run")

    def must_read_results(self, session: Session, job_id: str) -> JobView:
        """The job. Raises 403 unless the caller may read the items of its runs, and what became of them, and
        ``NotFoundError``."""
        self.must(session, "GET", job_id, "TASK_INSTANCE")
        self.must(session, "GET", job_id, "XCOM")
        return jobs.get_job(session, job_id)

    def must_read_connections(self, job: Job) -> None:
        """Raise 403 unless the caller may read every connection that the job names."""
        from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails

        for conn_id in connections_of(job):
            if not _manager().is_authorized_connection(
                method="GET", details=ConnectionDetails(conn_id=conn_id), user=self.user
            ):
                raise HTTPException(403, f"the job names the connection {conn_id!r}, which you may not read")

    def readable(self, session: Session) -> frozenset[str]:
        """The ids of the DAGs that the caller may read."""
        return frozenset(_manager().get_authorized_dag_ids(user=self.user, method="GET", session=session))


def connections_of(job: Job) -> Iterable[str]:
    """The Airflow connections that a job uses."""
    names = (getattr(part, "conn_id", None) for part in (job.target, job.sink))
    return sorted({name for name in names if name})


def _manager() -> Any:
    from airflow.api_fastapi.app import get_auth_manager

    return get_auth_manager()
