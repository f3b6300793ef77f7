"""Keeps Airflow's record of a job's next run right where Airflow itself would start one too many or lose one.

Airflow stores the next run of a DAG (``dag.next_dagrun*``) and starts it once it is due. Three things go wrong:

- While a DAG is paused its next run falls due, and starts the moment that the DAG is un-paused. The same after an
  outage. A job starts nothing that nobody was there for: its next run is found anew.
- Every parse finds the next run anew as well. A timetable that does not catch up then steps over a run that is due
  and that the scheduler has not got to yet, and the run is lost. It is kept.
- A parse within the timetable's ``LATENESS`` after un-pausing could bring back a time that has passed.

Works on SQLAlchemy events of Airflow's own sessions, in every process that has one; ``policy.py`` connects them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session

from timetables.job import LATENESS

#: How long a run that is due waits for the scheduler before it counts as missed.
DUE = timedelta(seconds=60)
TIMETABLE = "timetables.job.JobTimetable"
FIELDS = ("next_dagrun", "next_dagrun_data_interval_start", "next_dagrun_data_interval_end", "next_dagrun_create_after")


def forget_missed(session: Session) -> int:
    """Find anew the next run of every job whose recorded one was missed. For the start of a component.

    Returns the number of jobs.
    """
    from airflow.models.dag import DagModel

    missed = session.scalars(
        select(DagModel).where(
            DagModel.timetable_type == TIMETABLE,
            DagModel.is_paused.is_(False),
            DagModel.next_dagrun_create_after < _now() - LATENESS,
        )
    ).all()
    for dag in missed:
        _start_anew(dag, session.connection())
    return len(missed)


def _now() -> datetime:
    return datetime.now(UTC)


def before_update(connection: Any, dag: Any) -> None:
    """Called with a changed ``DagModel`` before it is written."""
    if dag.timetable_type != TIMETABLE:
        return
    paused = inspect(dag).attrs.is_paused.history
    if paused.has_changes() and not dag.is_paused:
        if True in (paused.deleted or ()):
            _start_anew(dag, connection)
    elif not dag.is_paused and inspect(dag).attrs.next_dagrun_create_after.history.has_changes():
        _keep_due(dag, connection)


def before_bulk_update(execution: Any) -> None:
    """Called with each UPDATE of a session: one that un-pauses many DAGs goes past the events of each."""
    from airflow.models.dag import DagModel

    if execution.bind_mapper is not inspect(DagModel):
        return
    values = getattr(execution.statement, "_values", None) or {}
    if not any(column.key == "is_paused" and value.value is False for column, value in values.items()):
        return
    chosen = select(DagModel).where(
        *execution.statement._where_criteria, DagModel.timetable_type == TIMETABLE, DagModel.is_paused.is_(True)
    )
    connection = execution.session.connection()
    for dag in execution.session.scalars(chosen).all():
        _start_anew(dag, connection)
        connection.execute(
            update(DagModel.__table__)
            .where(DagModel.__table__.c.dag_id == dag.dag_id)
            .values({name: getattr(dag, name) for name in FIELDS})
        )


def _start_anew(dag: Any, connection: Any) -> None:
    """Record the first run time after now, whatever was recorded before."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.timetables.base import TimeRestriction

    with Session(bind=connection) as session:
        serialized = SerializedDagModel.get(dag.dag_id, session=session)
        if serialized is None:
            return
        timetable = serialized.dag.timetable
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest=None, latest=None, catchup=False)
    )
    interval = info.data_interval if info is not None else None
    dag.next_dagrun = interval.start if interval is not None else None
    dag.next_dagrun_data_interval_start = interval.start if interval is not None else None
    dag.next_dagrun_data_interval_end = interval.end if interval is not None else None
    dag.next_dagrun_create_after = info.run_after if info is not None else None


def _keep_due(dag: Any, connection: Any) -> None:
    """Undo a change of the next run that would lose one which is due, or bring back one that is not."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    table = DagModel.__table__.c
    old = connection.execute(select(*(table[name] for name in FIELDS)).where(table.dag_id == dag.dag_id)).one_or_none()
    if old is None or old.next_dagrun_create_after is None:
        return
    now = _now()
    was, becomes = _aware(old.next_dagrun_create_after), dag.next_dagrun_create_after
    if was <= now:
        if now - was > DUE or (becomes is not None and becomes <= was):
            return
        started = connection.execute(
            select(DagRun.id).where(DagRun.dag_id == dag.dag_id, DagRun.logical_date == old.next_dagrun)
        ).first()
        if started is not None:
            return
    elif becomes is None or becomes > now:
        return
    for name in FIELDS:
        setattr(dag, name, getattr(old, name))


def _aware(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
