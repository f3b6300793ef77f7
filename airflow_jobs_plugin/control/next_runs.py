"""Keeps Airflow's record of a job's next run right where Airflow itself would start one too many or lose one.

Airflow stores the next run of a DAG (``dag.next_dagrun*``) and starts it once it is due. Four things go wrong:

- While a DAG is paused its next run falls due, and starts the moment that the DAG is un-paused. The same after an
  outage. A job starts nothing that nobody was there for: its next run is found anew.
- Every parse finds the next run anew as well. A timetable that does not catch up then steps over a run that is due
  and that the scheduler has not got to yet, and the run is lost. It is kept.
- A parse within the timetable's ``LATENESS`` after un-pausing could bring back a time that has passed.
- The clock jumps. What is on record is then long over and would start at once, or is far ahead, and neither a run nor a
  parse comes before it, as Airflow counts from the last one by the clock. All next runs are found anew, and where the
  clock went back, the jobs' file is parsed.

Run times that are passed over meanwhile, since Airflow was away or too late for them, are told: by a line in the log of
the component that noticed, and by a metric.

Works on SQLAlchemy events of Airflow's own sessions, in every process that has one; ``policy.py`` connects them.
"""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from airflow_jobs_plugin.metrics import COMPONENT
from timetables.job import LATENESS, JobTimetable
from timetables.recurrence import next_after

log = logging.getLogger(__name__)

#: How long a run that is due waits for the scheduler before it counts as missed.
DUE = timedelta(seconds=60)
#: Seconds that counting what one job has missed may take, as a scheduler waits for it: some ten thousand run times, or
#: a dozen of a schedule of hundreds of parts.
COUNTING = 0.1
TIMETABLE = "timetables.job.JobTimetable"
FIELDS = ("next_dagrun", "next_dagrun_data_interval_start", "next_dagrun_data_interval_end", "next_dagrun_create_after")


def forget_missed(session: Session) -> int:
    """Find anew the next run of every job whose recorded one was missed. For the start of a component.

    Returns the number of jobs.
    """
    from airflow.models.dag import DagModel

    return _find_anew(session, DagModel.next_dagrun_create_after < _now() - LATENESS)


def _find_anew(session: Session, *which: Any) -> int:
    """Record the first run time after now of those jobs that are not paused; returns how many those are.

    One that cannot be read keeps what is on record: the scheduler goes on for the others.
    """
    from airflow.models.dag import DagModel

    chosen = select(DagModel.dag_id).where(DagModel.timetable_type == TIMETABLE, DagModel.is_paused.is_(False), *which)
    # In one order, so that two schedulers wait for each other, and not both.
    count = 0
    for dag_id in session.scalars(chosen.order_by(DagModel.dag_id)).all():
        try:
            connection = session.connection()
            timetable = _timetable_of(dag_id, connection)
            values = {} if timetable is None else _next_of(timetable)
            if timetable is not None:
                _tell_missed(dag_id, timetable, _recorded(dag_id, connection), values["next_dagrun"], connection)
        except SQLAlchemyError:
            raise
        except Exception:
            log.warning("The next run of %s could not be found", dag_id, exc_info=True)
            continue
        if values:
            _write(dag_id, values, connection)
            count += 1
    return count


def _now() -> datetime:
    return datetime.now(UTC)


#: From the monotonic clock to the wall clock, in seconds, when this process last looked for runs that are due.
_clock: float | None = None


def before_claim(execution: Any) -> None:
    """Called with each SELECT … FOR UPDATE of a session; one of them is a scheduler's look for runs that are due."""
    from airflow.models.dag import DagModel

    global _clock
    statement = execution.statement
    if execution.bind_mapper is not inspect(DagModel):
        return
    if not statement._for_update_arg.skip_locked or statement._limit_clause is None:
        return
    clock = time.time() - time.monotonic()
    jump = 0.0 if _clock is None else clock - _clock
    if abs(jump) > LATENESS.total_seconds():
        count = _find_anew(execution.session)
        if jump < 0:
            _have_parsed(execution.session)
        log.warning("The clock has jumped by %+.0f s: the next runs of %d jobs were found anew", jump, count)
    _clock = clock


def _have_parsed(session: Session) -> None:
    """Have the DAG processor parse the jobs' file now.

    It would not until the clock is where it was when it parsed last; meanwhile it takes every job that is created or
    changed for one that has gone from the file, and its runs would stand still.
    """
    from airflow.models.dagbag import DagPriorityParsingRequest

    from airflow_jobs_plugin.control.registration import factory_file

    try:
        file = factory_file(session)
    except SQLAlchemyError:
        raise
    except Exception:
        log.warning("The jobs' file could not be found", exc_info=True)
        return
    if file is None:
        return
    place = {"bundle_name": file.bundle_name, "relative_fileloc": file.relative_path}
    connection = session.connection()
    # Another scheduler may have asked as well. Not the session's savepoint: here Airflow allows it no commit at all.
    with contextlib.suppress(IntegrityError), connection.begin_nested():
        connection.execute(insert(DagPriorityParsingRequest).values(place))


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
        _write(dag.dag_id, {name: getattr(dag, name) for name in FIELDS}, connection)


