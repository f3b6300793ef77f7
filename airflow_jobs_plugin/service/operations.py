"""What is done to jobs and their runs: each asks for the right, does it and notes it, in one transaction."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import anyio
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import (
    appending,
    audit,
    definitions,
    jobs,
    pausing,
    redelivery,
    runs,
    termination,
    triggering,
)
from airflow_jobs_plugin.control.appending import Appended
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import ConflictError, DefinitionError
from airflow_jobs_plugin.metrics import COMPONENT
from airflow_jobs_plugin.service.callers import Caller
from airflow_jobs_plugin.service.turns import Turns

#: How long the answer to a creation waits for Airflow to know the job, and how long an append waits for a run that was
#: triggered just now to have its list, seconds.
PATIENCE = 5.0

#: Appends to one run wait for each other. Of 15 database connections, which an API server has by default, four.
_appends = Turns(4)


def create_job(me: Caller, definition: dict[str, Any]) -> JobView:
    """Create a job. Raises ``InvalidDefinition``, ``ConflictError``, and 403."""
    job = definitions.check(definition)
    # Before anything tells whether there is such a job.
    transact(lambda session: me.must(session, "POST", job.id))
    me.must_read_connections(job)

    def write(session: Session) -> JobView:
        view = definitions.create(session, definition)
        audit.note(session, "job.create", job.id, me.name)
        return view

    return _when_ready(transact(write))


def update_job(me: Caller, job_id: str, definition: dict[str, Any], if_match: str | None) -> JobView:
    """Replace a job's definition. Raises ``InvalidDefinition``, ``ConflictError``, ``ChangedError``, and 403."""

    def write(session: Session) -> JobView:
        me.must(session, "PUT", job_id)
        view = definitions.update(session, job_id, definition, if_match)
        me.must_read_connections(view.job)
        audit.note(session, "job.update", job_id, me.name, revision=view.revision)
        return view

    return _when_ready(transact(write))


def delete_job(me: Caller, job_id: str, *, force: bool, if_match: str | None) -> int:
    """Delete a job with its runs, and return how many these were. Raises ``ConflictError``, ``ChangedError``, 403."""

    def write(session: Session) -> int:
        me.must(session, "DELETE", job_id)
        gone = definitions.delete_job(session, job_id, force=force, by=me.name, if_match=if_match)
        audit.note(session, "job.delete", job_id, me.name, runs=gone, forced=force)
        return gone

    return transact(write)


def set_paused(me: Caller, job_id: str, paused: bool) -> None:
    """Pause a job, or resume it. Raises ``NotFoundError``, and 403."""

    def write(session: Session) -> None:
        me.must(session, "PUT", job_id)
        jobs.get_job(session, job_id)
        if pausing.set_paused(session, job_id, paused):
            audit.note(session, "job.pause" if paused else "job.resume", job_id, me.name)

    transact(write)


def trigger(
    me: Caller, job_id: str, payload: list[Any] | None = None, note: str | None = None, key: str | None = None
) -> tuple[str, bool]:
    """Start a run; returns its id and whether it is new. Raises what ``triggering.trigger`` does, and 403."""

    def write(session: Session) -> tuple[str, bool]:
        me.must(session, "POST", job_id, "RUN")
        started = triggering.trigger(session, job_id, by=me.name, payload=payload, note=note, key=key)
        if started[1]:
            audit.note(session, "job.trigger", job_id, me.name, started[0])
        return started

    return transact(write)


def terminate(me: Caller, job_id: str, run_id: str, reason: str | None) -> Literal["run", "redelivery"] | None:
    """End a run; returns what was ended. Raises ``NotFoundError``, and 403."""

    def write(session: Session) -> tuple[Literal["run", "redelivery"] | None, int]:
        me.must(session, "PUT", job_id, "RUN")
        jobs.get_job(session, job_id)
        done = termination.terminate(session, job_id, run_id, by=me.name, why=reason)
        canceled = runs.get_run(session, job_id, run_id).counts.canceled if done == "run" else 0
        if done:
            audit.note(session, "job.terminate", job_id, me.name, run_id, what=done, why=reason)
        return done, canceled

    done, canceled = transact(write)
    if done == "run":
        COMPONENT.count("jobs.run.terminated", job_id)
        COMPONENT.count("jobs.item.canceled", job_id, canceled)
    return done


def redeliver(me: Caller, job_id: str, run_id: str) -> None:
    """Have a run's results delivered once more. Raises what ``redelivery.redeliver`` does, and 403."""

    def write(session: Session) -> None:
        me.must(session, "PUT", job_id, "RUN")
        redelivery.redeliver(session, job_id, run_id)
        audit.note(session, "job.redeliver", job_id, me.name, run_id)

    transact(write)


async def append(
    me: Caller, job_id: str, run_id: str, payload: list[Any], *, parent: int | None = None, key: str | None = None
) -> Appended:
    """Append items to a run, as a user or with the run token that came along. Raises what ``appending.append`` does,
    and 403. Appends to one run are done one after another."""
    permit = me.permit
    # One key for all tries: what the first one has done, the second one finds.
    key = key or uuid.uuid4().hex

    def write(session: Session) -> Appended:
        me.must_append(session, job_id, run_id)
        done = appending.append(
            session,
            job_id,
            run_id,
            payload,
            key=key,
            origin="item" if permit is not None and permit.own else "rest",
            parent=parent if permit is None else permit.index,
        )
        if done.new and permit is None:
            audit.note(session, "job.append", job_id, me.name, run_id, items=len(done.indexes))
        return done

    begun = time.monotonic()
    try:
        done = await _when_planned(lambda: _appends.take((job_id, run_id), partial(transact, write)))
    except (ConflictError, DefinitionError):
        COMPONENT.count("jobs.append.refused", job_id)
        raise
    COMPONENT.took("jobs.append.duration", job_id, time.monotonic() - begun)
    COMPONENT.count("jobs.append.accepted" if done.new else "jobs.append.repeated", job_id)
    if done.new:
        COMPONENT.count("jobs.append.items", job_id, len(done.indexes))
    return done


async def _when_planned(attempt: Callable[[], Awaitable[Appended]]) -> Appended:
    """Append, after some seconds if the run was triggered just now and has no list yet."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await attempt()
        except ConflictError as error:
            if error.code != "run-not-planned" or time.monotonic() > end:
                raise
        # Not in its turn: others would wait for a list that they do not need.
        await anyio.sleep(0.25)


def _when_ready(view: JobView) -> JobView:
    """The job as Airflow knows it, or as it is after some seconds."""
    end = time.monotonic() + PATIENCE
    while not view.registered and time.monotonic() < end:
        time.sleep(0.25)
        view = transact(partial(jobs.get_job, job_id=view.id))
    return view
