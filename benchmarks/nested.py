"""What growing a run costs.  Run: python benchmarks/nested.py [--items 1000] [--sizes 100 1000 10000]

Boots a real Airflow with an API that answers at once. Prints one JSON line per figure:

- from an append to the call of its item, in a run that is otherwise waiting;
- one append of one item and of a thousand, to runs that have so many items already;
- what others wait for an answer while fifty callers append to such a run;
- a crawl of one item that grows to so many over four levels, against a run whose list has them from the start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy

from airflow_jobs_plugin.demo.run import DAG_FILE
from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply
from airflow_jobs_plugin.demo.stack import AirflowStack

AT_ONCE = 16
CROWD = 50
FINISHED = ("SUCCESS", "COMPLETED", "FAILURE", "TERMINATED")


class Api(LocalServer):
    """``hold`` answers when it is told to, ``grow`` with what comes next, everything else at once."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def reply(self, request: Received) -> Reply:
        if request.path == "/hold":
            self.release.wait(600)
        widths = (request.body or {}).get("widths") or []
        more = [
            {"api": "grow", "parameters": {"widths": widths[1:], "n": n}} for n in range(widths[0] if widths else 0)
        ]
        return Reply(200, {"extendedPayloads": more})

    def times(self, job_id: str, api: str) -> dict[int, float]:
        """When each item of a job was called first."""
        times: dict[int, float] = {}
        for call in self.ledger.all():
            if call.headers.get("x-job-id") == job_id and call.path == f"/{api}":
                times.setdefault(int(call.headers["x-item-index"]), call.time)
        return times


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}), flush=True)


class Runs:
    """Jobs on the running Airflow."""

    def __init__(self, airflow: AirflowStack, rest: httpx.Client) -> None:
        self.airflow, self.rest = airflow, rest

    def start(self, job_id: str, payload: list[Any], **configuration: Any) -> str:
        """Create a job and trigger it."""
        configuration = {"maxConcurrentRequests": AT_ONCE, **configuration}
        body = {"id": job_id, "payload": payload, "configuration": configuration}
        self.rest.post("/jobs", json=body).raise_for_status()
        run_id: str = self.rest.post(f"/jobs/{job_id}/trigger").raise_for_status().json()["jobRunId"]
        return run_id

    def append(self, job_id: str, run_id: str, count: int) -> float:
        """Append items; returns the seconds until the answer."""
        payload = [{"api": "quick", "parameters": {"n": n}} for n in range(count)]
        began = time.perf_counter()
        answer = self.rest.post(f"/jobs/{job_id}/runs/{run_id}/payloads", json={"payload": payload})
        took = time.perf_counter() - began
        answer.raise_for_status()
        return took

    def until(self, what: str, probe: Callable[[], Any], timeout: float = 600) -> Any:
        return self.airflow.client.wait_until(what, probe, timeout, 0.05)

    def end(self, job_id: str, run_id: str) -> dict[str, Any]:
        """Wait for the end of a run."""

        def probe() -> Any:
            run = self.rest.get(f"/jobs/{job_id}/runs/{run_id}").raise_for_status().json()["jobRun"]
            return run if run["status"] in FINISHED else None

        run: dict[str, Any] = self.until(f"the end of {job_id}", probe, 3600)
        return run


def latency(runs: Runs, api: Api, rounds: int) -> None:
    run_id = runs.start("latency", [{"api": "hold"}])
    runs.until("the first call", lambda: api.times("latency", "hold"))
    took, answered = [], []
    for index in range(1, rounds + 1):
        began = time.time()
        answered.append(runs.append("latency", run_id, 1))
        took.append(runs.until("the call", lambda index=index: api.times("latency", "quick").get(index)) - began)
        time.sleep(0.3)  # not in step with the scheduler
    api.release.set()
    runs.end("latency", run_id)
    report(
        "append to its item's call",
        rounds=rounds,
        median_s=round(statistics.median(took), 2),
        max_s=round(max(took), 2),
        answer_median_ms=round(statistics.median(answered) * 1e3, 1),
    )


