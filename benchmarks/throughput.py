"""Items per second of a run, and the time from trigger to first call.  Run: python benchmarks/throughput.py

Boots a real Airflow for the jobs plugin and another one for its peer, the http provider's mapped HttpOperator,
on a set-up that has never heard of the plugin's preloading. Both run the same list against the same server, at
the same concurrency. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.demo.stack import AirflowStack

JOBS = '''"""An Airflow DAG per job file."""
from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
'''

PEER = """
import json

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG

with DAG("peer", schedule=None, catchup=False, is_paused_upon_creation=False, max_active_tasks={lanes}):
    HttpOperator.partial(
        task_id="call",
        http_conn_id="airflow_jobs_default",
        endpoint="echo",
        method="POST",
        headers={{"Content-Type": "application/json"}},
        retries=2,
        max_active_tis_per_dagrun={lanes},
    ).expand(data=[json.dumps({{"n": n}}) for n in range({items})])
"""


class Echo(LocalServer):
    """Answers at once."""

    def reply(self, request: Received) -> Reply:
        return Reply(200, {"echo": request.body})


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}), flush=True)


def stack(url: str, dags: Path, preload: bool) -> AirflowStack:
    # dag-factory, a peer of another benchmark, brings an Airflow plugin that loads the http provider into every
    # component. An Airflow without it is what both sides are measured on.
    hidden = Path(tempfile.mkdtemp()) / "dagfactory"
    hidden.mkdir()
    (hidden / "__init__.py").write_text('raise ImportError("hidden from this benchmark")\n')
    return AirflowStack(
        dags,
        connections={"airflow_jobs_default": url},
        config={"jobs": {"preload": preload}},
        env={"PYTHONPATH": str(hidden.parent)},
    )


def measured(airflow: AirflowStack, dag_id: str, items: int) -> float:
    """Items per second of one run, from its start to its end as Airflow recorded them."""
    airflow.wait_for_dag(dag_id)
    run = airflow.wait_for_run(dag_id, airflow.trigger(dag_id), timeout=900)
    if run["state"] != "success":
        raise SystemExit(f"the run of {dag_id} ended as {run['state']}")
    start, end = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
    return items / (end - start).total_seconds()


def job_rate(server: Echo, items: int, lanes: int, latencies: int) -> tuple[float, list[float], dict[str, float]]:
    dags = Path(tempfile.mkdtemp())
    (dags / "jobs").mkdir()
    (dags / "jobs.py").write_text(JOBS)
    payload = [{"api": "echo", "parameters": {"n": n}} for n in range(items)]
    definition = {"payload": payload, "configuration": {"maxConcurrentRequests": lanes}}
    (dags / "jobs" / "many.job.json").write_text(json.dumps(definition))
    (dags / "jobs" / "one.job.json").write_text(json.dumps({"payload": payload[:1]}))
    with stack(server.url, dags, preload=True) as airflow:
        airflow.wait_for_dag("one")
        waits: list[float] = []
        parts: list[dict[str, float]] = []
        for _ in range(latencies):
            time.sleep(2)
            known = len(server.ledger)
            before = time.time()
            run_id = airflow.trigger("one")
            airflow.wait_for_run("one", run_id)
            waits.append(server.ledger.all()[known].time - before)
            parts.append(breakdown(airflow, run_id, before, before + waits[-1]))
        rate = measured(airflow, "many", items)
    means = {name: round(statistics.median(part[name] for part in parts), 2) for name in parts[0]} if parts else {}
    return rate, waits, means


def breakdown(airflow: AirflowStack, run_id: str, triggered: float, called: float) -> dict[str, float]:
    """Where the time from trigger to first call goes, in seconds, as Airflow recorded it."""
    run = airflow.dag_run("one", run_id)
    tis = {ti["task_id"]: ti for ti in airflow.task_instances("one", run_id)}

    def at(value: str) -> float:
        return datetime.fromisoformat(value).timestamp()

    plan, item = tis["plan"], tis["payload"]
    return {
        "trigger to run started": at(run["start_date"]) - triggered,
        "run to plan queued": at(plan["queued_when"]) - at(run["start_date"]),
        "plan queued to started": at(plan["start_date"]) - at(plan["queued_when"]),
        "plan": at(plan["end_date"]) - at(plan["start_date"]),
        "plan to item queued": at(item["queued_when"]) - at(plan["end_date"]),
        "item queued to started": at(item["start_date"]) - at(item["queued_when"]),
        "item started to called": called - at(item["start_date"]),
    }


def peer_rate(url: str, items: int, lanes: int) -> float:
    dags = Path(tempfile.mkdtemp())
    (dags / "peer.py").write_text(PEER.format(items=items, lanes=lanes))
    with stack(url, dags, preload=False) as airflow:
        return measured(airflow, "peer", items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--latencies", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    with Echo() as server:
        for _ in range(options.rounds):
            ours, waits, parts = job_rate(server, options.items, options.lanes, options.latencies)
            figures: dict[str, Any] = {"items": options.items, "at_once": options.lanes, "per_second": round(ours, 2)}
            if not options.no_peer:
                peer = peer_rate(server.url, options.items, options.lanes)
                figures |= {"peer_per_second": round(peer, 2), "ratio": round(ours / peer, 2), "bound": ">= 2"}
            report("items per second against the mapped HttpOperator", **figures)
            if waits:
                report("trigger to first call", median_s=round(statistics.median(waits), 2),
                       all_s=[round(wait, 2) for wait in waits], parts_s=parts)  # fmt: skip


if __name__ == "__main__":
    main()
