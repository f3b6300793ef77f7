"""What the REST API costs: many jobs, a large run, a job created and triggered.  Run: python benchmarks/rest.py

Boots a real Airflow. Latencies are those of a client on the same machine; queries are counted in a process of
its own that serves Airflow's whole app, so those of authentication count as well. The large run is written into
the database, not executed. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy

from airflow_jobs_plugin.demo.stack import AirflowStack

FACTORY = '''"""An Airflow DAG per job."""
from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
'''
MODULE = "def add(a, b):\n    return {'sum': a + b}\n"

# Serves Airflow's app in this process and prints the number of queries of each path's second request.
COUNT = """
import json, sys
from airflow.api_fastapi.app import cached_app
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

token, *paths = sys.argv[1:]
count = []
event.listen(Engine, "before_cursor_execute", lambda *a: count.append(a[2]))
with TestClient(cached_app(), headers={"Authorization": f"Bearer {token}"}) as client:
    for path in paths:
        assert client.get(path).status_code == 200, client.get(path).text
        count.clear()
        assert client.get(path).status_code == 200
        print(json.dumps([path, len(count)]))
"""


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}), flush=True)


def definition(job_id: str) -> dict[str, Any]:
    payload = [{"apiName": "acme_bench:add", "parameters": {"a": n, "b": 2}} for n in range(5)]
    return {
        "id": job_id,
        "payload": payload,
        "target": {"type": "python"},
        "schedule": {"calendars": [{"dayOfMonth": 1}], "intervals": [{"every": "7d"}]},
        "configuration": {"retry": {"maximumAttempts": 5, "initialInterval": "1s"}},
    }


def timed(call: Callable[[], httpx.Response], rounds: int) -> dict[str, float]:
    """Median and 95th percentile in milliseconds, after one call that warms up."""
    call().raise_for_status()
    took = []
    for _ in range(rounds):
        before = time.perf_counter()
        call().raise_for_status()
        took.append((time.perf_counter() - before) * 1e3)
    return {"median_ms": round(statistics.median(took), 1), "p95_ms": round(statistics.quantiles(took, n=20)[-1], 1)}


def queries(airflow: AirflowStack, *paths: str) -> dict[str, int]:
    command = [sys.executable, "-P", "-c", COUNT, airflow.token(), *paths]
    done = subprocess.run(command, env=airflow.env, cwd=airflow.home, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


def create_to_run(airflow: AirflowStack, rest: httpx.Client, rounds: int, prefix: str) -> dict[str, float]:
    """Seconds from sending the creation: until it was answered, the trigger was, and the run had started."""
    parts: list[tuple[float, float, float]] = []
    for n in range(rounds):
        job_id = f"{prefix}-{n}"
        began = time.time()
        rest.post("/jobs", json=definition(job_id)).raise_for_status()
        created = time.time()
        run_id = rest.post(f"/jobs/{job_id}/trigger").raise_for_status().json()["jobRunId"]
        triggered = time.time()
        run = airflow.client.wait_until(
            "the run's start", lambda job_id=job_id, run_id=run_id: started(airflow, job_id, run_id), 60, 0.05
        )
        parts.append((created - began, triggered - created, datetime.fromisoformat(run).timestamp() - began))
        airflow.wait_for_run(job_id, run_id)
    names = ("create_s", "trigger_s", "create_to_started_s")
    return {name: round(statistics.median(part[k] for part in parts), 3) for k, name in enumerate(names)}


def started(airflow: AirflowStack, job_id: str, run_id: str) -> str | None:
    start: str | None = airflow.dag_run(job_id, run_id)["start_date"]
    return start


MIXED = "(ARRAY['success','success','success','failed','running','up_for_retry',NULL])[1 + n % 7]"


def large_run(
    airflow: AirflowStack, rest: httpx.Client, size: int, job: dict[str, Any] | None = None, state: str = MIXED
) -> str:
    """A run of that many items: its first item's rows, many times over.

    :param job: by default of five items, on trigger; its id is ``large`` in any case
    :param state: SQL for the state of item n
    """
    job = job or {**definition("large"), "schedule": None}
    first_copy = len(job["payload"])
    rest.post("/jobs", json={**job, "id": "large"}).raise_for_status()
    run_id: str = rest.post("/jobs/large/trigger").raise_for_status().json()["jobRunId"]
    airflow.wait_for_run("large", run_id)
    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))

    def copied(table: str, changed: dict[str, str], where: str) -> str:
        columns = [column["name"] for column in sqlalchemy.inspect(engine).get_columns(table)]
        values = ", ".join(changed.get(name, f't."{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        return (
            f'INSERT INTO "{table}" ({names}) SELECT {values} FROM "{table}" t, '
            f"generate_series({first_copy}, {size - 1}) n WHERE {where}"
        )

    # The plan's list, as long as that.
    first_item = job["payload"][0]
    item = {"api": first_item["apiName"], "parameters": json.dumps(first_item["parameters"]), "requestTimeout": 600.0,
            "retry": {"maximumAttempts": 5, "initialInterval": 1000, "backoffCoefficient": 1.0}}  # fmt: skip
    with engine.begin() as connection:
        first = "t.dag_id = 'large' AND t.task_id = 'payload' AND t.map_index = 0"
        changed = {"id": "gen_random_uuid()", "map_index": "n", "state": state}
        connection.exec_driver_sql(copied("task_instance", changed, first).replace("%", "%%"))
        # Each result says whose it is.
        value = "jsonb_set(t.value::jsonb, '{index}', to_jsonb(n))::json"
        changed = {"map_index": "n", "value": value}
        connection.exec_driver_sql(copied("xcom", changed, first + " AND t.key = 'return_value'"))
        connection.execute(
            sqlalchemy.text(
                "UPDATE xcom SET value = :value WHERE dag_id = 'large' AND task_id = 'plan' AND key = :key"
            ),
            {"value": json.dumps([item] * size), "key": "return_value"},
        )
        connection.exec_driver_sql(f"UPDATE task_map SET length = {size} WHERE dag_id = 'large'")
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()
    return run_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ajp-rest-"))
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_text(FACTORY)
    (home / "acme_bench.py").write_text(MODULE)
    config = {"jobs": {"python_targets": "acme_bench:*"}}
    with (
        AirflowStack(home / "dags", home=home, config=config, env={"PYTHONPATH": str(home)}) as airflow,
        airflow.jobs_api() as rest,
    ):
        create_to_run(airflow, rest, 1, "warm")
        few = create_to_run(airflow, rest, min(5, options.rounds), "few")
        report("create to a run's start, few jobs", **few, bound="create_to_started_s <= 1")

        before = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            ids = [f"job-{n:04}" for n in range(options.jobs)]
            list(pool.map(lambda job_id: rest.post("/jobs", json=definition(job_id)).raise_for_status(), ids))
        took = time.perf_counter() - before
        report("jobs created, 8 at a time", jobs=options.jobs, per_second=round(options.jobs / took, 1))

        parsed = airflow.api("GET", "dags/job-0000")["last_parsed_time"]
        airflow.client.wait_until(
            "a parse of all", lambda: airflow.api("GET", "dags/job-0000")["last_parsed_time"] > parsed, 120
        )
        airflow.client.wait_until(
            "a whole parse", lambda: airflow.api("GET", "dags/job-0000/details")["last_parse_duration"], 120
        )
        duration = airflow.api("GET", "dags/job-0000/details")["last_parse_duration"]
        report("parse of all stored jobs", jobs=options.jobs, parse_s=round(duration, 2), bound="parse_s < 5")

        many = create_to_run(airflow, rest, min(5, options.rounds), "many")
        report("create to a run's start, many jobs", jobs=options.jobs, **many, bound="create_to_started_s <= 1")

        run_id = large_run(airflow, rest, options.items)
        one = f"/jobs/large/runs/{run_id}"
        paths = {
            "list of all jobs": "/jobs",
            "a page of 50 jobs": "/jobs?pageSize=50",
            "one job": "/jobs/large",
            "status of a large run": one,
            "a page of runs": "/jobs/large/runs",
            "a page of 100 items of a large run": f"{one}/payloads",
            "failed items of a large run": f"{one}/payloads?status=FAILED",
        }
        counted = queries(airflow, *(f"/jobs/api/v1{path}" for path in paths.values()))
        for name, path in paths.items():
            figures = timed(lambda path=path: rest.get(path), options.rounds)
            report(name, jobs=options.jobs, items=options.items, **figures, queries=counted[f"/jobs/api/v1{path}"])
        before = time.perf_counter()
        size = lines = 0
        with rest.stream("GET", f"{one}/results") as response:
            for line in response.iter_lines():
                lines += 1
                size += len(line)
        took = time.perf_counter() - before
        report("results of a large run, streamed", lines=lines, megabytes=round(size / 1e6, 1), seconds=round(took, 2))


if __name__ == "__main__":
    main()
