"""Commands about runs."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable

from airflow_jobs_plugin.errors import ConfigurationError
from airflow_jobs_plugin.remote.client import JobsClient
from airflow_jobs_plugin.remote.output import Output, entries, write
from airflow_jobs_plugin.remote.session import Json
from airflow_jobs_plugin.remote.text import between, moment, short
from airflow_jobs_plugin.remote.watching import GOOD, Progress, until_ended


def trigger(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Start a run."""
    job_id, note, key = arguments.job, arguments.note, arguments.idempotency_key
    if arguments.payload is None:
        answer = client.trigger(job_id, note=note, key=key)
    else:
        from airflow_jobs_plugin.remote import documents

        document = documents.payload(arguments.payload)
        with document.located():
            answer = client.trigger(job_id, document.content, note, key)
    run_id = str(answer["jobRunId"])
    if arguments.watch:
        out.remark(f"{answer['message']}: {run_id}")
        return _watched(client, job_id, run_id, out, reached=True)
    if out.as_json:
        out.json(answer)
    else:
        out.line(f"{answer['message']}: {run_id}")
    return 0


def watch(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Watch a run."""
    return _watched(client, arguments.job, _run_id(client, arguments), out)


def _watched(client: JobsClient, job_id: str, run_id: str, out: Output, *, reached: bool = False) -> int:
    progress = Progress(sys.stderr, live=sys.stderr.isatty() and os.environ.get("TERM") != "dumb")
    latest: Json = {}

    def look() -> Json:
        latest.update(client.run(job_id, run_id))
        seen: Json = latest["jobRun"]
        return seen

    try:
        try:
            ended = until_ended(look, progress, reached=reached)
        finally:
            progress.close()
    except KeyboardInterrupt:
        if out.as_json and latest:
            out.json(latest)
        which = shlex.join((job_id, run_id))
        out.remark(
            f"Stopped watching; the run goes on. Watch it again: airflow-jobs watch {which}. "
            f"End it: airflow-jobs terminate {which}"
        )
        return 130
    if out.as_json:
        out.json(latest)
    else:
        for line in _summary(ended):
            out.line(line)
    return 0 if ended["status"] in GOOD else 1


def _summary(ended: Json) -> Iterable[str]:
    counts = ended["counts"]
    took = between(ended["start_time"], ended["end_time"])
    said = ", ".join(f"{counts[kind]} {kind}" for kind in ("succeeded", "failed", "canceled") if counts[kind])
    items = f"{counts['total']} items: {said or 'none ended'}" if counts["total"] is not None else "no items"
    yield f"{ended['id']}: {ended['status']}{f' after {took}' if took else ''}, {items}"
    for why in ("reason", "error"):
        if ended.get(why):
            yield str(ended[why]["message"])
    if (ended.get("delivery") or {}).get("status") == "delivered":
        yield f"Delivered to {ended['delivery'].get('to', 'the sink')}"
    if counts["failed"]:
        which = shlex.join((ended["job_id"], ended["id"]))
        yield f"What failed: airflow-jobs items {which} --status FAILED"


def runs(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """List runs."""
    page = client.runs(arguments.job, arguments.limit)
    if out.as_json:
        out.json({"jobRuns": page.entries, "totalCount": page.total})
        return 0
    rows = []
    for found in page.entries:
        counts = found["counts"]
        ended = counts["succeeded"] + counts["failed"] + counts["canceled"]
        total = "?" if counts["total"] is None else counts["total"]
        why = (found.get("reason") or found.get("error") or {}).get("message") or found["note"] or ""
        took = between(found["start_time"], found["end_time"])
        started = moment(found["start_time"])
        rows.append(
            (found["id"], found["status"], found["type"], started, took, f"{ended}/{total}", str(counts["failed"]), why)
        )
    if rows:
        out.table(("RUN", "STATUS", "TYPE", "STARTED", "TOOK>", "ENDED>", "FAILED>", "NOTE"), rows)
    if page.total > len(rows):
        out.remark(f"{len(rows)} of {page.total} runs")
    elif not rows:
        out.remark("No runs.")
    return 0


def items(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """List a run's items."""
    pages = client.items(arguments.job, _run_id(client, arguments), status=arguments.status, search=arguments.search)
    if out.as_json:
        out.json_pages(pages, "payloads")
        return 0
    rows = [
        (
            str(item["index"]),
            "" if item["parent"] is None else str(item["parent"]),
            item["apiName"],
            short(item["parameters"], 40),
            item["status"],
            f"{item['attempts']}/{item['maximumAttempts']}",
            "" if item["duration"] is None else f"{item['duration']:.1f}s",
            _outcome(item),
        )
        for item in entries(pages)
    ]
    if rows:
        out.table(("#>", "PARENT>", "API", "PARAMETERS", "STATUS", "ATTEMPTS>", "TOOK>", "RESULT OR ERROR"), rows)
    else:
        out.remark("No items.")
    return 0


def _outcome(item: Json) -> str:
    if item["error"]:
        return short(f"{item['error']['code']}: {item['error']['message']}", 200)
    return short(item["result"]) if item["status"] == "SUCCEEDED" else ""


def redeliver(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Deliver a run's results once more."""
    run_id = _run_id(client, arguments)
    answer = client.redeliver(arguments.job, run_id)
    if arguments.watch:
        out.remark(f"{answer['message']}: {run_id}")
        return _watched(client, arguments.job, run_id, out)
    if out.as_json:
        out.json(answer)
    else:
        out.line(f"{answer['message']}: {run_id}")
    return 0


def append(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Append items to a run."""
    from airflow_jobs_plugin.remote import documents

    document = documents.payload(arguments.file)
    run_id = _run_id(client, arguments)
    with document.located():
        answer = client.append(arguments.job, run_id, document.content, arguments.parent, arguments.idempotency_key)
    if out.as_json:
        out.json(answer)
    else:
        added = answer["payloads"]
        indexes = f"{added[0]['index']} to {added[-1]['index']}" if len(added) > 1 else str(added[0]["index"])
        out.line(f"{answer['message']}: item{'s' if len(added) > 1 else ''} {indexes} of {run_id}")
    return 0


def results(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """Write a run's results."""
    kind = arguments.format or "jsonl"
    file = None if arguments.output is None or str(arguments.output) == "-" else arguments.output
    if out.as_json and kind == "csv" and file is None:
        raise ConfigurationError("--json prints JSON; for CSV leave it out, or give --output")
    pieces = client.results(arguments.job, _run_id(client, arguments), kind)
    size = write(pieces, file)
    if file is not None:
        if out.as_json:
            out.json({"output": str(file), "format": kind, "bytes": size})
        else:
            out.remark(f"{size} bytes written to {file}")
    return 0


def terminate(client: JobsClient, arguments: argparse.Namespace, out: Output) -> int:
    """End a run."""
    run_id = _run_id(client, arguments)
    answer = client.terminate(arguments.job, run_id, arguments.reason)
    if out.as_json:
        out.json(answer)
    else:
        out.line(f"{run_id}: {answer['message']}")
    return 0


def _run_id(client: JobsClient, arguments: argparse.Namespace) -> str:
    wanted = str(arguments.job_run)
    return client.latest_run(arguments.job) if wanted == "latest" else wanted
