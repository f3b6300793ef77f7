"""What has to work for jobs to run, looked at part by part."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import registration, variables
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.factory import TAG
from airflow_jobs_plugin.run.recording import unrecordable
from airflow_jobs_plugin.run.server import server_url
from airflow_jobs_plugin.run.tokens import VARIABLE
from airflow_jobs_plugin.store.files import SUFFIXES
from airflow_jobs_plugin.store.variables import BUCKETS, DEFINITIONS, SECRETS, Bucket, JobVariables

log = logging.getLogger(__name__)

Status = Literal["healthy", "degraded", "unhealthy"]
#: From good to bad. Degraded: some jobs, or some of what jobs can do, are affected; unhealthy: all of them.
STATUSES: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")
#: How long Airflow may take to know a job that was created just now, and how old the last parse of jobs may be.
NEW, OLD = timedelta(minutes=2), timedelta(minutes=10)
#: Executors whose tasks run on the machine of the scheduler.
_ON_THE_SPOT = ("LocalExecutor", "SequentialExecutor", "InProcessExecutor")
#: How many names a message has.
_NAMED = 3


@dataclass(frozen=True)
class Part:
    """One of the things that have to work. ``message`` says what is wrong and what would help; it may name jobs."""

    name: str
    status: Status = "healthy"
    message: str | None = None


def look() -> list[Part]:
    """All parts. Where the database does not answer, that alone is said: the others are in there."""
    try:
        transact(lambda session: session.scalar(select(1)))
    except Exception as error:
        log.warning("Airflow's database does not answer", exc_info=True)
        return [Part("database", "unhealthy", f"Airflow's database does not answer: {type(error).__name__}")]
    found = [Part("database")]
    for name, ask in _PARTS.items():
        try:
            found.append(Part(name, *transact(ask)))
        except Exception as error:
            log.warning("The part %r of the plugin's health could not be looked at", name, exc_info=True)
            told = f"could not be looked at: {type(error).__name__}; the API server's log has more"
            found.append(Part(name, "unhealthy", told))
    return found


def worst(parts: list[Part]) -> Status:
    """The status of the whole."""
    return max((part.status for part in parts), key=STATUSES.index)


Judgement = tuple[Status, str | None]
_GOOD: Judgement = ("healthy", None)


def _scheduler(session: Session) -> Judgement:
    return _component("scheduler")


def _dag_processor(session: Session) -> Judgement:
    return _component("dag_processor")


def _component(name: str) -> Judgement:
    part = component_health()[name]
    if part["status"] == "healthy":
        return _GOOD
    seen = part[f"latest_{name}_heartbeat"]
    told = f"last heard of at {seen}" if seen else "never heard of"
    # Jobs that are there go on without a DAG processor; nothing goes on without a scheduler.
    status: Status = "unhealthy" if name == "scheduler" else "degraded"
    return status, f"Airflow's {name.replace('_', ' ')} does not run: {told}"


def component_health() -> dict[str, Any]:
    """What Airflow itself says of its components, as in ``/api/v2/monitor/health``."""
    from airflow.api.common.airflow_health import get_airflow_health

    return get_airflow_health()


def _factory(session: Session) -> Judgement:
    """Whether the DAG file that makes the jobs is there, and is parsed."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.errors import ParseImportError

    file = registration.factory_file(session)
    if file is None:
        return "degraded", "no DAG file calls load_jobs(), so there are no jobs and none can be created over REST"
    broken = session.scalar(
        select(ParseImportError.id).where(
            ParseImportError.bundle_name == file.bundle_name, ParseImportError.filename == file.relative_path
        )
    )
    if broken is not None:
        return "unhealthy", f"{file.relative_path} cannot be imported; `airflow dags list-import-errors` says why"
    parsed = session.scalar(
        select(func.max(DagModel.last_parsed_time))
        .join(DagTag, DagTag.dag_id == DagModel.dag_id)
        .where(DagTag.name == TAG, DagModel.relative_fileloc == file.relative_path)
    )
    if parsed is not None and datetime.now(UTC) - parsed > OLD:
        return "degraded", f"{file.relative_path} was last parsed at {parsed.isoformat()}; changes of jobs wait for it"
    return _GOOD


