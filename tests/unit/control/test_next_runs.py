"""Airflow's record of a job's next run, in Airflow's own table, when clocks jump and components start."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import Session

import timetables.job
from airflow_jobs_plugin.control import next_runs
from timetables.job import JobTimetable

#: Airflow keeps no microseconds that SQLite would give back otherwise than they were.
NOW = datetime.now(UTC).replace(microsecond=0)
FACTORY = Path(__file__).parents[3] / "dags" / "jobs.py"
JOBS: dict[str, dict[str, Any]] = {"hourly": {"intervals": [{"every": "1h"}]}, "ended": {"calendars": [{"year": 2001}]}}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Two jobs, one of which never runs, one that Airflow cannot read, and somebody else's DAG."""
    from airflow.models import import_all_models
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbag import DagPriorityParsingRequest
    from airflow.models.dagrun import DagRun
    from airflow.models.serialized_dag import SerializedDagModel

    import_all_models()
    engine = create_engine("sqlite://")
    DagModel.metadata.create_all(
        engine, tables=[m.__table__ for m in (DagModel, DagTag, DagRun, DagPriorityParsingRequest)]
    )
    known = {job: SimpleNamespace(dag=SimpleNamespace(timetable=JobTimetable(job, one))) for job, one in JOBS.items()}
    monkeypatch.setattr(SerializedDagModel, "get", lambda dag_id, session: known[dag_id])
    with Session(engine) as session:
        for job in ("broken", *JOBS, "other"):
            kind = next_runs.TIMETABLE if job != "other" else "airflow.timetables.interval.CronDataIntervalTimetable"
            session.add(
                DagModel(dag_id=job, is_paused=False, bundle_name="b", fileloc=str(FACTORY), timetable_type=kind)
            )
        session.flush()
        session.execute(update(DagModel).values(relative_fileloc=FACTORY.name, last_parsed_time=NOW, is_stale=False))
        session.add_all(DagTag(dag_id=job, name="job") for job in JOBS)
        session.commit()
        yield session


