"""Metrics, by Airflow's own stats: to StatsD, Datadog or OpenTelemetry, as ``[metrics]`` says.

A name is the same for all jobs, with the job in the tag ``dag_id``, as Airflow's own are. Plain StatsD has no tags:
there each also goes out under its name with the job's id behind it, unless ``[metrics] legacy_names_on`` says no.
"""

from __future__ import annotations

import importlib
import logging
from datetime import timedelta
from functools import cached_property
from typing import Any

log = logging.getLogger(__name__)


class Metrics:
    """Sends metrics of one side of Airflow. Never raises: a metric that is lost harms nobody.

    :param module: the side's stats; tasks have others than components
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def count(self, name: str, job_id: str, number: int = 1) -> None:
        """Something has happened so many times."""
        if number:
            self._send("incr", name, job_id, number)

    def took(self, name: str, job_id: str, seconds: float) -> None:
        """Something took so long."""
        self._send("timing", name, job_id, timedelta(seconds=max(0.0, seconds)))

    @cached_property
    def _ways(self) -> tuple[Any, bool] | None:
        """Airflow's stats, and whether to send names with ids, too; None where metrics are off and cost nothing."""
        from airflow.configuration import conf

        def on(option: str) -> bool:
            return bool(conf.getboolean("metrics", option, fallback=False))

        if not (on("statsd_on") or on("statsd_datadog_enabled") or on("otel_on")):
            return None
        has_tags = not on("statsd_on") or on("statsd_datadog_enabled") or on("statsd_influxdb_enabled")
        return importlib.import_module(self._module), not has_tags and on("legacy_names_on")

    def _send(self, method: str, name: str, job_id: str, value: Any) -> None:
        try:
            if (ways := self._ways) is None:
                return
            stats, by_name = ways
            send = getattr(stats, method)
            send(name, value, tags={"dag_id": job_id})
            if by_name:
                send(f"{name}.{job_id}", value)
        except Exception:
            log.debug("The metric %s could not be sent", name, exc_info=True)


#: Of tasks, which are processes of workers.
TASK = Metrics("airflow.sdk.observability.stats")
#: Of components, such as the API server.
COMPONENT = Metrics("airflow.observability.stats")

__all__ = ["COMPONENT", "TASK", "Metrics"]