def sizes(runs: Runs, api: Api, wanted: list[int], rounds: int) -> None:
    """Appends to runs that have many items already. These are written into the database as done, not executed."""
    api.release.clear()
    run_id = runs.start("sizes", [{"api": "hold"}])
    runs.until("the first call", lambda: api.times("sizes", "hold"))
    engine = sqlalchemy.create_engine(runs.airflow.postgres.url("psycopg2"))
    count = 1
    for size in wanted:
        runs.rest.post("/jobs/sizes/pause").raise_for_status()
        while count < size:
            more = min(1000, size - count)
            runs.append("sizes", run_id, more)
            count += more
        one = [runs.append("sizes", run_id, 1) for _ in range(rounds)]
        thousand = runs.append("sizes", run_id, 1000)
        count += rounds + 1000
        alone = others(runs, rounds)
        with crowd(runs, "sizes", run_id) as answers:
            time.sleep(0.5)
            before, began = len(answers), time.perf_counter()
            beside = others(runs, rounds)
            per_second = (len(answers) - before) / (time.perf_counter() - began)
        count += len(answers)
        with engine.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    "UPDATE task_instance SET state = 'success', start_date = now(), end_date = now() "
                    "WHERE dag_id = 'sizes' AND task_id = 'payload' AND map_index > 0 AND state IS NULL"
                )
            )
        runs.rest.post("/jobs/sizes/resume").raise_for_status()
        took = []
        for _ in range(max(2, rounds // 4)):
            began = time.time()
            runs.append("sizes", run_id, 1)
            called = runs.until("the call", lambda index=count: api.times("sizes", "quick").get(index))
            took.append(called - began)
            count += 1
            time.sleep(0.3)
        report(
            "append to a run",
            items=size,
            one_median_ms=round(statistics.median(one) * 1e3, 1),
            one_max_ms=round(max(one) * 1e3, 1),
            thousand_ms=round(thousand * 1e3),
            to_its_call_median_s=round(statistics.median(took), 2),
            others_alone_median_ms=round(statistics.median(alone) * 1e3, 1),
            others_beside_a_crowd_median_ms=round(statistics.median(beside) * 1e3, 1),
            others_beside_a_crowd_max_ms=round(max(beside) * 1e3, 1),
            appends_of_a_crowd_per_second=round(per_second, 1),
        )
    engine.dispose()
    runs.rest.post(f"/jobs/sizes/runs/{run_id}/terminate").raise_for_status()
    api.release.set()


def others(runs: Runs, rounds: int) -> list[float]:
    """Seconds until another request is answered."""
    took = []
    for _ in range(5 * rounds):
        began = time.perf_counter()
        runs.rest.get("/jobs/sizes").raise_for_status()
        took.append(time.perf_counter() - began)
        time.sleep(0.05)
    return took


@contextmanager
def crowd(runs: Runs, job_id: str, run_id: str) -> Iterator[list[float]]:
    """Callers who append one item again and again; in the list, the seconds that each append took."""
    took: list[float] = []
    enough = threading.Event()

    def call() -> None:
        with runs.airflow.jobs_api() as own:
            while not enough.is_set():
                took.append(Runs(runs.airflow, own).append(job_id, run_id, 1))

    with ThreadPoolExecutor(CROWD) as pool:
        calling = [pool.submit(call) for _ in range(CROWD)]
        try:
            yield took
        finally:
            enough.set()
        for one in calling:
            one.result()


def crawl(runs: Runs, api: Api, items: int) -> None:
    width = max(2, round((items - 1) ** (1 / 3)))
    grown = 1 + width + width**2 + width**3
    began = time.perf_counter()
    run = runs.end("crawl", runs.start("crawl", [{"api": "grow", "parameters": {"widths": [width] * 3}}]))
    took = time.perf_counter() - began
    calls = Counter(
        int(call.headers["x-item-index"]) for call in api.ledger.all() if call.headers.get("x-job-id") == "crawl"
    )
    once = calls == Counter(range(grown))
    began = time.perf_counter()
    flat = runs.end("flat", runs.start("flat", [{"api": "quick", "parameters": {"n": n}} for n in range(grown)]))
    plain = time.perf_counter() - began
    report(
        "a crawl over four levels",
        items=grown,
        status=run["status"],
        each_called_once=once,
        seconds=round(took, 1),
        items_per_second=round(grown / took, 1),
        peer="a run whose list has as many from the start",
        peer_status=flat["status"],
        peer_seconds=round(plain, 1),
        ratio=round(took / plain, 2),
    )
    if not once or run["status"] != "SUCCESS":
        sys.exit("the crawl is not what it should be")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1111, help="of the crawl, roughly")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ajp-nested-"))
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_text(DAG_FILE)
    with (
        Api() as api,
        AirflowStack(
            home / "dags",
            home=home,
            connections={"airflow_jobs_default": api.url},
            config={"core": {"max_map_length": 100_000}},
        ) as airflow,
        airflow.jobs_api() as rest,
    ):
        runs = Runs(airflow, rest)
        latency(runs, api, options.rounds)
        sizes(runs, api, options.sizes, options.rounds)
        crawl(runs, api, options.items)


if __name__ == "__main__":
    main()
