"""A run's page, and the parts of it that are brought up to date while it runs."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import jobs, runs
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.run.items import PLAN, SINK
from airflow_jobs_plugin.service import results
from airflow_jobs_plugin.ui import items, rights
from airflow_jobs_plugin.ui.pages import JobId, Me, RunId, render
from airflow_jobs_plugin.ui.progress import Mark, Progress

router = APIRouter()


@router.get("/job/{job_id}/run/{run_id}")
def show_run(request: Request, me: Me, job_id: JobId, run_id: RunId) -> Response:
    """A run: how far it is, its items, its delivery."""
    wanted = items.Wanted.of(request)

    def read(session: Session) -> dict[str, Any]:
        found = _state(session, me, job_id, run_id)
        table = items.table(session, job_id, run_id, wanted) if items.may_see(found["can"]) else None
        return {**found, "table": table}

    found = transact(read)
    return render(
        request,
        "run.html",
        changed=False,
        wanted=wanted,
        progress=Progress.of(found["run"], None),
        plan=PLAN,
        sink=SINK,
        **found,
    )


@router.get("/job/{job_id}/run/{run_id}/live")
def live(request: Request, me: Me, job_id: JobId, run_id: RunId) -> Response:
    """The part of a run's page that says how far it is. Asks to be asked again until the run has ended."""
    found = transact(lambda session: _state(session, me, job_id, run_id))
    progress = Progress.of(found["run"], Mark.read(request.query_params.get("mark")))
    changed = request.query_params.get("seen") != progress.seen
    response = render(request, "_live.html", progress=progress, changed=changed, plan=PLAN, sink=SINK, **found)
    if changed:
        # The table asks for itself anew, with whatever it is filtered by.
        response.headers["HX-Trigger"] = "items-changed"
    return response


def _state(session: Session, me: Me, job_id: str, run_id: str) -> dict[str, Any]:
    me.must(session, "GET", job_id, "RUN")
    job = jobs.get_job(session, job_id)
    return {"job": job, "run": runs.get_run(session, job_id, run_id), "can": rights.of_job(me, session, job_id)}


@router.get("/job/{job_id}/run/{run_id}/results")
def download(me: Me, job_id: JobId, run_id: RunId, format: Literal["jsonl", "csv"] = "jsonl") -> Response:
    """All results of a run as a file."""
    return results.streamed(me, job_id, run_id, format)
