"""Giving a worker back without ending the try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk.exceptions import AirflowRescheduleException

#: On top of the time that Airflow may take to notice that the process has ended.
MARGIN = timedelta(seconds=3)


def later() -> AirflowRescheduleException:
    """To be raised: the task instance keeps its try and its place, and comes again in some seconds.

    Not at once: a supervisor notices the end of its process up to ``[workers] min_heartbeat_interval`` (5 s)
    late. An instance that runs again before the executor has reported the first round looks to the scheduler
    as if it had been killed; it is then retried, and its call made twice. Seen on Airflow 3.3.2.
    """
    from airflow.configuration import conf

    notice = timedelta(seconds=conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0))
    return AirflowRescheduleException(datetime.now(UTC) + notice + MARGIN)  # type: ignore[no-untyped-call]
