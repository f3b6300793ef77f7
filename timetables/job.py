"""The Airflow timetable of a job: its schedule's run times, none of them made up for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from airflow_jobs_plugin.spec import Schedule
from timetables.description import describe
from timetables.recurrence import delay, next_after

#: A run time that has just passed is still due if the run before it started this recently: a scheduler that is
#: a little late with a dense schedule is not an outage.
LATENESS = timedelta(seconds=10)
#: Airflow's column holds no more characters; PostgreSQL would refuse the DAG, and every other of its file with it.
LONGEST_DESCRIPTION = 1000


def now() -> datetime:
    """The one place where a timetable reads the clock."""
    return datetime.now(UTC)


class JobTimetable(Timetable):
    """Runs at the nominal times of a schedule, each delayed by its jitter; nothing is caught up.

    The data interval of a run is its nominal time, and so is its logical date. What is serialized is a contract
    that only grows: ``{"jobId": str, "schedule": the definition's schedule as it was written}``.

    :param job_id: decides the jitter together with the nominal time
    :param schedule: the definition's schedule, decoded
    """

    def __init__(self, job_id: str, schedule: dict[str, Any]) -> None:
        self.job_id = job_id
        self._written = schedule
        self.schedule = Schedule.model_validate(schedule)
        description = describe(self.schedule)
        if len(description) > LONGEST_DESCRIPTION:
            description = description[: LONGEST_DESCRIPTION - 1] + "…"
        self.description = description

    @property
    def summary(self) -> str:
        """What Airflow shows where there is little room."""
        return self.description

    def serialize(self) -> dict[str, Any]:
        """The contract of the class docstring."""
        return {"jobId": self.job_id, "schedule": self._written}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> JobTimetable:
        """From what this or an older version has serialized. Raises ``ValidationError``."""
        return cls(data["jobId"], data["schedule"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobTimetable):
            return NotImplemented
        return (self.job_id, self.schedule) == (other.job_id, other.schedule)

    __hash__ = None  # type: ignore[assignment]

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """A manual run covers its own instant. It is never asked for the next run, so it shifts nothing."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run, or None.

        Strictly after now, but for a run time within ``LATENESS`` of now whose predecessor ran: that one is late. A run
        from further ahead of now is from before the clock went back. The schedule does not wait until it is that late
        again; run times that had their run get no second one, as Airflow keeps one for each.
        A backfill (``catchup``) gets all run times from its start on.
        """
        last = last_automated_data_interval.end if last_automated_data_interval is not None else None
        after: datetime
        if restriction.catchup:
            after = last or (restriction.earliest - timedelta(microseconds=1) if restriction.earliest else now())
        else:
            after = now()
            if last is not None and after - LATENESS < last < after + LATENESS:
                after = last
        if restriction.earliest is not None:
            after = max(after, restriction.earliest - timedelta(microseconds=1))
        tick = next_after(self.schedule, after)
        if tick is None or (restriction.latest is not None and tick > restriction.latest):
            return None
        start = _aware(tick)
        return DagRunInfo(
            run_after=_aware(tick + delay(self.schedule, self.job_id, tick)), data_interval=DataInterval.exact(start)
        )


def _aware(instant: datetime) -> pendulum.DateTime:
    return pendulum.instance(instant, tz="UTC")
