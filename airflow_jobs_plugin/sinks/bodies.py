"""The bodies that sinks send, in the platform's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """What a delivery says of the run; times are ISO 8601 in UTC."""

    workspace_id: str
    project: str
    job_id: str
    run_id: str
    status: str
    """SUCCESS, COMPLETED or FAILURE."""
    type: str
    """MANUAL or SCHEDULED."""
    start_time: str | None
    end_time: str
    payloads: int
    successful_runs: int
    failed_runs: int


def item_body(run: RunFacts, item: dict[str, Any], item_id: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """The body of one item: what was called with what, and its result or error."""
    fields = (
        ("status", "result", "statusCode")
        if outcome["status"] == "completed"
        else ("status", "error", "message", "statusCode")
    )
    return {
        "apiInfo": {
            "name": item["api"],
            "parameters": item["parameters"],
            "runId": item_id,
            "result": {name: outcome[name] for name in fields},
        },
        "workspaceId": run.workspace_id,
        "project": {"id": run.project, "name": run.project},
        "projectJob": {"id": run.job_id},
        "projectJobRun": {"id": run.run_id},
    }


def run_body(run: RunFacts, results: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The body of a whole run as pieces of JSON, one result at a time in memory."""
    head = {
        "projectJob": {"id": run.job_id},
        "projectJobRun": {
            "id": run.run_id,
            "status": run.status,
            "type": run.type,
            "startTime": run.start_time,
            "endTime": run.end_time,
            "payloads": run.payloads,
            "successfulRuns": run.successful_runs,
            "failedRuns": run.failed_runs,
        },
    }
    yield (json.dumps(head)[:-1] + ', "results": [').encode()
    separator = b""
    for result in results:
        yield separator + json.dumps(result).encode()
        separator = b",\n"
    yield b"]}"


def run_lines(run: RunFacts, results: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The items of a run as JSON Lines: each its own body on a line of its own, and nothing of the run besides."""
    for result in results:
        yield json.dumps(result).encode() + b"\n"


def run_names(run: RunFacts) -> dict[str, str]:
    """What templates of names may say of a run."""
    # A run that never started ended at once.
    began = datetime.fromisoformat(run.start_time or run.end_time).astimezone(UTC)
    return {
        "jobId": run.job_id,
        "jobRunId": run.run_id,
        "date": began.strftime("%Y-%m-%d"),
        "time": began.strftime("%H%M%S"),
        "type": run.type,
        "status": run.status,
    }


def item_names(run: RunFacts, index: int, item_id: str, api: str) -> dict[str, str]:
    """What templates of names may say of one item of a run."""
    return {**run_names(run), "index": str(index), "itemId": item_id, "api": api}
