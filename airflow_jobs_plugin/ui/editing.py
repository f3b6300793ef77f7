"""Jobs are created and changed: by a form for the common parts, or as text with everything in it."""

from __future__ import annotations

import json

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import definitions
from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import RequestError
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.statuses import status_of
from airflow_jobs_plugin.spec.schedule import WEEKDAYS
from airflow_jobs_plugin.ui import checks, fields, texts
from airflow_jobs_plugin.ui.checks import Check
from airflow_jobs_plugin.ui.drafts import Draft
from airflow_jobs_plugin.ui.pages import At, JobId, Me, Sent, render, see_other

router = APIRouter()


@router.get("/new")
def ask_new(request: Request, me: Me) -> Response:
    """The form of a job that is to be created."""
    if not me.may_in_general("POST"):
        raise HTTPException(403, "You may not create jobs. Whoever runs this Airflow can give you the right to.")
    return _page(request, Draft.fresh(request.query_params.get("mode") == "editor"))


@router.post("/new")
def create_job(request: Request, me: Me, at: At, form: Sent) -> Response:
    """Create a job, or go on writing it."""
    return _sent(request, me, at, Draft.of(form, None), form.text("do"))


@router.post("/new/check")
def check_new(request: Request, me: Me, form: Sent) -> Response:
    """What is wrong with a new job as it is written so far, and when it would run."""
    return _checked(request, Draft.of(form, None))


@router.get("/job/{job_id}/edit")
def ask_change(request: Request, me: Me, job_id: JobId) -> Response:
    """The form of a job that is to be changed."""
    view = _writable(me, job_id)
    if view.source == "CODE":
        return render(request, "readonly.html", 409, job=view, definition=texts.yaml_of(view.definition))
    draft = Draft.stored(view, request.query_params.get("mode") == "editor")
    return _page(request, draft, checks.check(draft))


@router.post("/job/{job_id}/edit")
def change_job(request: Request, me: Me, at: At, job_id: JobId, form: Sent) -> Response:
    """Change a job, or go on writing."""
    if (view := _writable(me, job_id)).source == "CODE":
        raise HTTPException(409, f"{job_id!r} is defined in a file ({view.location}); change the file.")
    return _sent(request, me, at, Draft.of(form, job_id), form.text("do"))


@router.post("/job/{job_id}/edit/check")
def check_change(request: Request, me: Me, job_id: JobId, form: Sent) -> Response:
    """What is wrong with a change as it is written so far, and when the job would run."""
    _writable(me, job_id)
    return _checked(request, Draft.of(form, job_id))


def _writable(me: Me, job_id: str) -> JobView:
    def read(session: Session) -> JobView:
        me.must(session, "PUT", job_id)
        return definitions.written(session, job_id)

    return transact(read)


def _sent(request: Request, me: Me, at: At, draft: Draft, do: str) -> Response:
    """What a button of the page does: all of them send the whole of it."""
    if do == "save":
        return _saved(request, me, at, draft)
    try:
        focus = draft.changed(do)
    except texts.TextFaults as error:
        return _page(request, draft, Check(lines=error.faults), 422)
    except InvalidDefinition as error:
        return _page(request, draft, Check(lines=texts.located(draft.text, error.faults)), 422)
    return _page(request, draft, focus=focus)


def _saved(request: Request, me: Me, at: At, draft: Draft) -> Response:
    check = checks.check(draft)
    if not check.valid or check.definition is None:
        return _page(request, draft, check, 422)
    try:
        if draft.job_id is None:
            view = operations.create_job(me, check.definition)
        else:
            view = operations.update_job(me, draft.job_id, check.definition, draft.etag or None)
    except InvalidDefinition as error:
        return _page(request, draft, checks.refused(draft, check, error), 422)
    except RequestError as error:
        return _page(request, draft, check, status_of(error), str(error))
    except HTTPException as error:
        return _page(request, draft, check, error.status_code, str(error.detail))
    return see_other(at.job(view.id, done="created" if draft.job_id is None else "saved"))


def _checked(request: Request, draft: Draft) -> Response:
    check = checks.check(draft)
    rows = [f"item-{n}-{part}" for n in range(len(draft.values.items)) for part in ("api", "parameters")]
    return render(request, "_check.html", check=check, draft=draft, names=[*fields.NAMES, *rows], beside=True)


def _page(
    request: Request,
    draft: Draft,
    check: Check | None = None,
    status: int = 200,
    fault: str | None = None,
    focus: str | None = None,
) -> Response:
    return render(
        request,
        "edit.html",
        status,
        draft=draft,
        check=check,
        fault=fault,
        focus=focus,
        beside=False,
        names=(),
        base=json.dumps(draft.original),
        rows=draft.values.items,
        weekdays=WEEKDAYS,
        zones=checks.zones(),
        most_items=fields.MOST_ITEMS,
    )
