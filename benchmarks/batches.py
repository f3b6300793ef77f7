"""Many items to a task instance.  Run: python benchmarks/batches.py [--only NAME …] [--scale 1.0]

Boots a real Airflow with an API in a process of its own. Prints one JSON line per figure:

- instant:  2,000 instant items at 16 at once, against the http provider's mapped HttpOperator on a part of them;
- calls:    10,000 items of 100 ms at 50 at once, against the time that the calls themselves need;
- large:    the same of 100,000 items;
- bytes:    10,000 results of 10 kB each;
- pause:    from pausing to the last call that was begun, and from resuming to the first one;
- kill:     what killing the worker in the middle costs;
- appends:  1,000 appends of one item into a run that is going.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy
from sinks import Counting
from throughput import peer_rate, report

from airflow_jobs_plugin.demo.processes import free_ports
from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.run import DAG_FILE
from airflow_jobs_plugin.demo.stack import AirflowStack

ENDED = ("SUCCESS", "COMPLETED", "FAILURE", "TERMINATED")
TABLES = ("task_instance", "task_instance_history", "xcom", "task_state_store", "log", "rendered_task_instance_fields")


@contextmanager
def api() -> Iterator[str]:
    """The API; gives its address."""
    (port,) = free_ports(1)
    server = subprocess.Popen([sys.executable, str(Path(__file__).with_name("quick.py")), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/stats", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()


class Memory(threading.Thread):
    """The largest resident memory of Airflow's components, and of a process that runs tasks, in MB."""

    def __init__(self, airflow: AirflowStack) -> None:
        super().__init__(daemon=True)
        self._components = {name: process.running()[0] for name, process in airflow.processes.items()}
        self._stop_it = threading.Event()
        self.most: dict[str, float] = {}

    def run(self) -> None:
        while not self._stop_it.wait(0.3):
            for name, component in self._components.items():
                try:
                    self._note(name, component.memory_info().rss)
                    if name == "scheduler":
                        for child in component.children(recursive=True):
                            self._note("task", child.memory_info().rss)
                except psutil.Error:
                    pass

    def _note(self, name: str, size: float) -> None:
        self.most[name] = max(self.most.get(name, 0), round(size / 1e6))

    def stop(self) -> dict[str, float]:
        self._stop_it.set()
        self.join()
        return self.most


