"""The bodies that sinks send, in the platform's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