def _write(dag_id: str, values: dict[str, datetime | None], connection: Any) -> None:
    """Into the table: what is changed by Airflow's model goes through ``_keep_due``."""
    from airflow.models.dag import DagModel

    table = DagModel.__table__
    connection.execute(update(table).where(table.c.dag_id == dag_id).values(values))


def _start_anew(dag: Any, connection: Any) -> None:
    """Record the first run time after now, whatever was recorded before."""
    timetable = _timetable_of(dag.dag_id, connection)
    for name, value in ({} if timetable is None else _next_of(timetable)).items():
        setattr(dag, name, value)


def _timetable_of(dag_id: str, connection: Any) -> JobTimetable | None:
    """The timetable that Airflow knows of a job; None if it does not know the DAG."""
    from airflow.models.serialized_dag import SerializedDagModel

    with Session(bind=connection) as session:
        serialized = SerializedDagModel.get(dag_id, session=session)
        timetable = None if serialized is None else serialized.dag.timetable
    return timetable if isinstance(timetable, JobTimetable) else None


def _next_of(timetable: JobTimetable) -> dict[str, datetime | None]:
    """The values of ``FIELDS`` for the first run time after now."""
    from airflow.timetables.base import TimeRestriction

    info = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest=None, latest=None, catchup=False)
    )
    if info is None or info.data_interval is None:
        return dict.fromkeys(FIELDS)
    begin, end = info.data_interval.start, info.data_interval.end
    return dict(zip(FIELDS, (begin, begin, end, info.run_after), strict=True))


def _recorded(dag_id: str, connection: Any) -> Any:
    """The row of ``FIELDS`` as it is in the table; None if there is none, or no next run."""
    from airflow.models.dag import DagModel

    table = DagModel.__table__.c
    found = connection.execute(select(*(table[name] for name in FIELDS)).where(table.dag_id == dag_id)).one_or_none()
    return None if found is None or found.next_dagrun_create_after is None else found


def _keep_due(dag: Any, connection: Any) -> None:
    """Undo a change of the next run that would lose one which is due, or bring back one that is not.

    What it passes over all the same, Airflow was too late for.
    """
    old = _recorded(dag.dag_id, connection)
    if old is None:
        return
    now = _now()
    was, becomes = _aware(old.next_dagrun_create_after), dag.next_dagrun_create_after
    if was <= now:
        brings_back = becomes is not None and becomes <= was
        if brings_back or now - was > DUE or _has_run(dag.dag_id, old.next_dagrun, connection):
            # Run times after that one are passed over only if it is so late.
            if not brings_back and now - was > LATENESS:
                _look_for_missed(dag, old, connection)
            return
    elif becomes is None or becomes > now:
        return
    for name in FIELDS:
        setattr(dag, name, getattr(old, name))


def _has_run(dag_id: str, run_time: datetime, connection: Any) -> bool:
    from airflow.models.dagrun import DagRun

    chosen = select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.logical_date == run_time)
    return connection.execute(chosen).first() is not None


def _look_for_missed(dag: Any, old: Any, connection: Any) -> None:
    try:
        timetable = _timetable_of(dag.dag_id, connection)
        if timetable is not None:
            _tell_missed(dag.dag_id, timetable, old, dag.next_dagrun, connection)
    except SQLAlchemyError:
        raise
    except Exception:
        # Of a DAG that cannot be read: what writes it anew must not fail because of this.
        log.warning("The run times that %s has missed could not be counted", dag.dag_id, exc_info=True)


def _tell_missed(dag_id: str, timetable: JobTimetable, old: Any, coming: datetime | None, connection: Any) -> None:
    """Say which run times a job has missed, from the one on record to the one that replaces it.

    :param old: the row on record; None: there was none
    :param coming: the run time that replaces it; None: there is none any more
    """
    now = _now()
    if old is None or _aware(old.next_dagrun_create_after) > now:
        return
    on_record = _aware(old.next_dagrun)
    started = _has_run(dag_id, old.next_dagrun, connection)
    tick = next_after(timetable.schedule, on_record) if started else on_record
    missed: list[datetime] = []
    end, least = time.monotonic() + COUNTING, ""
    while tick is not None and tick <= now and (coming is None or tick < coming):
        if missed and time.monotonic() >= end:
            least = "at least "
            break
        missed.append(tick)
        tick = next_after(timetable.schedule, tick)
    if missed:
        span = " to ".join(dict.fromkeys(moment.isoformat() for moment in (missed[0], missed[-1])))
        log.warning("%s missed %s%d run times, since Airflow was late or away: %s", dag_id, least, len(missed), span)
        COMPONENT.count("jobs.schedule.missed", dag_id, len(missed))


def _aware(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
