"""Jobs as Airflow knows them: what a list shows, and what one looks like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import buckets
from airflow_jobs_plugin.errors import JobFileError, NotFoundError
from airflow_jobs_plugin.factory import TAG
from airflow_jobs_plugin.run.items import DEFINITION, PLAN
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import variables

#: How many definitions are kept decoded, by the version of the DAG that holds them.
REMEMBERED = 2_000

SORTS = ("id", "createdAt", "nextRunTime", "lastRunTime")
Source = Literal["API", "CODE"]
State = Literal["ACTIVE", "PAUSED"]


@dataclass(frozen=True)
class JobView:
    """A job for those who look at it: its definition without secrets, and what Airflow knows of it."""

    id: str
    definition: dict[str, Any]
    source: Source
    revision: int
    """Counts changes over REST; 0 for a job file."""
    location: str
    paused: bool
    created_at: datetime
    next_run: datetime | None
    last_run: datetime | None
    summary: str
    """The schedule in words."""
    registered: bool = True
    """Whether Airflow has its DAG, so that it can be triggered."""

    @cached_property
    def job(self) -> Job:
        """The definition as a model, secrets masked."""
        return Job.model_validate({**self.definition, "id": self.id}, context={"masked": True})

    @cached_property
    def outline(self) -> Job:
        """The same without its items, of which there may be ten thousand: one stands for them."""
        return outline(self.definition)

    @property
    def etag(self) -> str:
        """Changes whenever the definition does, its secrets included."""
        text = f"{self.revision}\n{json.dumps(self.definition, sort_keys=True)}"
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:20]}"'


def outline(definition: dict[str, Any]) -> Job:
    """A definition, secrets masked, as a model with one item in place of its own: checking them all takes a moment,
    and whoever watches a run asks every second."""
    without = {**definition, "id": "x", "payload": [{"api": "x"}]}
    return Job.model_validate(without, context={"masked": True})


@dataclass(frozen=True)
class Filter:
    """Which jobs a list shows, in what order, and which page of them. ``ids`` None: all."""

    ids: frozenset[str] | None = None
    search: str | None = None
    state: State | None = None
    source: Source | None = None
    sort: str = "id"
    descending: bool = False
    limit: int | None = None
    offset: int = 0


def get_job(session: Session, job_id: str) -> JobView:
    """One job. Raises ``NotFoundError``."""
    found = _views(session, session.execute(_jobs().where(_dag().dag_id == job_id)).all())
    if found:
        return found[0]
    waiting = _unregistered(session, job_id)
    if waiting is None:
        raise NotFoundError("job-not-found", f"there is no job {job_id!r}")
    return waiting


def list_jobs(session: Session, wanted: Filter) -> tuple[list[JobView], int]:
    """A page of jobs, and how many there are on all pages."""
    dag = _dag()
    query = _jobs()
    columns = {column.key: column for column in query.selected_columns}
    order = columns[
        {"createdAt": "created_at", "nextRunTime": "next_run", "lastRunTime": "last_run"}.get(wanted.sort, "dag_id")
    ]
    # First the names of all, then the page: who may see which, and what is a job of this plugin, the database does
    # not know, and a long list of ids in a condition costs it more than reading all.
    light = query.with_only_columns(columns["dag_id"], columns["serialized_id"], columns["dag_hash"])
    light = light.order_by(order.is_(None), order.desc() if wanted.descending else order.asc(), dag.dag_id)
    if wanted.search:
        light = light.where(dag.dag_id.icontains(wanted.search, autoescape=True))
    if wanted.state is not None:
        light = light.where(dag.is_paused.is_(wanted.state == "PAUSED"))
    rows = session.execute(light).all()
    described = _described(session, [(row.serialized_id, row.dag_hash) for row in rows])
    chosen = [
        row.dag_id
        for row in rows
        if (wanted.ids is None or row.dag_id in wanted.ids)
        and (known := described.get(row.serialized_id)) is not None
        and (wanted.source is None or known["source"] == wanted.source)
    ]
    end = None if wanted.limit is None else wanted.offset + wanted.limit
    page = chosen[wanted.offset : end]
    full = query if len(page) == len(rows) else query.where(dag.dag_id.in_(page))
    views = {view.id: view for view in _views(session, session.execute(full).all())} if page else {}
    return [views[job_id] for job_id in page if job_id in views], len(chosen)


def definition_of_version(session: Session, versions: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The definitions, secrets masked, that some versions of DAGs were made from, by version id."""
    from airflow.models.serialized_dag import SerializedDagModel as Serialized

    wanted = [version for version in set(versions) if version is not None]
    if not wanted:
        return {}
    rows = session.execute(
        select(Serialized.dag_version_id, Serialized.id, Serialized.dag_hash).where(
            Serialized.dag_version_id.in_(wanted)
        )
    ).all()
    described = _described(session, [(row.id, row.dag_hash) for row in rows])
    return {row.dag_version_id: described[row.id]["definition"] for row in rows if row.id in described}