class Bench:
    def __init__(self, airflow: AirflowStack, rest: httpx.Client, url: str, receiver: WebhookReceiver) -> None:
        self.airflow, self.rest, self.url, self.receiver = airflow, rest, url, receiver
        self.engine = sqlalchemy.create_engine(airflow.postgres.url("psycopg2"))

    def job(
        self, name: str, items: int, lanes: int, size: int, seconds: float = 0, bytes_: int = 0, **more: Any
    ) -> None:
        parameters = {"seconds": seconds, "bytes": bytes_}
        payload = [{"api": "echo", "parameters": {"n": n, **parameters}} for n in range(items)]
        configuration = {"maxConcurrentRequests": lanes, "itemsPerTask": size}
        definition = {"payload": payload, "configuration": configuration, **more}
        (self.airflow.dags_folder / "jobs" / f"{name}.job.json").write_text(json.dumps(definition))
        self.airflow.wait_for_dag(name)

    def stats(self, forget: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/stats{'?forget' if forget else ''}", trust_env=False).json()
        return found

    def rows(self) -> dict[str, int]:
        with self.engine.connect() as connection:
            return {t: connection.scalar(sqlalchemy.text(f"SELECT count(*) FROM {t}")) or 0 for t in TABLES}

    def stored(self) -> int:
        """Bytes of the task state store on disk."""
        with self.engine.connect() as connection:
            return connection.scalar(sqlalchemy.text("SELECT pg_total_relation_size('task_state_store')")) or 0

    def run_of(self, job: str, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.rest.get(f"/jobs/{job}/runs/{run}").raise_for_status().json()["jobRun"]
        return found

    def wait(self, job: str, run: str, seconds: float = 900) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (found := self.run_of(job, run))["status"] not in ENDED:
            if time.monotonic() > end:
                raise TimeoutError(json.dumps(found))
            time.sleep(0.25)
        return found

    def until(self, probe: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not probe():
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.05)

    def warm_up(self) -> None:
        """The first run after a start waits some seconds for what Airflow's API server makes when it is first asked."""
        self.job("warm", 20, 5, 10)
        self.wait("warm", self.airflow.trigger("warm"))

    # -- figures -------------------------------------------------------------------------------------------

    def instant(self, items: int) -> float:
        self.job("instant", items, 16, 1000)
        self.stats(forget=True)
        begun = time.monotonic()
        run = self.wait("instant", self.airflow.trigger("instant"))
        took = time.monotonic() - begun
        assert run["status"] == "SUCCESS"
        assert self.stats()["calls"] == items
        return items / took

    def calls(self, name: str, items: int, size: int, bytes_: int = 0) -> None:
        # Larger bodies than the receiver of the tests takes go to one that counts and keeps nothing.
        large = Counting() if bytes_ else None
        url = f"http://127.0.0.1:{large.server_port}" if large else self.receiver.url
        sink = {"type": "webhook", "url": f"{url}/{name}"}
        self.job(name, items, 50, size, 0.1, bytes_, sink=sink)
        time.sleep(3)
        self.stats(forget=True)
        self.receiver.ledger.clear()
        before, memory = self.rows(), Memory(self.airflow)
        memory.start()
        begun = time.time()
        run_id = self.airflow.trigger(name)
        looks = []
        while True:
            look = time.monotonic()
            run = self.run_of(name, run_id)
            looks.append(time.monotonic() - look)
            if run["status"] in ENDED:
                break
            time.sleep(0.5)
        if large:
            large.shutdown()
            assert large.results == items
        delivered = (large.last if large else self.receiver.ledger.all()[-1].time) - begun
        stats = self.stats()
        assert (run["status"], stats["calls"], stats["repeated"]) == ("SUCCESS", items, 0), (run, stats)
        assert stats["most_at_once"] <= 50
        page = time.monotonic()
        self.rest.get(
            f"/jobs/{name}/runs/{run_id}/payloads", params={"pageSize": 100, "pageNumber": 7}
        ).raise_for_status()
        page = time.monotonic() - page
        ideal = items * 0.1 / 50
        report(
            f"{items:,} calls of 100 ms at 50 at once" + (f", {bytes_:,} bytes each" if bytes_ else ""),
            items_per_task=size,
            ideal_s=ideal,
            to_first_call_s=round(stats["first"] - begun, 1),
            calling_s=round(stats["last"] - stats["first"], 1),
            trigger_to_delivery_s=round(delivered, 1),
            ratio=round(delivered / ideal, 2),
            bound="<= 1.3 for 10,000",
            memory_mb=memory.stop(),
            rows={name: n - before[name] for name, n in self.rows().items()},
            state_store_mb=round(self.stored() / 1e6, 1),
            status_ms={"median": round(statistics.median(looks) * 1000), "max": round(max(looks) * 1000)},
            page_of_items_ms=round(page * 1000),
        )

    def pause(self, items: int) -> None:
        self.job("pause", items, 20, 2000, 0.1)
        self.stats(forget=True)
        run = self.airflow.trigger("pause")
        self.until(lambda: self.stats()["calls"] > items // 10)
        self.rest.post("/jobs/pause/pause").raise_for_status()
        paused = time.time()
        self.until(lambda: self.run_of("pause", run)["status"] == "PAUSED")
        back = time.time() - paused
        stats = self.stats()
        time.sleep(2)
        assert self.stats()["calls"] == stats["calls"]
        self.rest.post("/jobs/pause/resume").raise_for_status()
        resumed = time.time()
        self.until(lambda: self.stats()["calls"] > stats["calls"])
        again = time.time() - resumed
        assert self.wait("pause", run)["status"] == "SUCCESS"
        found = self.stats()
        assert (found["calls"], found["repeated"]) == (items, 0)
        report("pausing a batch", last_answer_after_s=round(stats["last"] - paused, 2), paused_after_s=round(back, 2),
               next_call_after_resume_s=round(again, 2), repeated=0)  # fmt: skip

    def kill(self, items: int) -> None:
        self.job("kill", items, 50, items, 0.1)
        for how in (None, signal.SIGKILL):
            self.stats(forget=True)
            begun = time.monotonic()
            run = self.airflow.trigger("kill")
            if how is not None:
                self.until(lambda: self.stats()["calls"] > items // 2)
                port = int(self.url.rsplit(":", 1)[1])
                for child in self.airflow.processes["scheduler"].running()[1:]:
                    try:
                        if any(c.raddr and c.raddr.port == port for c in child.net_connections("tcp")):
                            os.kill(child.pid, how)
                    except psutil.Error:
                        pass
            ended = self.wait("kill", run)
            took = time.monotonic() - begun
            stats = self.stats()
            assert (ended["status"], stats["items"]) == ("SUCCESS", items), ended
            name = "a batch of calls of 100 ms, its worker " + ("killed in the middle" if how else "left alone")
            report(name, items=items, seconds=round(took, 1), repeated_calls=stats["calls"] - items)

    def appends(self, count: int) -> None:
        self.job("appends", 400, 20, 100, 1.0)
        self.stats(forget=True)
        run = self.airflow.trigger("appends")
        self.until(lambda: self.stats()["calls"] > 20)
        took = []
        begun = time.monotonic()
        for n in range(count):
            before = time.monotonic()
            body = {"payload": [{"api": "echo", "parameters": {"n": n}}]}
            self.rest.post(f"/jobs/appends/runs/{run}/payloads", json=body).raise_for_status()
            took.append(time.monotonic() - before)
        all_of_them = time.monotonic() - begun
        ended = self.wait("appends", run)
        stats = self.stats()
        assert (ended["status"], stats["items"], stats["repeated"]) == ("SUCCESS", 400 + count, 0), (ended, stats)
        tasks = len(self.airflow.task_instances("appends", run, "payload"))
        report(f"{count:,} appends into a running batch run", seconds=round(all_of_them, 1), task_instances=tasks,
               median_ms=round(statistics.median(took) * 1000, 1), max_ms=round(max(took) * 1000))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("instant", "calls", "large", "bytes", "pause", "kill", "appends")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the items, for a short run")
    parser.add_argument("--peer-items", type=int, default=100)
    options = parser.parse_args()

    def part(items: int) -> int:
        return max(50, round(items * options.scale))

    with api() as url:
        home = Path(tempfile.mkdtemp(prefix="ajp-batches-"))
        (home / "dags" / "jobs").mkdir(parents=True)
        (home / "dags" / "jobs.py").write_text(DAG_FILE)
        connections = {"airflow_jobs_default": url}
        with (
            WebhookReceiver() as receiver,
            AirflowStack(home / "dags", home=home, connections=connections) as airflow,
            airflow.jobs_api() as rest,
        ):
            bench = Bench(airflow, rest, url, receiver)
            bench.warm_up()
            rate = bench.instant(part(2000)) if "instant" in options.only else 0.0
            if "calls" in options.only:
                bench.calls("calls", part(10_000), part(5000))
            if "large" in options.only:
                bench.calls("large", part(100_000), part(5000))
            if "bytes" in options.only:
                bench.calls("bytes", part(10_000), part(5000), 10_000)
            if "pause" in options.only:
                bench.pause(part(6000))
            if "kill" in options.only:
                bench.kill(part(6000))
            if "appends" in options.only:
                bench.appends(part(1000))
        if rate:
            figures: dict[str, Any] = {"items": part(2000), "at_once": 16, "per_second": round(rate, 1)}
            if options.peer_items:
                peer = peer_rate(url, options.peer_items, 16)
                figures |= {"peer_per_second": round(peer, 2), "times": round(rate / peer), "bound": ">= 100"}
            report("instant items against the mapped HttpOperator", **figures)


if __name__ == "__main__":
    main()
