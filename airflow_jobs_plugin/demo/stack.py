"""A real Airflow of one's own: database, API server, scheduler, DAG processor and, on demand, a triggerer."""

from __future__ import annotations

import atexit
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from airflow_jobs_plugin.demo import environment
from airflow_jobs_plugin.demo.client import AirflowClient
from airflow_jobs_plugin.demo.postgres import EmbeddedPostgres
from airflow_jobs_plugin.demo.processes import ManagedProcess, StackError, free_ports

log = logging.getLogger(__name__)

PORTS = ("api", "worker_log", "trigger_log", "scheduler_health")
COMMANDS = {
    "api-server": ["api-server"],
    # No log server: all logs are in one folder on one machine.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


def _worker(number: int, concurrency: int) -> list[str]:
    name = f"worker-{number}@%h"
    return ["celery", "worker", "--skip-serve-logs", "--concurrency", str(concurrency), "--celery-hostname", name]


class AirflowStack:
    """A real Airflow on an embedded PostgreSQL and on free ports of 127.0.0.1.

    Every visitor is an admin, so it is for one's own machine and for a short life. Nothing of it outlives
    this process, not even when that is killed with -9.

    >>> with AirflowStack(dags_folder=folder) as airflow:  # doctest: +SKIP
    ...     airflow.wait_for_dag("my-dag")
    ...     run_id = airflow.trigger("my-dag")

    :param dags_folder: where DAG files are; None for an empty ``dags`` in the home
    :param home: AIRFLOW_HOME, which also gets the database and the logs and is kept; None for a temporary
        folder that goes when the stack stops
    :param config: ``{section: {option: value}}`` on top of the defaults in :mod:`.environment`
    :param connections: connection id to URI or JSON
    :param env: further environment variables for all components
    :param triggerer: whether to start a triggerer too
    :param workers: Celery workers instead of LocalExecutor's, each with its concurrency. ``config`` then has the
        ``[celery]`` section with a broker; results go to the stack's own database
    """

    def __init__(
        self,
        dags_folder: Path | None = None,
        *,
        home: Path | None = None,
        config: environment.Config | None = None,
        connections: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        triggerer: bool = False,
        workers: Sequence[int] = (),
    ) -> None:
        self._temporary = home is None
        self.home = Path(home or tempfile.mkdtemp(prefix="ajp-airflow-")).resolve()
        self.dags_folder = Path(dags_folder).resolve() if dags_folder else self.home / "dags"
        self.config = config or {}
        self.connections = connections or {}
        self.extra_env = env or {}
        self.commands = {name: command for name, command in COMMANDS.items() if triggerer or name != "triggerer"}
        for number, concurrency in enumerate(workers, 1):
            self.commands[f"worker-{number}"] = _worker(number, concurrency)
        self.postgres = EmbeddedPostgres(self.home / "postgres")
        self.processes: dict[str, ManagedProcess] = {}
        self.env: dict[str, str] = {}
        self.base_url = ""
        self.timings: dict[str, float] = {}
        self._client: AirflowClient | None = None

    # -- life ------------------------------------------------------------------------------------------

    def start(self, timeout: float = 120) -> Self:
        """Start everything and wait until it is healthy.

        ``timings`` then has the seconds that ``postgres``, ``migrate`` and ``components`` took.

        :param timeout: seconds for each of migration and components
        :raises StackError: a component failed; the message has the end of its log
        """
        try:
            began = self._begin()
            # The API server imports for seconds before it looks at the database, so it need not wait.
            self.start_component("api-server")
            began += self._took("migrate", lambda: self.command("db", "migrate", timeout=timeout))
            for name in list(self.commands)[1:]:
                self.start_component(name)
            began += self._took("components", lambda: self.wait_healthy(timeout))
        except BaseException:
            self.stop()
            raise
        log.info("Airflow is up at %s after %.1f s (%s)", self.base_url, began, self.timings)
        return self

    def _begin(self) -> float:
        atexit.register(self.stop)
        for folder in (self.home, self.dags_folder, self.home / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        began = self._took("postgres", self.postgres.start)
        self._configure()
        return began

    @contextmanager
    def database(self, timeout: float = 120) -> Iterator[Self]:
        """Only the migrated database, and in ``env`` the configuration for it."""
        try:
            self._begin()
            self.command("db", "migrate", timeout=timeout)
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """End everything and delete a temporary home. Twice does no harm."""
        atexit.unregister(self.stop)
        if self._client is not None:
            self._client.close()
            self._client = None
        for process in self.processes.values():
            process.request_stop()  # all at once, then wait for each
        for process in self.processes.values():
            process.stop()
        self.processes.clear()
        self.postgres.stop()
        if self._temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _took(self, what: str, action: Any) -> float:
        began = time.monotonic()
        action()
        self.timings[what] = round(time.monotonic() - began, 2)
        return self.timings[what]

    def _configure(self) -> None:
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        defaults = environment.default_config(
            self.home, self.dags_folder, self.postgres.url("psycopg2"), self.postgres.url("asyncpg"), ports
        )
        if any(name.startswith("worker-") for name in self.commands):
            backend = f"db+{self.postgres.url('psycopg2')}"
            celery = {"result_backend": backend, "worker_enable_remote_control": False}
            defaults = environment.merge(defaults, {"core": {"executor": "CeleryExecutor"}, "celery": celery})
        config = environment.merge(defaults, self.config)
        self.env = environment.build(self.home, config, self.connections, self.extra_env)
        self.base_url = f"http://127.0.0.1:{ports['api']}"

    def environment_of(self, name: str) -> Mapping[str, str]:
        """Return the environment of a component, or of a command such as ``db-migrate``; it works in its AIRFLOW_HOME.

        All share one. A subclass gives components machines of their own here.
        """
        return self.env

    def _spawn(self, name: str, arguments: list[str]) -> ManagedProcess:
        env = self.environment_of(name)
        return ManagedProcess(
            f"airflow {name}",
            # -P: neither the working folder nor anything in it is to be imported by accident.
            [sys.executable, "-P", "-m", "airflow", *arguments],
            self.log_file(name),
            env=env,
            cwd=Path(env["AIRFLOW_HOME"]),
            remove=[self.home] if self._temporary else [],
        )

    def command(self, *arguments: str, timeout: float = 60) -> None:
        """Run ``airflow`` with arguments, as a user of this machine would, and wait for its end.

        :raises StackError: it failed, or took longer than *timeout* seconds
        """
        process = self._spawn("-".join(arguments[:2]), list(arguments))
        try:
            if process.wait(timeout):
                process.check()
        finally:
            process.stop()

    # -- components ------------------------------------------------------------------------------------

    def start_component(self, name: str) -> None:
        """Start ``api-server``, ``scheduler``, ``dag-processor``, ``triggerer`` or ``worker-1`` …; also again."""
        self.stop_component(name)
        self.processes[name] = self._spawn(name, self.commands[name])

    def stop_component(self, name: str) -> None:
        """End one component with all its descendants; nothing happens when it does not run."""
        if process := self.processes.pop(name, None):
            process.stop()

    def kill_component(self, name: str) -> None:
        """Kill one component with -9, as a machine that fails would; what it has started goes with it."""
        if process := self.processes.pop(name, None):
            process.kill()

    def log_file(self, name: str) -> Path:
        """Return the file with the output of a component, or of ``db-migrate``."""
        return self.home / "logs" / f"{name}.log"

    def check(self) -> None:
        """Raise :class:`StackError` with the end of a log when a component has ended by itself."""
        self.postgres.check()
        for process in self.processes.values():
            process.check()

    def wait_healthy(self, timeout: float = 120) -> dict[str, Any]:
        """Wait until the API server answers and reports every component as healthy; return its report."""
        wanted = {"metadatabase", "scheduler", "dag_processor"}
        if "triggerer" in self.processes:
            wanted.add("triggerer")

        def probe() -> Any:
            try:
                response = self.client.http.get("/api/v2/monitor/health")
            except httpx.TransportError:
                return None  # not listening yet
            report = response.json() if response.is_success else {}
            healthy = {name for name, part in report.items() if part and part.get("status") == "healthy"}
            return report if wanted <= healthy else None

        report: dict[str, Any] = self.client.wait_until("healthy Airflow", probe, timeout, interval=0.1)
        return report

    # -- REST ------------------------------------------------------------------------------------------

    @property
    def client(self) -> AirflowClient:
        """The REST client of the running stack; the methods below are its most used ones."""
        if self._client is None:
            if not self.base_url:
                raise StackError("Airflow has not been started")
            self._client = AirflowClient(self.base_url, self.check)
        return self._client

    def token(self) -> str:
        """Return an admin's access token."""
        return self.client.token()

    def jobs_api(self, timeout: float = 120) -> httpx.Client:
        """Return a client of the plugin's REST API, as an admin with a token. To be closed."""
        return httpx.Client(
            base_url=f"{self.base_url}/jobs/api/v1",
            headers={"Authorization": f"Bearer {self.token()}"},
            timeout=timeout,
            trust_env=False,
        )

    def api(self, method: str, path: str, **kw: Any) -> Any:
        """See :meth:`.AirflowClient.api`."""
        return self.client.api(method, path, **kw)

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> dict[str, Any]:
        """See :meth:`.AirflowClient.wait_for_dag`."""
        return self.client.wait_for_dag(dag_id, timeout)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, note: str | None = None) -> str:
        """See :meth:`.AirflowClient.trigger`."""
        return self.client.trigger(dag_id, conf, note)

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """See :meth:`.AirflowClient.dag_run`."""
        return self.client.dag_run(dag_id, run_id)

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> dict[str, Any]:
        """See :meth:`.AirflowClient.wait_for_run`."""
        return self.client.wait_for_run(dag_id, run_id, timeout)

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """See :meth:`.AirflowClient.task_instances`."""
        return self.client.task_instances(dag_id, run_id, task_id)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """See :meth:`.AirflowClient.xcom`."""
        return self.client.xcom(dag_id, run_id, task_id, map_index, key)
