"""A real scheduler and real schedules: every run time starts one run, over pauses, restarts and edits."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack
from airflow_jobs_plugin.spec import Schedule
from timetables.recurrence import upcoming

from .conftest import Jobs

pytestmark = pytest.mark.e2e

WORK: dict[str, Any] = {
    "payload": [{"api": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}],
    "target": {"type": "python"},
}


def started(airflow: AirflowStack, job_id: str) -> list[datetime]:
    """The nominal times of all scheduled runs so far, in order, repeats included."""
    runs = airflow.client.pages(f"dags/{job_id}/dagRuns", "dag_runs", run_type="scheduled")
    return sorted(datetime.fromisoformat(run["logical_date"]) for run in runs)


def wait_for_more(airflow: AirflowStack, job_id: str, count: int) -> None:
    before = len(started(airflow, job_id))
    airflow.client.wait_until(
        f"{count} more runs of {job_id}", lambda: len(started(airflow, job_id)) >= before + count, 90
    )


def run_times(schedule: dict[str, Any], first: datetime, last: datetime) -> list[datetime]:
    times = upcoming(Schedule.model_validate(schedule), first - timedelta(milliseconds=1))
    return list(itertools.takewhile(lambda instant: instant <= last, times))


def test_every_run_time_starts_one_run_over_a_pause_a_restart_and_an_edit(jobs: Jobs, airflow: AirflowStack) -> None:
    dense = {"intervals": [{"every": "2s"}], "calendars": [{"hour": "*", "minute": "*", "second": [1, 31]}]}
    jobs.write("ticking", **WORK, schedule=dense)
    wait_for_more(airflow, "ticking", 4)
    airflow.trigger("ticking")
    wait_for_more(airflow, "ticking", 3)

    airflow.client.unpause("ticking", paused=True)
    paused = datetime.now(UTC)
    time.sleep(8)
    resumed = datetime.now(UTC)
    airflow.client.unpause("ticking")
    wait_for_more(airflow, "ticking", 5)

    airflow.stop_component("scheduler")
    down = datetime.now(UTC)
    time.sleep(8)
    restarting = datetime.now(UTC)
    airflow.start_component("scheduler")
    airflow.wait_healthy()
    wait_for_more(airflow, "ticking", 5)

    edit = datetime.now(UTC)
    sparse = {"intervals": [{"every": "3s", "offset": "500ms"}]}
    jobs.write("ticking", **WORK, schedule=sparse)
    airflow.client.wait_until(
        "the edited schedule", lambda: "3 seconds" in airflow.api("GET", "dags/ticking")["timetable_description"], 60
    )
    # The scheduler may have made up its mind about one more run of the old schedule just before.
    edited = datetime.now(UTC) + timedelta(seconds=5)
    wait_for_more(airflow, "ticking", 6)
    airflow.client.unpause("ticking", paused=True)

    found = started(airflow, "ticking")
    assert len(found) == len(set(found)), "no run time starts two runs"
    # A run may be recorded a moment after its time, so the borders are taken from what was started.
    before_pause = [t for t in found if t <= paused]
    after_pause = [t for t in found if resumed < t <= down]
    after_restart = [t for t in found if restarting < t <= edit]
    after_edit = [t for t in found if t > edited]
    assert not [t for t in found if paused + timedelta(seconds=1) < t <= resumed], "un-pausing starts nothing"
    either = {*run_times(dense, edit, edited), *run_times(sparse, edit, edited)}
    assert {t for t in found if edit < t <= edited} <= either
    assert not [t for t in found if down + timedelta(seconds=1) < t <= restarting], "nor does a restart"
    for name, part, schedule in (
        ("before the pause", before_pause, dense),
        ("after the pause", after_pause, dense),
        ("after the restart", after_restart, dense),
        ("after the edit", after_edit, sparse),
    ):
        assert len(part) >= 3, name
        assert part == run_times(schedule, part[0], part[-1]), name


def wait_until_before_a_run_time(period: int, seconds: float) -> datetime:
    """Sleep until some seconds before the next multiple of a period, and return that."""
    time.sleep((period - seconds - time.time()) % period)
    return datetime.fromtimestamp((time.time() // period + 1) * period, UTC)


def test_a_time_that_passed_while_the_job_was_paused_never_starts(
    jobs: Jobs, airflow: AirflowStack, receiver: WebhookReceiver
) -> None:
    schedule = {"intervals": [{"every": "20s"}], "jitter": "1s"}
    # By the ways in which Airflow un-pauses.
    ways = {
        "resting-one": airflow.client.unpause,
        "resting-many": lambda job: airflow.api(
            "PATCH", "dags", params={"dag_id_pattern": job}, json={"is_paused": False}
        ),
        "resting-command": lambda job: airflow.command("dags", "unpause", job),
    }
    for job in ways:
        jobs.write(job, **WORK, schedule=schedule, sink={"type": "webhook", "url": f"{receiver.url}/hook"})
    # Nobody parses meanwhile, so that the missed run is what Airflow has on record when the job is un-paused.
    airflow.stop_component("dag-processor")
    try:
        missed = wait_until_before_a_run_time(20, 5)
        for job in ways:
            airflow.client.unpause(job, paused=True)
        assert datetime.now(UTC) < missed, "paused in time"
        time.sleep(8)
        for job, unpause in ways.items():
            unpause(job)
        for job in ways:
            airflow.client.wait_until(
                "the next run", lambda job=job: any(t > missed for t in started(airflow, job)), 60
            )
    finally:
        airflow.start_component("dag-processor")
    for job in ways:
        found = started(airflow, job)
        assert missed not in found, job
        assert missed + timedelta(seconds=20) in found, job
        airflow.client.wait_until("its delivery", lambda job=job: jobs.delivered(job), 30)
        assert jobs.delivered(job)[-1].body["projectJobRun"]["type"] == "SCHEDULED"
        airflow.client.unpause(job, paused=True)


def test_a_parse_does_not_step_over_a_run_that_is_due(jobs: Jobs, airflow: AirflowStack) -> None:
    jobs.write("due", **WORK, schedule={"intervals": [{"every": "40s"}]})
    due = wait_until_before_a_run_time(40, 3)

    def record() -> tuple[datetime, datetime]:
        dag = airflow.api("GET", "dags/due")
        return datetime.fromisoformat(dag["next_dagrun_run_after"]), datetime.fromisoformat(dag["last_parsed_time"])

    assert record()[0] == due
    airflow.stop_component("scheduler")  # nobody starts it
    try:
        airflow.client.wait_until("a parse after it fell due", lambda: record()[1] > due + timedelta(seconds=1), 40)
        assert record()[0] == due
    finally:
        airflow.start_component("scheduler")
        airflow.wait_healthy()
        airflow.client.unpause("due", paused=True)


def test_airflow_says_when_a_job_runs(jobs: Jobs, airflow: AirflowStack) -> None:
    schedule = {"intervals": [{"every": "7d"}], "calendars": [{"dayOfMonth": 1}], "timezone": "Europe/Berlin"}
    jobs.write("weekly", **WORK, schedule=schedule)
    details = airflow.api("GET", "dags/weekly/details")
    assert details["timetable_description"] == "every 7 days and on day 1 of every month at 00:00, Europe/Berlin"
    assert details["timetable_summary"] == details["timetable_description"]
    (following,) = itertools.islice(upcoming(Schedule.model_validate(schedule), datetime.now(UTC)), 1)
    assert datetime.fromisoformat(details["next_dagrun_run_after"]) == following
    assert started(airflow, "weekly") == []