class Clock:
    """The wall clock of this process, and what Airflow's has on record."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jumped = timedelta()
        self._session = session
        monkeypatch.setattr(next_runs, "_clock", None)
        monkeypatch.setattr(timetables.job, "now", self.now)
        monkeypatch.setattr(next_runs, "_now", self.now)
        wall = SimpleNamespace(time=lambda: self.now().timestamp(), monotonic=lambda: 1000.0)
        monkeypatch.setattr(next_runs, "time", wall)

    def now(self) -> datetime:
        return NOW + self.jumped

    def record(self, job: str, moment: datetime | None) -> None:
        next_runs._write(job, dict.fromkeys(next_runs.FIELDS, moment), self._session.connection())

    def recorded(self, job: str) -> set[datetime | None]:
        from airflow.models.dag import DagModel

        found = self._session.execute(
            select(*(getattr(DagModel, name) for name in next_runs.FIELDS)).where(DagModel.dag_id == job)
        ).one()
        return set(found)

    def look(self) -> None:
        """What a scheduler does about once a second."""
        from airflow.models.dag import DagModel

        due = select(DagModel).where(DagModel.next_dagrun_create_after <= self.now())
        self._session.scalars(due.limit(10).with_for_update(of=DagModel, skip_locked=True)).all()


@pytest.fixture
def clock(session: Session, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(session, monkeypatch)


def next_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0) + timedelta(hours=1)


@pytest.mark.parametrize("hours", [-30_000, -1, 1, 30_000])
def test_a_clock_that_jumps_has_the_next_runs_found_anew(
    clock: Clock, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    due = next_hour(NOW)
    clock.record("hourly", due)
    clock.record("other", due)
    clock.look()
    clock.look()
    assert clock.recorded("hourly") == {due}
    clock.jumped = timedelta(hours=hours)
    with caplog.at_level(logging.WARNING):
        clock.look()
    assert clock.recorded("hourly") == {next_hour(clock.now())}
    assert clock.recorded("ended") == {None}
    assert clock.recorded("other") == {due}, "it is none of ours"
    assert "the next runs of 2 jobs were found anew" in caplog.text


def test_a_clock_that_goes_back_has_the_jobs_parsed_whoever_asks_first(session: Session, clock: Clock) -> None:
    from airflow.models.dagbag import DagPriorityParsingRequest

    clock.look()
    for hours, asked in ((1, 0), (0, 1), (-1, 1)):
        clock.jumped = timedelta(hours=hours)
        clock.look()
        session.commit()
        found = session.scalars(select(DagPriorityParsingRequest.relative_fileloc)).all()
        assert found == [FACTORY.name] * asked


def test_a_clock_that_is_set_right_by_some_seconds_changes_nothing(clock: Clock) -> None:
    clock.record("hourly", NOW - timedelta(seconds=1))
    for seconds in (0, 9, 0, 9, 18, 27):  # slowly, it may go as far as it likes
        clock.jumped = timedelta(seconds=seconds)
        clock.look()
    assert clock.recorded("hourly") == {NOW - timedelta(seconds=1)}


@pytest.mark.parametrize(("seconds", "missed"), [(5, False), (15, True), (45, True), (600, True)])
def test_what_was_missed_while_no_scheduler_ran_is_not_started(
    session: Session, clock: Clock, seconds: int, missed: bool
) -> None:
    due = NOW - timedelta(seconds=seconds)
    clock.record("hourly", due)
    clock.record("other", due)
    assert next_runs.forget_missed(session) == missed
    session.commit()
    assert clock.recorded("hourly") == {next_hour(NOW) if missed else due}
    assert clock.recorded("other") == {due}


def test_run_times_that_nobody_was_there_for_are_told(
    session: Session, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.record("hourly", next_hour(NOW) - timedelta(hours=6))
    next_runs.forget_missed(session)
    assert "hourly missed 6 run times, since Airflow was late or away: " in caplog.text
    caplog.clear()
    next_runs.forget_missed(session)
    assert "missed" not in caplog.text, "once"


def test_no_scheduler_waits_long_for_what_is_counted(
    session: Session, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(next_runs, "COUNTING", 0.0)
    clock.record("hourly", next_hour(NOW) - timedelta(hours=6))
    next_runs.forget_missed(session)
    assert "hourly missed at least 1 run times" in caplog.text
    assert clock.recorded("hourly") == {next_hour(NOW)}


@pytest.mark.parametrize(
    ("late", "coming", "has_run", "told"),
    [
        (timedelta(hours=3), 4, True, 3),
        (timedelta(hours=3), 4, False, 4),
        (timedelta(hours=3), 3, True, 2),  # found just before it fell due: it is to run
        (timedelta(seconds=50), 1, True, 0),
    ],
)
def test_run_times_that_a_late_scheduler_passes_over_are_told(
    session: Session,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    late: timedelta,
    coming: int,
    has_run: bool,
    told: int,
) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    due = next_hour(NOW)
    clock.jumped = due + late - NOW
    clock.record("hourly", due)
    if has_run:
        session.execute(insert_run(DagRun, "hourly", due))
    dag = session.get(DagModel, "hourly")
    assert dag is not None
    for name in next_runs.FIELDS:
        setattr(dag, name, due + timedelta(hours=coming))
    with session.no_autoflush:
        next_runs.before_update(session.connection(), dag)
    assert dag.next_dagrun == due + timedelta(hours=coming)
    assert ("missed" in caplog.text) == bool(told)
    if told:
        assert f"hourly missed {told} run times, since Airflow was late or away: " in caplog.text


def test_a_dag_that_cannot_be_read_is_written_all_the_same(
    session: Session, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.models.dag import DagModel

    clock.record("broken", NOW - timedelta(hours=3))
    dag = session.get(DagModel, "broken")
    assert dag is not None
    for name in next_runs.FIELDS:
        setattr(dag, name, next_hour(NOW))
    with session.no_autoflush:
        next_runs.before_update(session.connection(), dag)
    assert "the run times that broken has missed could not be counted" in caplog.text.lower()
    assert dag.next_dagrun == next_hour(NOW)


def insert_run(model: Any, job: str, logical_date: datetime) -> Any:
    """A row of Airflow's with no more than is looked at."""
    values = {"dag_id": job, "run_id": "r", "logical_date": logical_date, "run_type": "scheduled", "state": "success"}
    more = {"run_after": logical_date, "span_status": "not_started", "log_template_id": 1}
    return insert(model.__table__).values(values | more)
