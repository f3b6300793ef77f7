"""What it takes to deliver a large run.  Run: python benchmarks/sinks.py [--items 10000] [--bytes 10000]

Boots a real Airflow and has the results of a run, which is written into the database, delivered: to a webhook, and to
an S3-compatible store over the wire. ``seconds`` are those of the closing task, ``delivering_s`` of these the reading
and sending of results; the rest is Airflow's way to start a task after so many. Memory is that of the closing task's
process, at its start and at its highest. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import sqlalchemy
from moto.server import ThreadedMotoServer
from rest import large_run, report

from airflow_jobs_plugin.demo.run import DAG_FILE
from airflow_jobs_plugin.demo.stack import AirflowStack

MODULE = """
def blob(size):
    return "x" * size
"""


class Counting(ThreadingHTTPServer):
    """A webhook receiver that counts what it gets and keeps nothing."""

    def __init__(self) -> None:
        self.requests, self.bytes, self.results = 0, 0, 0
        #: When it got the last one.
        self.last = 0.0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                left = int(self.headers["Content-Length"])
                size, results = left, 0
                tail = b""
                while left:
                    part = self.rfile.read(min(left, 1 << 16))
                    left -= len(part)
                    results += (tail + part).count(b'"apiInfo"')
                    tail = part[-8:]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                with owner._lock:
                    owner.requests += 1
                    owner.bytes += size
                    owner.results += results
                    owner.last = time.time()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Memory(threading.Thread):
    """Watches the process that runs the closing task: the only task of this Airflow meanwhile."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stop_it = threading.Event()
        self.first = self.most = 0

    def run(self) -> None:
        watched: psutil.Process | None = None
        while not self._stop_it.wait(0.2):
            try:
                if watched is None:
                    watched = next(tasks(), None)
                    continue
                rss = watched.memory_info().rss
                self.first = self.first or rss
                self.most = max(self.most, rss)
            except psutil.Error:
                watched = None

    def stop(self) -> dict[str, float]:
        self._stop_it.set()
        self.join()
        return {"start_mb": round(self.first / 1e6), "highest_mb": round(self.most / 1e6)}


def tasks() -> Iterator[psutil.Process]:
    """Processes that run a task. Airflow gives them, and those that watch over them, titles that say so."""
    for process in psutil.Process().children(recursive=True):
        title = ""
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
        if title.startswith("airflow worker -- ") and "LocalExecutor" not in title:
            yield process


def redelivered(
    airflow: AirflowStack, rest: httpx.Client, run_id: str, sink: dict[str, Any], job: dict[str, Any]
) -> dict[str, float]:
    """Deliver the run's results to a sink; returns the seconds that the closing task took, and those of delivering."""
    rest.put("/jobs/large", json={**job, "sink": sink}).raise_for_status()
    rest.post(f"/jobs/large/runs/{run_id}/redeliver").raise_for_status()

    def ended() -> Any:
        try:
            run = rest.get(f"/jobs/large/runs/{run_id}", timeout=120).raise_for_status().json()["jobRun"]
        except httpx.TimeoutException:
            return None
        return run if run["status"] != "PENDING" else None

    run = airflow.client.wait_until("the end of the delivery", ended, 1200, 2)
    if (run["delivery"] or {}).get("status") != "delivered":
        raise RuntimeError(json.dumps(run)[:2000])
    sink_task = airflow.task_instances("large", run_id, "sink")[0]
    engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))
    with engine.connect() as connection:
        notes = connection.exec_driver_sql(
            "SELECT value, updated_at FROM task_state_store WHERE dag_id = 'large' AND key LIKE 'delivery-%%' "
            "ORDER BY updated_at DESC LIMIT 1"
        ).one()
    engine.dispose()
    took = notes.updated_at - datetime.fromisoformat(json.loads(notes.value)["since"])
    return {"seconds": round(sink_task["duration"], 1), "delivering_s": round(took.total_seconds(), 1)}


@contextmanager
def store() -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="results")
    yield client, url
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=10_000, help="of each result")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ajp-sinks-"))
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_text(DAG_FILE)
    (home / "acme_bench.py").write_text(MODULE)
    config = {
        "jobs": {"python_targets": "acme_bench:*", "sink_private_addresses": "all"},
        # On a machine that is busy the API server takes more than its five seconds to let a task of such a run begin.
        "workers": {"execution_api_timeout": 120},
    }
    job = {
        "payload": [{"apiName": "acme_bench:blob", "parameters": {"size": options.bytes}}],
        "target": {"type": "python"},
    }
    with (
        store() as (s3, s3_url),
        AirflowStack(home / "dags", home=home, config=config, env={"PYTHONPATH": str(home)}) as airflow,
        airflow.jobs_api() as rest,
    ):
        run_id = large_run(airflow, rest, options.items, job, "'success'")
        for delivery in ("run", "payload"):
            receiver = Counting()
            port = receiver.server_address[1]
            watch = Memory()
            watch.start()
            sink = {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "delivery": delivery}
            took = redelivered(airflow, rest, run_id, sink, job)
            report(
                f"a run to a webhook, delivery {delivery}",
                items=options.items,
                megabytes=round(receiver.bytes / 1e6, 1),
                requests=receiver.requests,
                results=receiver.results,
                **took,
                **watch.stop(),
                bound="highest_mb - start_mb < 100",
            )
            assert receiver.results == options.items
            receiver.shutdown()
        for kind in ("json", "jsonl"):
            watch = Memory()
            watch.start()
            sink = {
                "type": "s3", "bucket": "results", "key": f"large.{kind}", "format": kind, "region": "us-east-1",
                "endpoint": s3_url, "forcePathStyle": True, "accessKeyId": "a", "secretAccessKey": "b",
            }  # fmt: skip
            took = redelivered(airflow, rest, run_id, sink, job)
            body = s3.get_object(Bucket="results", Key=f"large.{kind}")["Body"].read()
            results = json.loads(body)["results"] if kind == "json" else body.splitlines()
            assert len(results) == options.items
            report(
                f"a run to S3, {kind}", items=options.items, megabytes=round(len(body) / 1e6, 1),
                **took, sha256=hashlib.sha256(body).hexdigest()[:12],
                **watch.stop(), bound="highest_mb - start_mb < 100",
            )  # fmt: skip


if __name__ == "__main__":
    main()
