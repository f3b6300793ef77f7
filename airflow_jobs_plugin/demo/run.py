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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from airflow_jobs_plugin.demo.catalogue import Catalogue
from airflow_jobs_plugin.demo.checks import check_catalogue, check_crawl
from airflow_jobs_plugin.demo.client import FINISHED
from airflow_jobs_plugin.demo.processes import StackError, tail
from airflow_jobs_plugin.demo.progress import RunProgress, count, describe, result_table
from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

JOBS_FOLDER = Path(__file__).parent / "jobs"
#: What the demo runs, one after the other: the job file, what it shows, and how its result is checked.
JOBS = (
    ("catalogue-demo", "a list with retries and failures that are tolerated", check_catalogue),
    ("crawl-demo", "a list that grows while it runs", check_crawl),
)
DAG_FILE = '''\
"""Every job file beside this one becomes an Airflow DAG."""

from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
'''
CONNECTION = "airflow_jobs_default"  # the http target's default
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
            jobs = _write_dags(stack.dags_folder, receiver.url)
            console.print("Starting Airflow (PostgreSQL, API server, scheduler, DAG processor) …")
            stack.start()
            console.print(f"Airflow is up after {time.monotonic() - began:.0f} s: {stack.base_url}")
            status = max(
                [
                    _run_and_judge(stack, job, what, judge, catalogue, receiver, console)
                    for job, (_, what, judge) in zip(jobs, JOBS, strict=True)
                ]
            )
            console.print(f"All in {time.monotonic() - began:.0f} s.")
            if keep:
                _wait_for_the_user(stack, JOBS[0][0], console)
            else:
                console.print(f"The UI was at {stack.base_url}; with --keep it stays up.")
            return status
        finally:
            stack.stop()


def _write_dags(folder: Path, receiver_url: str) -> list[dict[str, Any]]:
    """Write the DAG file and the job files with the receiver's URL; return the definitions."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs.py").write_text(DAG_FILE)
    jobs = []
    for name, _, _ in JOBS:
        file = JOBS_FOLDER / f"{name}.job.yaml"
        text = file.read_text()
        job: dict[str, Any] = yaml.safe_load(text)
        url = f"{receiver_url}/{name}"
        # Replaced in the text, so that whoever looks at the file still finds its comments.
        (folder / "jobs" / file.name).write_text(text.replace(job["sink"]["url"], url))
        job["sink"]["url"] = url
        jobs.append(job)
    return jobs


def _run_and_judge(
    stack: AirflowStack,
    job: Mapping[str, Any],
    what: str,
    judge: Callable[..., list[str]],
    catalogue: Catalogue,
    receiver: WebhookReceiver,
    console: Console,
) -> int:
    total = len(job["payload"])
    job_id = job["id"]
    at_once = job["configuration"]["maxConcurrentRequests"]
    try:
        dag = stack.wait_for_dag(job_id, timeout=30)
        if dag["is_paused"]:
            stack.client.unpause(job_id)
        run_id = stack.trigger(job_id, note="started by airflow-jobs demo")
        items = f"{total} item{'s' if total != 1 else ''}, {at_once} at a time"
        console.print(f"Job {job_id}, {what}: {items}. Run {run_id}", soft_wrap=True)
        state = _watch(stack, job_id, run_id, total, console)
        delivered = [body for body in receiver.delivered() if body["projectJob"]["id"] == job_id]
        if not delivered:
            raise DemoError(f"the run ended as {state!r} and delivered nothing to the webhook")
        body = delivered[-1]
        attempts = _attempts(catalogue, job_id)
        console.print(result_table(body, attempts))
        run = body["projectJobRun"]
        console.print(
            f"Run {run['status']}: {run['payloads']} items, {run['successfulRuns']} succeeded, "
            f"{run['failedRuns']} failed{' (tolerated)' if run['failedRuns'] else ''}; "
            f"{sum(attempts.values())} attempts in all."
        )
        problems = judge(job, body, state, attempts, len(delivered))
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


def _attempts(catalogue: Catalogue, job_id: str) -> dict[int, int]:
    """Return how many calls of a job the catalogue had for each item, by the item's index."""
    calls = (request.headers for request in catalogue.ledger.all() if request.headers.get("x-job-id") == job_id)
    indexes = (headers.get("x-item-index", "") for headers in calls)
    return dict(Counter(int(index) for index in indexes if index.isdecimal()))


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
