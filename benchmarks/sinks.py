"""What it takes to deliver a large run.  Run: python benchmarks/sinks.py [--items 10000] [--bytes 10000]

Boots a real Airflow and has the results of a run, which is written into the database, delivered: to a webhook, and to
an S3-compatible store over the wire. Memory is that of the closing task's process, at its start and at its highest.
Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
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

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Memory(threading.Thread):
    """Watches the process that runs the closing task: the one that is connected to the given port."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self._stop_it = port, threading.Event()
        self.first = self.most = 0

    def run(self) -> None:
        watched: psutil.Process | None = None
        while not self._stop_it.wait(0.05):
            try:
                if watched is None:
                    watched = next((p for p in tasks() if connected(p, self._port)), None)
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
    own = psutil.Process()
    yield from own.children(recursive=True)


def connected(process: psutil.Process, port: int) -> bool:
    return any(c.raddr and c.raddr.port == port for c in process.net_connections("tcp"))


def redelivered(
    airflow: AirflowStack, rest: httpx.Client, run_id: str, sink: dict[str, Any], job: dict[str, Any]
) -> float:
    """Deliver the run's results to a sink; returns the seconds that the closing task took."""
    rest.put("/jobs/large", json={**job, "sink": sink}).raise_for_status()
    rest.post(f"/jobs/large/runs/{run_id}/redeliver").raise_for_status()
    airflow.wait_for_run("large", run_id, 600)
    run = rest.get(f"/jobs/large/runs/{run_id}").raise_for_status().json()["jobRun"]
    if (run["delivery"] or {}).get("status") != "delivered":
        raise RuntimeError(json.dumps(run)[:2000])
    sink_task = airflow.task_instances("large", run_id, "sink")[0]
    return float(sink_task["duration"])


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
    yield client, port, url
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
    config = {"jobs": {"python_targets": "acme_bench:*", "sink_private_addresses": "all"}}
    job = {
        "payload": [{"apiName": "acme_bench:blob", "parameters": {"size": options.bytes}}],
        "target": {"type": "python"},
    }
    with (
        store() as (s3, s3_port, s3_url),
        AirflowStack(home / "dags", home=home, config=config, env={"PYTHONPATH": str(home)}) as airflow,
        airflow.jobs_api() as rest,
    ):
        run_id = large_run(airflow, rest, options.items, job, "'success'")
        for delivery in ("run", "payload"):
            receiver = Counting()
            port = receiver.server_address[1]
            watch = Memory(port)
            watch.start()
            sink = {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "delivery": delivery}
            took = redelivered(airflow, rest, run_id, sink, job)
            report(
                f"a run to a webhook, delivery {delivery}",
                items=options.items,
                megabytes=round(receiver.bytes / 1e6, 1),
                requests=receiver.requests,
                results=receiver.results,
                seconds=round(took, 1),
                **watch.stop(),
                bound="highest_mb - start_mb < 100",
            )
            assert receiver.results == options.items
            receiver.shutdown()
        for kind in ("json", "jsonl"):
            watch = Memory(s3_port)
            watch.start()
            sink = {
                "type": "s3", "bucket": "results", "key": f"large.{kind}", "format": kind, "region": "us-east-1",
                "endpoint": s3_url, "forcePathStyle": True, "accessKeyId": "a", "secretAccessKey": "b",
            }  # fmt: skip
            before = time.perf_counter()
            took = redelivered(airflow, rest, run_id, sink, job)
            body = s3.get_object(Bucket="results", Key=f"large.{kind}")["Body"].read()
            results = json.loads(body)["results"] if kind == "json" else body.splitlines()
            assert len(results) == options.items
            report(
                f"a run to S3, {kind}", items=options.items, megabytes=round(len(body) / 1e6, 1),
                seconds=round(took, 1),
                wall_s=round(time.perf_counter() - before, 1), sha256=hashlib.sha256(body).hexdigest()[:12],
                **watch.stop(), bound="highest_mb - start_mb < 100",
            )  # fmt: skip


if __name__ == "__main__":
    main()
