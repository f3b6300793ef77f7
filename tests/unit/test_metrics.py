"""Metrics on their way through Airflow's own stats to a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

SEND = """
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from airflow.sdk.configuration import conf
legacy = conf.getboolean("metrics", "legacy_names_on")
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
from airflow_jobs_plugin.metrics import TASK
TASK.count("jobs.item.succeeded", "nightly", 3)
TASK.count("jobs.item.failed", "nightly", 0)
TASK.took("jobs.run.duration", "nightly", 1.5)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        found.settimeout(0.2)
        yield found


def sent(listener: socket.socket, **options: str) -> list[str]:
    """What arrives of ``SEND``, by a process with such a configuration."""
    given = {
        "statsd_host": "127.0.0.1",
        "statsd_port": str(listener.getsockname()[1]),
        **options,
    }
    env = os.environ | {f"AIRFLOW__METRICS__{name.upper()}": value for name, value in given.items()}
    subprocess.run([sys.executable, "-c", SEND], env=env, check=True, timeout=60)
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except TimeoutError:
            return [line for line in found if line.startswith("airflow.jobs.")]


def test_plain_statsd_gets_each_name_alone_and_with_the_job(listener: socket.socket) -> None:
    assert sent(listener, statsd_on="True") == [
        "airflow.jobs.item.succeeded:3|c",
        "airflow.jobs.item.succeeded.nightly:3|c",
        "airflow.jobs.run.duration:1500.000000|ms",
        "airflow.jobs.run.duration.nightly:1500.000000|ms",
    ]


def test_names_with_the_job_can_be_switched_off(listener: socket.socket) -> None:
    assert sent(listener, statsd_on="True", legacy_names_on="False") == [
        "airflow.jobs.item.succeeded:3|c",
        "airflow.jobs.run.duration:1500.000000|ms",
    ]


def test_where_there_are_tags_the_job_is_one(listener: socket.socket) -> None:
    assert sent(listener, statsd_on="True", statsd_influxdb_enabled="True") == [
        "airflow.jobs.item.succeeded,dag_id=nightly:3|c",
        "airflow.jobs.run.duration,dag_id=nightly:1500.000000|ms",
    ]


def test_nothing_is_sent_where_metrics_are_off(listener: socket.socket) -> None:
    assert sent(listener) == []


def test_a_server_that_is_not_there_harms_nobody(listener: socket.socket) -> None:
    assert sent(listener, statsd_on="True", statsd_host="no-such-host.invalid") == []
