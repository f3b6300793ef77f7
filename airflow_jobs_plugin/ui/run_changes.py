"""What is done to a run: appended to, terminated, delivered once more. Each is asked for on a page of its own."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from anyio import from_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import jobs, runs
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import ConflictError
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.statuses import status_of
from airflow_jobs_plugin.ui import texts
from airflow_jobs_plugin.ui.pages import At, Form, JobId, Me, RunId, Sent, render, see_other

router = APIRouter()


def _run(me: Me, job_id: str, run_id: str) -> dict[str, Any]:
    def read(session: Session) -> dict[str, Any]:
        me.must(session, "PUT", job_id, "RUN")
        return {"job": jobs.get_job(session, job_id), "run": runs.get_run(session, job_id, run_id)}

    return transact(read)


@router.get("/job/{job_id}/run/{run_id}/terminate")
def ask_terminate(request: Request, me: Me, job_id: JobId, run_id: RunId) -> Response:
    """Ask whether the run is really to be ended, and why."""
    return render(request, "terminate.html", **_run(me, job_id, run_id))


@router.post("/job/{job_id}/run/{run_id}/terminate")
def terminate_run(me: Me, at: At, job_id: JobId, run_id: RunId, form: Sent) -> Response:
    """End the run now."""
    ended = operations.terminate(me, job_id, run_id, form.text("reason", 1000).strip() or None)
    done = {"run": "terminated", "redelivery": "redelivery-ended", None: "had-ended"}[ended]
    return see_other(at.run(job_id, run_id, done=done))


@router.get("/job/{job_id}/run/{run_id}/redeliver")
def ask_redeliver(request: Request, me: Me, job_id: JobId, run_id: RunId) -> Response:
    """Ask whether the results are to be sent once more, and say where to."""
    return render(request, "redeliver.html", **_run(me, job_id, run_id))


@router.post("/job/{job_id}/run/{run_id}/redeliver")
def redeliver_run(me: Me, at: At, job_id: JobId, run_id: RunId) -> Response:
    """Deliver the run's results once more."""
    operations.redeliver(me, job_id, run_id)
    return see_other(at.run(job_id, run_id, done="redelivering"))


@router.get("/job/{job_id}/run/{run_id}/append")
def ask_append(request: Request, me: Me, job_id: JobId, run_id: RunId) -> Response:
    """The form for more items."""
    # The form's own key: sent twice, it appends once.
    return _append_form(request, me, job_id, run_id, {"payload": "", "parent": "", "key": uuid.uuid4().hex})


@router.post("/job/{job_id}/run/{run_id}/append")
def append_items(request: Request, me: Me, at: At, job_id: JobId, run_id: RunId, form: Sent) -> Response:
    """Append items to the run, all of them or none."""
    values = {name: form.text(name) for name in ("payload", "parent", "key")}
    try:
        _append(me, job_id, run_id, form)
    except texts.TextFaults as error:
        return _append_form(request, me, job_id, run_id, values, 422, error.faults)
    except InvalidDefinition as error:
        lines = [texts.Line(str(fault)) for fault in error.faults]
        return _append_form(request, me, job_id, run_id, values, 422, lines)
    except ConflictError as error:
        return _append_form(request, me, job_id, run_id, values, status_of(error), [texts.Line(str(error))])
    return see_other(at.run(job_id, run_id, done="appended"))


def _append(me: Me, job_id: str, run_id: str, form: Form) -> None:
    parent = form.text("parent").strip()
    if parent and not (parent.isdecimal() and len(parent) < 10):
        raise texts.TextFaults([texts.Line(f"parent: {parent[:20]!r} is not the number of an item")])
    payload = texts.payload_of(form.text("payload"))
    key = form.text("key", 200) or None
    append = partial(operations.append, me, job_id, run_id, payload, parent=int(parent) if parent else None, key=key)
    from_thread.run(append)


def _append_form(
    request: Request,
    me: Me,
    job_id: str,
    run_id: str,
    values: dict[str, str],
    status: int = 200,
    faults: list[texts.Line] | None = None,
) -> Response:
    found = _run(me, job_id, run_id)
    return render(request, "append.html", status, values=values, faults=faults or [], **found)
