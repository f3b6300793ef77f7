"""What a page of the Jobs tab costs at the server: a list of many jobs, a large run.  Run: python benchmarks/ui.py

Boots a real Airflow. Latencies are those of a client on the same machine that reads the whole page; its peer is the
same page of items from the REST API, as JSON. The large run is written into the database, not executed: each item with
a task instance of its own. Another one is executed, in batches. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
from rest import FACTORY, MODULE, definition, large_run

from airflow_jobs_plugin.demo.stack import AirflowStack

#: Milliseconds, for a page of a run of 10,000 items.
BOUND = 300


def report(name: str, **figures: object) -> None:
    print(json.dumps({"benchmark": name, **figures}), flush=True)


def timed(call: Callable[[], httpx.Response], rounds: int) -> dict[str, float]:
    """Median and 95th percentile in milliseconds, after one call that warms up, and the size of the answer."""
    call().raise_for_status()
    took = []
    size = 0
    for _ in range(rounds):
        before = time.perf_counter()
        size = len(call().raise_for_status().content)
        took.append((time.perf_counter() - before) * 1e3)
    return {
        "median_ms": round(statistics.median(took), 1),
        "p95_ms": round(statistics.quantiles(took, n=20)[-1], 1),
        "kilobytes": round(size / 1e3, 1),
    }


def batched_run(airflow: AirflowStack, rest: httpx.Client, size: int) -> str:
    """A run of that many items, a thousand to a task instance."""
    payload = [{"apiName": "acme_bench:add", "parameters": {"a": n, "b": 2}} for n in range(size)]
    configuration = {"itemsPerTask": 1000, "maxConcurrentRequests": 50}
    job = {"id": "batched", "payload": payload, "target": {"type": "python"}, "configuration": configuration}
    rest.post("/jobs", json=job).raise_for_status()
    run_id: str = rest.post("/jobs/batched/trigger").raise_for_status().json()["jobRunId"]
    airflow.wait_for_run("batched", run_id, 600)
    return run_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", choices=("large", "batched"), nargs="*", default=("large", "batched"))
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ajp-ui-"))
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_text(FACTORY)
    (home / "acme_bench.py").write_text(MODULE)
    config = {"jobs": {"python_targets": "acme_bench:*"}}
    with (
        AirflowStack(home / "dags", home=home, config=config, env={"PYTHONPATH": str(home)}) as airflow,
        airflow.jobs_api() as rest,
    ):
        with ThreadPoolExecutor(8) as pool:
            made = [definition(f"job-{n:04}") for n in range(options.jobs)]
            list(pool.map(lambda job: rest.post("/jobs", json=job).raise_for_status(), made))
        make = {"large": large_run, "batched": batched_run}
        runs = {name: make[name](airflow, rest, options.items) for name in options.only}
        with httpx.Client(
            base_url=f"{airflow.base_url}/jobs/ui", headers=dict(rest.headers), timeout=60, trust_env=False
        ) as pages:
            report("the list of jobs", jobs=options.jobs, **timed(lambda: pages.get("/"), options.rounds))
            report("a job", **timed(lambda: pages.get("/job/job-0000"), options.rounds))
            for job, run_id in runs.items():
                one = f"/job/{job}/run/{quote(run_id, safe='')}"
                last = options.items // 50
                for name, path in {
                    "its page": one,
                    "its last page of items": f"{one}?page={last}",
                    "a search in its items": f"{one}/items?q=acme",
                    "its items that failed": f"{one}/items?status=FAILED",
                    "a look at its progress": f"{one}/live",
                    "one of its items": f"{one}/item/{options.items - 1}",
                }.items():
                    figures = timed(lambda path=path: pages.get(path), options.rounds)
                    report(f"{name}, {job}", items=options.items, **figures, bound=f"p95_ms < {BOUND}")
                path = f"/jobs/{job}/runs/{quote(run_id, safe='')}/payloads?pageSize=50"
                peer = timed(lambda path=path: rest.get(path), options.rounds)
                report(f"50 of its items from the REST API, {job}", items=options.items, **peer)


if __name__ == "__main__":
    main()