def _dag() -> Any:
    from airflow.models.dag import DagModel

    return DagModel


def _jobs() -> Any:
    """What of every job's DAG is looked at, in one query."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.serialized_dag import SerializedDagModel as Serialized

    # Grouped, not looked up for each DAG: the table has no index by DAG.
    newest = (
        select(Serialized.dag_id, func.max(Serialized.created_at).label("at")).group_by(Serialized.dag_id).subquery()
    )
    created = (
        select(func.min(DagVersion.created_at))
        .where(DagVersion.dag_id == DagModel.dag_id)
        .correlate(DagModel)
        .scalar_subquery()
    )
    last = (
        select(func.max(DagRun.run_after)).where(DagRun.dag_id == DagModel.dag_id).correlate(DagModel).scalar_subquery()
    )
    return (
        select(
            DagModel.dag_id,
            DagModel.is_paused,
            DagModel.next_dagrun_create_after.label("next_run"),
            DagModel.timetable_description,
            created.label("created_at"),
            last.label("last_run"),
            Serialized.id.label("serialized_id"),
            Serialized.dag_hash,
        )
        .join(DagTag, (DagTag.dag_id == DagModel.dag_id) & (DagTag.name == TAG))
        .join(newest, newest.c.dag_id == DagModel.dag_id)
        .join(Serialized, (Serialized.dag_id == newest.c.dag_id) & (Serialized.created_at == newest.c.at))
        .where(DagModel.is_stale.is_(False))
    )


def _views(session: Session, rows: Iterable[Any]) -> list[JobView]:
    rows = list(rows)
    described = _described(session, [(row.serialized_id, row.dag_hash) for row in rows])
    views = []
    for row in rows:
        known = described.get(row.serialized_id)
        if known is None:
            continue  # a DAG with the tag that this plugin did not make
        scheduled = known["definition"].get("schedule") is not None
        views.append(
            JobView(
                id=row.dag_id,
                definition=known["definition"],
                source=known["source"],
                revision=known["revision"],
                location=known["location"],
                paused=row.is_paused,
                created_at=row.created_at,
                next_run=row.next_run if scheduled and not row.is_paused else None,
                last_run=row.last_run,
                summary=row.timetable_description if scheduled else "on trigger",
            )
        )
    return views


#: None: a DAG that this plugin did not make.
_remembered: dict[Any, dict[str, Any] | None] = {}


def _described(session: Session, wanted: list[tuple[Any, str]]) -> dict[Any, dict[str, Any]]:
    """What is written in serialized DAGs of their jobs, by their ids; decoded once for each version.

    DAGs that this plugin did not make are left out.
    """
    from airflow.models.serialized_dag import SerializedDagModel as Serialized

    missing = {key[0]: key for key in wanted if key not in _remembered}
    if missing:
        for serialized in session.scalars(select(Serialized).where(Serialized.id.in_(missing))):
            tasks = (serialized.data or {}).get("dag", {}).get("tasks", [])
            _remembered[missing[serialized.id]] = None
            for task in (task.get("__var", task) for task in tasks):
                if task.get("task_id") == PLAN and isinstance(task.get(DEFINITION), str):
                    _remembered[missing[serialized.id]] = json.loads(task[DEFINITION])
            session.expunge(serialized)
    found = {key[0]: known for key in wanted if (known := _remembered.get(key)) is not None}
    while len(_remembered) > max(REMEMBERED, len(wanted)):
        del _remembered[next(iter(_remembered))]
    return found


def _unregistered(session: Session, job_id: str) -> JobView | None:
    """A job that is stored and that Airflow has not parsed yet."""
    record = buckets.read(session, job_id).bucket.jobs.get(job_id)
    if record is None:
        return None
    try:
        stored = variables.stored(job_id, record)
    except JobFileError as error:
        raise NotFoundError("job-broken", str(error)) from None
    return JobView(
        id=job_id,
        definition=stored.definition,
        source="API",
        revision=record.revision,
        location=stored.location,
        paused=False,
        created_at=datetime.fromisoformat(record.created_at),
        next_run=None,
        last_run=None,
        summary="",
        registered=False,
    )
