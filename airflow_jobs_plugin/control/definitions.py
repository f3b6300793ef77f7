"""Jobs are created, changed and deleted: the definition in its Variable and the DAG in Airflow, in one transaction."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy import update as sql_update
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control import buckets, registration
from airflow_jobs_plugin.control.deletions import REMEMBER_DELETED
from airflow_jobs_plugin.control.jobs import JobView, get_job
from airflow_jobs_plugin.control.termination import terminate_all, unfinished_runs
from airflow_jobs_plugin.errors import ChangedError, ConflictError, DefinitionError
from airflow_jobs_plugin.factory import build_dag
from airflow_jobs_plugin.run.items import PLAN, TERMS, Terms
from airflow_jobs_plugin.sinks.identity import refused_identity
from airflow_jobs_plugin.spec import Fault, Job, explain
from airflow_jobs_plugin.spec.base import MAX_DEPTH
from airflow_jobs_plugin.spec.faults import MOST_FAULTS
from airflow_jobs_plugin.spec.writeonly import Secrets, kept, masks, split
from airflow_jobs_plugin.store import StoredJob, variables
from airflow_jobs_plugin.store.variables import Record, Revision

log = logging.getLogger(__name__)

#: A run may just be planning with a revision that was replaced so recently.
KEEP_REVISION = timedelta(minutes=10)


class InvalidDefinition(DefinitionError):
    """A definition is wrong: ``faults``, at least one and the first ``MOST_FAULTS``, each with its place."""

    def __init__(self, faults: list[Fault]) -> None:
        told = "; ".join(map(str, faults[:MOST_FAULTS]))
        super().__init__(told if len(faults) <= MOST_FAULTS else f"{told}; and {len(faults) - MOST_FAULTS} more faults")
        self.faults = faults[:MOST_FAULTS]


def check(definition: dict[str, Any]) -> Job:
    """The definition as a model. Raises ``InvalidDefinition`` for what is wrong, or cannot run here."""
    _must_be_shallow(definition)
    if places := masks(definition):
        raise InvalidDefinition([Fault(place, "'***' is not a value; give the secret itself") for place in places])
    try:
        job = Job.model_validate(definition)
    except ValidationError as error:
        raise InvalidDefinition(explain(error)) from None
    if job.sink is not None and (refused := refused_identity(job.sink, "API")):
        raise InvalidDefinition([Fault(("sink",), refused)])
    try:
        build_dag(StoredJob(job, definition, "API", ""), settings.max_map_length())
    except DefinitionError as error:
        field, _, message = str(error).partition(": ")
        raise InvalidDefinition([Fault((field,), message) if message else Fault((), field)]) from None
    return job


def _must_be_shallow(definition: dict[str, Any]) -> None:
    """Refuse what is nested deeper than anything that walks a definition could follow."""
    level: list[Any] = [definition]
    for _ in range(2 * MAX_DEPTH):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise InvalidDefinition([Fault((), f"nested deeper than {2 * MAX_DEPTH} levels")])


def written(session: Session, job_id: str) -> JobView:
    """One job as it was last written. Raises ``NotFoundError``.

    A parse that has read the definitions before a change may store its DAG after it: until the next parse Airflow has
    the job as it was, which only lists, pages of runs and the scheduler may believe.
    """
    view = get_job(session, job_id)
    return view if view.source == "CODE" else _as_written(view, buckets.read(session, job_id).bucket.jobs.get(job_id))


def create(session: Session, definition: dict[str, Any]) -> JobView:
    """Store a new job and tell Airflow of it. Raises ``InvalidDefinition``, ``ConflictError``."""
    from airflow.models.dag import DagModel

    job = check(definition)
    keep = buckets.read(session, job.id, lock=True)
    if job.id in keep.bucket.jobs or _is_dag(session, job.id):
        raise ConflictError("job-exists", f"there is a DAG or job {job.id!r} already; update it, or choose another id")
    keep.bucket.deleted.pop(job.id, None)
    now = _now()
    record = Record(1, now, now, {})
    _put(keep, job.id, record, 1, definition)
    buckets.write(session, keep)
    # What is left of an earlier DAG of that id may be paused.
    session.execute(sql_update(DagModel).where(DagModel.dag_id == job.id).values(is_paused=False))
    return _registered(session, keep, job.id)


def update(session: Session, job_id: str, definition: dict[str, Any], if_match: str | None = None) -> JobView:
    """Replace a job's definition; runs that have started keep theirs.

    Masked values stand for what is stored. Raises ``InvalidDefinition``, ``NotFoundError``, ``ConflictError`` for a
    job of a file, ``ChangedError`` if ``if_match`` names another state of it.
    """
    keep, record = _writable(session, job_id, if_match)
    merged, _ = _merged(keep, record, job_id, definition)
    record.newest.until = _now()
    used = _revisions_in_use(session, job_id)
    settled = datetime.now(UTC) - KEEP_REVISION
    for number, revision in list(record.revisions.items()):
        recent = revision.until is not None and datetime.fromisoformat(revision.until) > settled
        if used is None or (number not in used and not recent):
            del record.revisions[number]
    record.revision += 1
    record.updated_at = _now()
    _put(keep, job_id, record, record.revision, merged)
    buckets.write(session, keep)
    return _registered(session, keep, job_id)


def check_change(session: Session, job_id: str, definition: dict[str, Any]) -> Job:
    """What ``update`` would make of a definition, masked values included; nothing is stored.

    Raises what ``update`` does.
    """
    keep, record = _writable(session, job_id, None, lock=False)
    return _merged(keep, record, job_id, definition)[1]


def _merged(keep: buckets.Kept, record: Record, job_id: str, definition: dict[str, Any]) -> tuple[dict[str, Any], Job]:
    """A definition that replaces the stored one, with its secrets in place of the masks, and the job that it is."""
    _must_be_shallow(definition)
    given = {**definition, "id": job_id}
    merged, faults = kept(given, record.newest.definition, keep.secrets_of(job_id).get(record.revision, []))
    if faults:
        raise InvalidDefinition(faults)
    return merged, check(merged)


def delete_job(session: Session, job_id: str, *, force: bool, by: str, if_match: str | None = None) -> int:
    """Remove a job, its DAG and the history of its runs; returns how many runs that were.

    Raises ``ConflictError`` while runs are active, unless ``force``: then they are terminated.
    """
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    keep, _ = _writable(session, job_id, if_match)
    # The scheduler takes this row's lock to create a run.
    session.execute(select(DagModel.dag_id).where(DagModel.dag_id == job_id).with_for_update())
    active = unfinished_runs(session, job_id)
    if active and not force:
        raise ConflictError(
            "job-has-active-runs",
            f"{len(active)} runs of {job_id!r} have not ended; wait for them, terminate them, or force the deletion, "
            "which terminates them. Deleting a job deletes the history of its runs, too",
        )
    terminate_all(session, job_id, active, by=by, why="the job was deleted")
    del keep.bucket.jobs[job_id]
    keep.secrets.pop(job_id, None)
    settled = datetime.now(UTC) - REMEMBER_DELETED
    keep.bucket.deleted = {
        name: when for name, when in keep.bucket.deleted.items() if datetime.fromisoformat(when) > settled
    } | {job_id: _now()}
    buckets.write(session, keep)
    runs = session.scalar(select(func.count()).select_from(DagRun).where(DagRun.dag_id == job_id)) or 0
    if session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == job_id)) is not None:
        delete_dag(job_id, keep_records_in_log=True, session=session)
    return runs


def _writable(session: Session, job_id: str, if_match: str | None, *, lock: bool = True) -> tuple[buckets.Kept, Record]:
    keep = buckets.read(session, job_id, lock=lock)
    record = keep.bucket.jobs.get(job_id)
    view = _as_written(get_job(session, job_id), record)
    if record is None or view.source == "CODE":
        raise ConflictError("job-is-code", f"{job_id!r} is defined in a file ({view.location}); change the file")
    if if_match is not None and if_match != "*" and view.etag not in [tag.strip() for tag in if_match.split(",")]:
        raise ChangedError("job-changed", f"{job_id!r} is no longer what If-Match names; read it again")
    return keep, record


def _as_written(view: JobView, record: Record | None) -> JobView:
    if record is None or view.source == "CODE" or view.revision == record.revision:
        return view
    return replace(view, definition=record.newest.definition, revision=record.revision)


def _put(keep: buckets.Kept, job_id: str, record: Record, number: int, definition: dict[str, Any]) -> None:
    public, secrets = split({name: value for name, value in definition.items() if name != "id"})
    record.revisions[number] = Revision(public, bool(secrets))
    keep.bucket.jobs[job_id] = record
    all_secrets: dict[str, Secrets] = {
        revision: kept_secrets
        for revision, kept_secrets in keep.secrets.get(job_id, {}).items()
        if int(revision) in record.revisions
    }
    if secrets:
        all_secrets[str(number)] = secrets
    keep.secrets.pop(job_id, None)
    if all_secrets:
        keep.secrets[job_id] = all_secrets


def _registered(session: Session, keep: buckets.Kept, job_id: str) -> JobView:
    stored = variables.stored(job_id, keep.bucket.jobs[job_id])
    file = registration.factory_file(session)
    if file is not None and file.is_here:
        registration.register(session, build_dag(stored, settings.max_map_length()), file)
    elif file is not None:
        registration.ask_for_parse(session, file)
    return get_job(session, job_id)


def _revisions_in_use(session: Session, job_id: str) -> set[int] | None:
    """The revisions that unfinished runs were planned with; None if no run is unfinished."""
    from airflow.models.xcom import XComModel

    active = unfinished_runs(session, job_id)
    if not active:
        return None
    planned = (XComModel.dag_id == job_id, XComModel.task_id == PLAN, XComModel.key == TERMS)
    found = session.scalars(select(XComModel.value).where(*planned, XComModel.run_id.in_(active)))
    return {Terms.read(json.loads(value) if isinstance(value, str) else value).revision for value in found}


def _is_dag(session: Session, dag_id: str) -> bool:
    from airflow.models.dag import DagModel

    return session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == dag_id, ~DagModel.is_stale)) is not None


def _now() -> str:
    return datetime.now(UTC).isoformat()


__all__ = ["InvalidDefinition", "check", "check_change", "create", "delete_job", "update", "written"]
