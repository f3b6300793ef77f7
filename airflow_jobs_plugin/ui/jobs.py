"""The list of jobs, and what is done to several of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import jobs, runs
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import RequestError
from airflow_jobs_plugin.service import operations
from airflow_jobs_plugin.service.callers import Caller
from airflow_jobs_plugin.ui import rights
from airflow_jobs_plugin.ui.pages import At, JobId, Me, Sent, number, render, search_of, see_other
from airflow_jobs_plugin.ui.queries import Query

PAGE = 25
router = APIRouter()


@dataclass(frozen=True)
class Wanted(Query):
    """Which jobs are asked for."""

    by_default = "id"
    state: Any
    source: Any

    @classmethod
    def of(cls, request: Request) -> Wanted:
        """As a request asks for it."""
        query = request.query_params
        state, source, sort = query.get("state"), query.get("source"), query.get("sort", "id")
        return cls(
            search_of(request),
            sort if sort.removeprefix("-") in jobs.SORTS else "id",
            number(query.get("page"), 1),
            state if state in ("ACTIVE", "PAUSED") else None,
            source if source in ("API", "CODE") else None,
        )


@router.get("/")
def list_jobs(request: Request, me: Me) -> Response:
    """The jobs that the caller may read."""
    wanted = Wanted.of(request)

    def read(session: Session) -> dict[str, Any]:
        chosen = jobs.Filter(
            me.readable(session),
            wanted.q,
            wanted.state,
            wanted.source,
            *wanted.order,
            PAGE,
            PAGE * (wanted.page - 1),
        )
        found, total = jobs.list_jobs(session, chosen)
        can = rights.of_jobs(me, session, [view.id for view in found], rights.LISTED)
        last = runs.latest_runs(session, [view.id for view in found if "see_runs" in can[view.id]])
        return {"jobs": found, "total": total, "can": can, "last": last}

    found = transact(read)
    if not found["total"] and not me.may_in_general("GET"):
        raise HTTPException(403, "You may not look at any job. Whoever runs this Airflow can give you the right to.")
    pages = max(1, -(-found["total"] // PAGE))
    return render(
        request, "jobs.html", wanted=wanted, pages=pages, page_size=PAGE, may_create=me.may_in_general("POST"), **found
    )


@router.post("/bulk")
def change_several(request: Request, me: Me, at: At, form: Sent) -> Response:
    """Pause or resume the jobs that were chosen, each of them that the caller may."""
    chosen, what = list(dict.fromkeys(form.all("job"))), form.text("do")
    if what not in ("pause", "resume"):
        raise HTTPException(422, "say what to do with these jobs")
    if not chosen:
        raise HTTPException(422, "No job was chosen. Tick some in the list first.")
    done, refused = [], []
    for job_id in chosen:
        if why := _changed(me, job_id, what == "pause"):
            refused.append((job_id, why))
        else:
            done.append(job_id)
    if not refused:
        return see_other(back_to_list(at.home, form.text("back"), "paused" if what == "pause" else "resumed"))
    return render(request, "several.html", 409, what=what, changed=done, refused=refused)


def _changed(me: Caller, job_id: str, paused: bool) -> str | None:
    """Pause or resume one of several jobs; returns why not, if not."""
    try:
        operations.set_paused(me, job_id, paused)
    except HTTPException as error:
        return str(error.detail)
    except RequestError as error:
        return str(error)
    return None


@router.post("/job/{job_id}/pause")
def pause_job(me: Me, at: At, job_id: JobId, form: Sent) -> Response:
    """Pause a job."""
    return _set_paused(me, at.home, at.job(job_id), job_id, form.text("back"), True)


@router.post("/job/{job_id}/resume")
def resume_job(me: Me, at: At, job_id: JobId, form: Sent) -> Response:
    """Resume a job."""
    return _set_paused(me, at.home, at.job(job_id), job_id, form.text("back"), False)


def _set_paused(me: Caller, home: str, own: str, job_id: str, back: str, paused: bool) -> Response:
    operations.set_paused(me, job_id, paused)
    done = "paused" if paused else "resumed"
    # The list's forms say where they were; the job's own page does not.
    return see_other(back_to_list(home, back, done) if back else f"{own}?done={done}")


def back_to_list(home: str, query: str, done: str) -> str:
    """The list as it was left, and what was done. Takes nothing from the query but the list's own parameters."""
    known = ("q", "state", "source", "sort", "page")
    kept = {name: value for name, value in parse_qsl(query) if name in known}
    return f"{home}?{urlencode({**kept, 'done': done})}"
