"""Which jobs are paused, and what must be known about a DAG before telling anybody."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_jobs_plugin.errors import ConflictError, NotFoundError

#: The tag by which a DAG is a job, as ``factory.py`` gives it; that module costs the imports of a DAG file.
TAG = "job"


def is_paused_job(dag_id: str, session: Session) -> bool:
    """Return whether a DAG is a job and paused; False too when there is no such DAG."""
    from airflow.models.dag import DagModel, DagTag

    paused = (
        select(DagModel.dag_id)
        .join(DagTag, DagTag.dag_id == DagModel.dag_id)
        .where(DagModel.dag_id == dag_id, DagModel.is_paused.is_(True), DagTag.name == TAG)
    )
    return session.scalar(paused) is not None


def before_run_insert(connection: Any, run: Any) -> None:
    """Called with a new ``DagRun`` before it is written, in any process: a run of a paused job by Airflow's command
    line is refused here. Airflow's HTTP routes are guarded by ``api/paused.py``, and the scheduler starts none.

    Raises ``ConflictError``.
    """
    from airflow.utils.types import DagRunTriggeredByType

    if run.triggered_by is DagRunTriggeredByType.CLI:
        _refuse_if_paused(connection, run.dag_id)


def before_backfill_insert(connection: Any, backfill: Any) -> None:
    """The same for a new ``Backfill``."""
    _refuse_if_paused(connection, backfill.dag_id)


def _refuse_if_paused(connection: Any, dag_id: str) -> None:
    with Session(bind=connection) as session:
        if is_paused_job(dag_id, session):
            raise ConflictError("job-paused", f"the job {dag_id!r} is paused; resume it first")


def team_of(dag_id: str, session: Session) -> str | None:
    """Return the team that owns a DAG, which auth managers want to know; None if none does."""
    from airflow.models.dag import DagModel

    return DagModel.get_team_name(dag_id, session=session)


def teams_of(dag_ids: list[str], session: Session) -> dict[str, str | None]:
    """``team_of`` for many DAGs; those that no team owns may be left out."""
    from airflow.models.dag import DagModel

    return DagModel.get_dag_id_to_team_name_mapping(dag_ids, session=session) if dag_ids else {}


def producer_of(asset_id: int, session: Session) -> str | None:
    """Return the DAG that Airflow would run to materialize an asset; None if there is none, or more than one."""
    from airflow.models.asset import TaskOutletAssetReference

    outlet = TaskOutletAssetReference
    found = session.scalars(select(outlet.dag_id).where(outlet.asset_id == asset_id).distinct().limit(2)).all()
    return found[0] if len(found) == 1 else None


def set_paused(session: Session, job_id: str, paused: bool) -> bool:
    """Pause a job, or resume it; returns whether that changed anything. Raises ``NotFoundError``.

    The change goes through the ORM: a job that is resumed makes up for nothing (``next_runs.py``).
    """
    from airflow.models.dag import DagModel

    dag = session.scalar(select(DagModel).where(DagModel.dag_id == job_id).with_for_update(of=DagModel))
    if dag is None:
        raise NotFoundError("job-not-found", f"there is no job {job_id!r}, or Airflow does not know it yet")
    changed = bool(dag.is_paused) != paused
    dag.is_paused = paused
    session.flush()
    return changed
