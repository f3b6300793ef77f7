"""``airflow-jobs demo``: a real Airflow runs a real job against a real, if small, API."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from airflow_jobs_plugin.demo.catalogue import Catalogue
from airflow_jobs_plugin.demo.client import FINISHED
from airflow_jobs_plugin.demo.processes import StackError, tail
from airflow_jobs_plugin.demo.progress import RunProgress, count, describe, result_table
from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

JOB_FILE = Path(__file__).parent / "jobs" / "catalogue-demo.job.yaml"
DAG_FILE = '''\
"""Every job file beside this one becomes an Airflow DAG."""

from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
'''
CONNECTION = "airflow_jobs_default"  # the http target's default
FAILING_API = "discontinued-product"
FLAKY_API = "stock-level"
RUN_TIMEOUT = 150  # seconds


class DemoError(Exception):
    """The demo ran, and its outcome is not what it should be."""


def main(keep: bool = False, *, console: Console | None = None) -> int:
    """Run the demo and return its exit status.

    :param keep: leave Airflow up after the run until Ctrl-C or SIGTERM
    :param console: where to print; None for standard output
    :return: 0 when the delivered result is whole and as expected, 1 when not, 130 after Ctrl-C
    :raises SystemExit: 143 after SIGTERM, when everything has been stopped
    """
    # Without a terminal there is no width to respect: a log file's lines may be long.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII-only terminal gets its result too
    console = console or Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False, emoji=False)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with _sigterm_as_exit():
            return _demo(keep, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        return 130
    except (StackError, DemoError, httpx.HTTPError, TimeoutError) as error:
        console.print("The demo failed:", style="bold red")
        console.print(str(error) or repr(error))
        return 1


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that everything is stopped on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _demo(keep: bool, console: Console) -> int:
    began = time.monotonic()
    with Catalogue() as catalogue, WebhookReceiver() as receiver:
        console.print(f"A catalogue API listens on {catalogue.url}, a webhook receiver on {receiver.url}.")
        stack = AirflowStack(connections={CONNECTION: catalogue.url})
        try:
            job = _write_dags(stack.dags_folder, f"{receiver.url}/catalogue-demo")
            console.print("Starting Airflow (PostgreSQL, API server, scheduler, DAG processor) …")
            stack.start()
            console.print(f"Airflow is up after {time.monotonic() - began:.0f} s: {stack.base_url}")
            status = _run_and_judge(stack, job, catalogue, receiver, console)
            console.print(f"All in {time.monotonic() - began:.0f} s.")
            if keep:
                _wait_for_the_user(stack, job["id"], console)
            else:
                console.print(f"The UI was at {stack.base_url}; with --keep it stays up.")
            return status
        finally:
            stack.stop()


def _write_dags(folder: Path, sink_url: str) -> dict[str, Any]:
    """Write the DAG file and the job file with the receiver's URL; return the definition."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs.py").write_text(DAG_FILE)
    text = JOB_FILE.read_text()
    job: dict[str, Any] = yaml.safe_load(text)
    # Replaced in the text, so that whoever looks at the file still finds its comments.
    (folder / "jobs" / JOB_FILE.name).write_text(text.replace(job["sink"]["url"], sink_url))
    job["sink"]["url"] = sink_url
    return job


def _run_and_judge(
    stack: AirflowStack,
    job: Mapping[str, Any],
    catalogue: Catalogue,
    receiver: WebhookReceiver,
    console: Console,
) -> int:
    total = len(job["payload"])
    job_id = job["id"]
    try:
        dag = stack.wait_for_dag(job_id, timeout=30)
        if dag["is_paused"]:
            stack.client.unpause(job_id)
        run_id = stack.trigger(job_id, note="started by airflow-jobs demo")
        console.print(f"Job {job_id}: {total} items, 8 at a time. Run {run_id}", soft_wrap=True)
        state = _watch(stack, job_id, run_id, total, console)
        if not receiver.delivered():
            raise DemoError(f"the run ended as {state!r} and delivered nothing to the webhook")
        body = receiver.delivered()[-1]
        attempts = _attempts(catalogue)
        console.print(result_table(body, attempts))
        run = body["projectJobRun"]
        console.print(
            f"Run {run['status']}: {run['payloads']} items, {run['successfulRuns']} succeeded, "
            f"{run['failedRuns']} failed (tolerated); {sum(attempts.values())} attempts in all."
        )
        problems = check(job, body, state, attempts, len(receiver.delivered()))
    except (DemoError, StackError, httpx.HTTPError, KeyError, TypeError) as error:
        problems = [f"{type(error).__name__}: {error}"]
    if not problems:
        console.print("The result is whole and as expected.", style="bold green")
        return 0
    console.print("The result is not what it should be:", style="bold red")
    for problem in problems:
        console.print(f"- {problem}")
    for path in _useful_logs(stack):
        console.print(f"\nThe end of {path}:\n{tail(path, 15)}", soft_wrap=True)
    return 1