def _files(session: Session) -> Judgement:
    """Whether Airflow has complaints about job files."""
    from airflow.models.errors import ParseImportError

    name = ParseImportError.filename
    names = session.scalars(select(name).where(or_(*(name.endswith(end) for end in SUFFIXES))).order_by(name)).all()
    if not names:
        return _GOOD
    return "degraded", f"{_counted(names, 'job file')} broken; `airflow dags list-import-errors` says why"


def _definitions(session: Session) -> Judgement:
    """Whether what was created over REST can be read, is valid, and is known to Airflow."""
    from airflow.models.dag import DagModel

    keys = [f"{kind}{number:02d}" for kind in (DEFINITIONS, SECRETS) for number in range(BUCKETS)]
    try:
        found = variables.read(session, keys)
    except Exception as error:
        if type(error).__name__ != "InvalidToken":
            raise
        told = "the Variables with definitions cannot be decrypted; [core] fernet_key is not the one of when they were"
        return "unhealthy", f"{told} written"
    recent = datetime.now(UTC) - NEW
    faults: list[str] = []
    settled: set[str] = set()
    for key, variable in sorted(found.items()):
        if key.startswith(DEFINITIONS):
            wrong, jobs = _looked_at(key, variable.text)
            faults += wrong
            settled |= {job_id for job_id, written in jobs if datetime.fromisoformat(written) < recent}
    if faults:
        return "degraded", f"{_counted(faults, 'definition')} not valid in this version, and cannot run; write it again"
    known = set(session.scalars(select(DagModel.dag_id).where(DagModel.is_stale.is_(False))))
    if missing := sorted(settled - known):
        return "degraded", f"{_counted(missing, 'job')} not known to Airflow; is the file with load_jobs() parsed?"
    return _GOOD


#: What was found in a Variable of which digest: probes come every few seconds, and definitions hardly ever change.
_seen: dict[str, tuple[bytes, list[str], list[tuple[str, str]]]] = {}


def _looked_at(key: str, text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Jobs of a Variable that are not valid, and all jobs with the times when they were written."""
    digest = hashlib.sha256(text.encode()).digest()
    known = _seen.get(key)
    if known is None or known[0] != digest:
        faults = list(JobVariables({key: text}.get, lambda prefix: [key]).load_all().faults)
        try:
            jobs = Bucket.decode(text).jobs
        except ValueError:
            jobs = {}
        known = _seen[key] = (digest, faults, [(job_id, record.updated_at) for job_id, record in jobs.items()])
    return known[1:]


def _run_tokens(session: Session) -> Judgement:
    if variables.read(session, [VARIABLE]):
        return _GOOD
    told = (
        f"the Variable {VARIABLE!r} is missing, so items cannot append; it is made when a component of Airflow starts"
    )
    return "degraded", told


def _state_store(session: Session) -> Judgement:
    reason = unrecordable()
    return ("degraded", f"jobs with itemsPerTask do not run: {reason}") if reason else _GOOD


def _api_url(session: Session) -> Judgement:
    """Whether workers can be expected to reach the API server, which they ask when they append."""
    from airflow.configuration import conf

    url = server_url()
    host = urlsplit(url).hostname or ""
    executors = conf.get("core", "executor", fallback="LocalExecutor").split(",")
    apart = any(name.rpartition(".")[2].rpartition(":")[2] not in _ON_THE_SPOT for name in executors)
    if apart and (host == "localhost" or host == "::1" or host.startswith("127.")):
        return "degraded", f"workers on other machines append at {url}, which is their own; set [jobs] api_url"
    return _GOOD


_PARTS: dict[str, Callable[[Session], Judgement]] = {
    "scheduler": _scheduler,
    "dag-processor": _dag_processor,
    "factory": _factory,
    "files": _files,
    "definitions": _definitions,
    "run-tokens": _run_tokens,
    "state-store": _state_store,
    "api-url": _api_url,
}


def _counted(names: Any, noun: str) -> str:
    """``2 jobs (a, b) are``."""
    shown = ", ".join(os.path.basename(str(name)) for name in names[:_NAMED])
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} {noun}{'s' if len(names) != 1 else ''} ({shown}{more}) {'are' if len(names) != 1 else 'is'}"


__all__ = ["STATUSES", "Part", "Status", "look", "worst"]
