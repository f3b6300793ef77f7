"""Where Airflow's own pages lead to these: its navigation, a DAG's page, a run's page. A DAG may be no job."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import jobs
from airflow_jobs_plugin.control.transactions import transact
from airflow_jobs_plugin.errors import NotFoundError
from airflow_jobs_plugin.ui.links import MOUNT
from airflow_jobs_plugin.ui.pages import At, Me, RunId, render

router = APIRouter()


def external_views(below: str) -> list[dict[str, object]]:
    """What Airflow's plugins register for its UI to show; ``below`` is the path that Airflow is below."""
    root = f"{below}{MOUNT}"
    icons = {"icon": f"{root}/static/icon/jobs.svg", "icon_dark_mode": f"{root}/static/icon/jobs-dark.svg"}
    views: list[dict[str, object]] = [
        {"name": "Jobs", "href": f"{root}/", "url_route": "jobs", "destination": "nav", "nav_top_level": True},
        {"name": "Job", "href": f"{root}/dag/{{DAG_ID}}", "url_route": "job", "destination": "dag"},
        {"name": "Job run", "href": f"{root}/dag/{{DAG_ID}}/run/{{RUN_ID}}", "url_route": "job-run",
         "destination": "dag_run"},
    ]  # fmt: skip
    return [view | icons for view in views]


@router.get("/dag/{dag_id}")
def of_dag(request: Request, me: Me, at: At, dag_id: str) -> Response:
    """The job that a DAG is."""
    return RedirectResponse(at.job(dag_id), 307) if _is_job(me, dag_id) else _no_job(request, dag_id)


@router.get("/dag/{dag_id}/run/{run_id}")
def of_dag_run(request: Request, me: Me, at: At, dag_id: str, run_id: RunId) -> Response:
    """The job run that a DAG run is."""
    return RedirectResponse(at.run(dag_id, run_id), 307) if _is_job(me, dag_id) else _no_job(request, dag_id)


def _is_job(me: Me, dag_id: str) -> bool:
    def read(session: Session) -> bool:
        me.must(session, "GET", dag_id)
        try:
            jobs.get_job(session, dag_id)
        except NotFoundError:
            return False
        return True

    return transact(read)


def _no_job(request: Request, dag_id: str) -> Response:
    return render(request, "nojob.html", dag_id=dag_id)