def _watch(stack: AirflowStack, job_id: str, run_id: str, total: int, console: Console) -> str:
    """Show the progress until the run has ended; return its state in Airflow."""
    end = time.monotonic() + RUN_TIMEOUT
    with RunProgress(console, total) as progress:
        while True:
            stack.check()
            # The state first: counts that are read after the end are the last ones.
            state = stack.dag_run(job_id, run_id)["state"]
            counts = count(stack.task_instances(job_id, run_id))
            progress.show(counts)
            if state in FINISHED:
                return str(state)
            if time.monotonic() > end:
                raise DemoError(f"the run has not ended after {RUN_TIMEOUT} s: {describe(counts)}")
            time.sleep(0.5)


def _attempts(catalogue: Catalogue) -> dict[int, int]:
    """Return how many calls the catalogue had for each item, by the item's index."""
    headers = (request.headers.get("x-item-index", "") for request in catalogue.ledger.all())
    return dict(Counter(int(index) for index in headers if index.isdecimal()))


def check(
    job: Mapping[str, Any], body: Mapping[str, Any], state: str, attempts: Mapping[int, int], deliveries: int
) -> list[str]:
    """Return what is wrong with the delivered result; an empty list when nothing is.

    :param job: the definition
    :param body: the body that the webhook got
    :param state: the state of the run in Airflow
    :param attempts: calls by item index, as the catalogue counted them
    :param deliveries: how often the webhook was called
    """
    items = job["payload"]
    failing = [item for item in items if item["api"] == FAILING_API]
    run = body["projectJobRun"]
    problems = []

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            problems.append(f"{what} should be {wanted!r}, not {found!r}")

    expect("the number of deliveries", deliveries, 1)
    expect("the run's state in Airflow", state, "success")
    expect("the run's status", run["status"], "COMPLETED")
    expect("payloads", run["payloads"], len(items))
    expect("failedRuns", run["failedRuns"], len(failing))
    expect("successfulRuns", run["successfulRuns"], len(items) - len(failing))
    expect("the number of results", len(body["results"]), len(items))
    for index, (item, entry) in enumerate(zip(items, body["results"], strict=False)):
        info = entry["apiInfo"]
        name = f"item {index} ({item['api']})"
        expect(f"the API of {name}", info["name"], item["api"])
        expect(f"the parameters of {name}", info["parameters"], item["parameters"])
        wanted = "failed" if item["api"] == FAILING_API else "completed"
        expect(f"the status of {name}", info["result"]["status"], wanted)
        expect(f"the attempts of {name}", attempts.get(index), 3 if item["api"] == FLAKY_API else 1)
    return problems


def _useful_logs(stack: AirflowStack) -> list[Path]:
    """Return the components' logs and the newest task logs."""
    tasks = sorted((stack.home / "logs").glob("dag_id=*/**/*.log"), key=lambda path: path.stat().st_mtime)
    parsing = sorted((stack.home / "logs" / "dag_processor").glob("**/*.log"))[-1:]
    return [stack.log_file(name) for name in ("scheduler", "api-server")] + parsing + tasks[-2:]


def _wait_for_the_user(stack: AirflowStack, job_id: str, console: Console) -> None:
    """Leave everything up until Ctrl-C, or until a component ends by itself."""
    console.print(f"\nAirflow stays up: {stack.base_url}/dags/{job_id} (no password)", soft_wrap=True)
    console.print(f"Job files: {stack.dags_folder / 'jobs'}", soft_wrap=True)
    console.print(f"Logs: {stack.home / 'logs'}", soft_wrap=True)
    console.print("Ctrl-C ends it and removes everything.")
    try:
        while True:
            stack.check()
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("\nStopping …")


if __name__ == "__main__":
    sys.exit(main(keep="--keep" in sys.argv[1:]))
