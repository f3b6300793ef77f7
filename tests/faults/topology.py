"""An Airflow of many machines on one: every component has folders of its own, and shares none with another."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from airflow_jobs_plugin.demo import environment
from airflow_jobs_plugin.demo.postgres import EmbeddedPostgres
from airflow_jobs_plugin.demo.run import DAG_FILE
from airflow_jobs_plugin.demo.stack import COMMANDS, AirflowStack
from tests.redis_server import RedisServer

from .clocks import Clocks

log = logging.getLogger(__name__)

WORKERS = ("worker-1", "worker-2")
SCHEDULERS = ("scheduler", "scheduler-2")
#: Tasks that a worker runs at the same time.
CONCURRENCY = 4

#: Who was killed is missed within half a minute: Airflow's defaults are five minutes, and ten for a queue.
SOON: environment.Config = {
    "core": {"parallelism": 16},
    "scheduler": {
        "orphaned_tasks_check_interval": 5,
        "scheduler_health_check_threshold": 10,
        "task_instance_heartbeat_timeout": 20,
        "task_instance_heartbeat_timeout_detection_interval": 3,
        "task_queued_timeout": 30,
        "task_queued_timeout_check_interval": 5,
    },
    # A task whose job could not be read, the API server being away, is tried again after this.
    "workers": {"missing_dag_retry_delay": 3},
    "jobs": {"sink_private_addresses": "all"},
}


class Topology(AirflowStack):
    """CeleryExecutor with two workers, two schedulers, triggerer, DAG processor, API server; PostgreSQL and Redis.

    Each component works in ``machines/<name>`` below the home: its AIRFLOW_HOME, DAG folder (the factory file alone),
    logs and temporary folder. A component that ends by itself is started again, as a supervisor would, and counted in
    ``restarts``; that happens whenever something is waited for.

    :param clocks: if given, each component goes by the one of its name, and the database by ``postgresql``
    """

    def __init__(
        self,
        home: Path,
        redis: RedisServer,
        *,
        connections: Mapping[str, str],
        config: environment.Config | None = None,
        env: Mapping[str, str] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.redis = redis
        self.clocks = clocks
        celery = {"celery": {"broker_url": redis.url, "operation_timeout": 5}}
        super().__init__(
            home=home,
            config=environment.merge(environment.merge(SOON, celery), config or {}),
            connections=connections,
            env={"C_FORCE_ROOT": "1", **(env or {})},
            triggerer=True,
            workers=[CONCURRENCY] * len(WORKERS),
        )
        self.commands["scheduler-2"] = COMMANDS["scheduler"]
        # As in production: what was committed outlives a kill -9.
        self.postgres = EmbeddedPostgres(
            self.home / "postgres",
            settings={"synchronous_commit": "on"},
            env=clocks and clocks.environment("postgresql"),
        )
        self.machines = self.home / "machines"
        self.restarts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def machine(self, name: str) -> Path:
        """Return the folder that a component has to itself."""
        return self.machines / name

    def environment_of(self, name: str) -> Mapping[str, str]:
        """The settings of all, with every path below the home moved to the component's own folder."""
        machine = self.machine(name)
        for folder in ("dags", "logs", "tmp"):
            (machine / folder).mkdir(parents=True, exist_ok=True)
        (machine / "dags" / "jobs.py").write_text(DAG_FILE)
        own = {key: _moved(value, self.home, machine) for key, value in self.env.items() if key.startswith("AIRFLOW")}
        clock = self.clocks.environment(name) if self.clocks is not None else {}
        return {**self.env, **own, "TMPDIR": str(machine / "tmp"), **clock}

    def check(self) -> None:
        """Start again what has ended by itself."""
        with self._lock:
            self.postgres.check()
            for name, process in list(self.processes.items()):
                if process.poll() is not None:
                    self.restarts[name] += 1
                    log.warning("%s has ended with %s; it is started again", name, process.poll())
                    self.start_component(name)

    def crash(self, name: str) -> None:
        """Kill a component with -9, and all that it has started; start it again at once."""
        with self._lock:
            self.kill_component(name)
            self.start_component(name)

    def running(self, name: str) -> list[psutil.Process]:
        """Return the processes of a component, without the nanny above them; none if it does not run."""
        process = self.processes.get(name)
        return [] if process is None else process.running()

    def in_flight(self, name: str, port: int) -> int:
        """Return how many connections to a port of 127.0.0.1 a component has open."""
        return sum(_connections(process, port) for process in self.running(name))


def _moved(value: Any, home: Path, machine: Path) -> str:
    return str(machine) + value[len(str(home)) :] if value.startswith(str(home)) else value


def _connections(process: psutil.Process, port: int) -> int:
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return 0  # it has ended meanwhile
    return sum(c.status == psutil.CONN_ESTABLISHED and bool(c.raddr) and c.raddr.port == port for c in found)
