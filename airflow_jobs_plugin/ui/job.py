"""A job's own page, how it is deleted, and how a run of it is started."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import definitions, runs, termination
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import ConflictError, DefinitionError
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.statuses import status_of
from airflow_jobs_plugin.spec import Schedule, format_duration
from airflow_jobs_plugin.ui import charts, rights, texts
from airflow_jobs_plugin.ui.pages import At, Form, JobId, Me, Sent, number, render, see_other
from timetables.recurrence import upcoming

#: Runs on a page of the table, runs in the drawing, run times to come, items of a definition that are shown.
PAGE, PLOTTED, UPCOMING, SHOWN_ITEMS = 15, 40, 10, 50
router = APIRouter()


@router.get("/job/{job_id}")
def show_job(request: Request, me: Me, job_id: JobId) -> Response:
    """A job: its definition without secrets, when it runs, how it ran."""
    page = number(request.query_params.get("page"), 1)

    def read(session: Session) -> dict[str, Any]:
        me.must(session, "GET", job_id)
        view = definitions.written(session, job_id)
        can = rights.of_job(me, session, job_id)
        found: dict[str, Any] = {"job": view, "can": can, "runs": [], "total": 0, "plot": None}
        if "see_runs" in can:
            found["runs"], found["total"] = runs.list_runs(session, job_id, limit=PAGE, offset=PAGE * (page - 1))
            recent = found["runs"]
            if page > 1 or found["total"] > PAGE:
                recent, _ = runs.list_runs(session, job_id, limit=PLOTTED)
            found["plot"] = charts.plot(list(reversed(recent)))
        return found

    found = transact(read)
    view: JobView = found["job"]
    return render(
        request,
        "job.html",
        page=page,
        pages=max(1, -(-found["total"] // PAGE)),
        times=next_times(view.job.schedule),
        definition=_shown(view),
        hidden=max(0, len(view.job.payload) - SHOWN_ITEMS),
        length=format_duration,
        **found,
    )


def next_times(schedule: Schedule | None, many: int = UPCOMING) -> list[datetime]:
    """The next run times of a schedule, without jitter."""
    return [] if schedule is None else list(itertools.islice(upcoming(schedule, datetime.now(UTC)), many))


def _shown(view: JobView) -> str:
    """The definition as text, its secrets masked, and of a long payload the beginning."""
    definition = {"id": view.id, **view.definition}
    if isinstance(definition.get("payload"), list):
        definition["payload"] = definition["payload"][:SHOWN_ITEMS]
    return texts.yaml_of(definition)


# -- a run of it -----------------------------------------------------------------------------------------------------


@router.get("/job/{job_id}/trigger")
def ask_trigger(request: Request, me: Me, job_id: JobId) -> Response:
    """The form that starts a run."""
    # The form's own key: sent twice, it starts one run.
    return _trigger_form(request, me, job_id, {"payload": "", "note": "", "key": uuid.uuid4().hex})


@router.post("/job/{job_id}/trigger")
def trigger_job(request: Request, me: Me, at: At, job_id: JobId, form: Sent) -> Response:
    """Start a run, and show it."""
    values = {name: form.text(name) for name in ("payload", "note", "key")}
    try:
        run_id = _triggered(me, job_id, form)
    except texts.TextFaults as error:
        return _trigger_form(request, me, job_id, values, 422, error.faults)
    except DefinitionError as error:
        lines = [texts.Line(message=line.removeprefix("conf: ")) for line in str(error).splitlines()]
        return _trigger_form(request, me, job_id, values, 422, lines)
    except ConflictError as error:
        return _trigger_form(request, me, job_id, values, status_of(error), [texts.Line(message=str(error))])
    return see_other(at.run(job_id, run_id, done="triggered"))


def _triggered(me: Me, job_id: str, form: Form) -> str:
    payload = texts.payload_of(form.text("payload")) if form.text("payload").strip() else None
    note, key = form.text("note", 1000).strip() or None, form.text("key", 200) or None
    return operations.trigger(me, job_id, payload, note, key)[0]


def _trigger_form(
    request: Request,
    me: Me,
    job_id: str,
    values: dict[str, str],
    status: int = 200,
    faults: list[texts.Line] | None = None,
) -> Response:
    def read(session: Session) -> JobView:
        me.must(session, "GET", job_id)
        me.must(session, "POST", job_id, "RUN")
        return definitions.written(session, job_id)

    view = transact(read)
    own = texts.yaml_of(view.definition.get("payload", [])[:SHOWN_ITEMS])
    return render(request, "trigger.html", status, job=view, values=values, faults=faults or [], own=own)


# -- its end ---------------------------------------------------------------------------------------------------------


@router.get("/job/{job_id}/delete")
def ask_delete(request: Request, me: Me, job_id: JobId) -> Response:
    """Ask whether the job is really to be deleted, and say what goes with it."""
    return _delete_form(request, me, job_id)


@router.post("/job/{job_id}/delete")
def delete_job(request: Request, me: Me, at: At, job_id: JobId, form: Sent) -> Response:
    """Delete the job with its runs."""
    if form.text("sure") != "yes":
        raise HTTPException(422, "Deleting has to be confirmed.")
    try:
        operations.delete_job(me, job_id, force=form.text("force") == "yes", if_match=form.text("etag") or None)
    except ConflictError as error:
        return _delete_form(request, me, job_id, status_of(error), str(error))
    return see_other(f"{at.home}?done=deleted")


def _delete_form(request: Request, me: Me, job_id: str, status: int = 200, fault: str | None = None) -> Response:
    def read(session: Session) -> dict[str, Any]:
        me.must(session, "DELETE", job_id)
        view = definitions.written(session, job_id)
        _, total = runs.list_runs(session, job_id, limit=1)
        return {"job": view, "total": total, "active": len(termination.unfinished_runs(session, job_id))}

    return render(request, "delete.html", status, fault=fault, **transact(read))
