"""A run's results as a file: streamed, since they may be larger than memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.control import items, runs
from airflow_jobs_plugin.control.runs import RunView
from airflow_jobs_plugin.control.transactions import reading, transact
from airflow_jobs_plugin.service.callers import Caller

Format = Literal["jsonl", "csv"]
#: Characters that are sent together.
PIECE = 64 * 1024


def streamed(me: Caller, job_id: str, run_id: str, format: Format) -> StreamingResponse:
    """A line per item that has ended, in index order: as JSON Lines, each as a sink sends it, or as CSV.

    Raises ``NotFoundError``, and 403.
    """

    def read(session: Session) -> RunView:
        me.must_read_results(session, job_id)
        return runs.get_run(session, job_id, run_id)

    run = transact(read)
    lines = in_pieces(_csv(run) if format == "csv" else _jsonl(run))
    kind = "text/csv; charset=utf-8" if format == "csv" else "application/x-ndjson"
    # The run's id is Airflow's and may hold anything but a slash.
    headers = {"Content-Disposition": f'attachment; filename="{run.job_id}.{format}"'}
    return StreamingResponse(lines, media_type=kind, headers=headers)


def in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Lines, many at a time. Whatever a response is given goes to a thread and back, which takes half a millisecond:
    five seconds for ten thousand single lines, longer than all the rest."""
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(kept)
            kept, size = [], 0
    if kept:
        yield "".join(kept)


def _bodies(run: RunView) -> Iterator[tuple[items.ItemView, dict[str, Any]]]:
    with reading() as session:
        yield from items.results(session, run, settings.text("workspace_id"), settings.text("project_name"))


def _jsonl(run: RunView) -> Iterator[str]:
    for view, body in _bodies(run):
        # As a sink sends it, but for what is masked wherever a person looks.
        shown = {**body, "apiInfo": {**body["apiInfo"], "parameters": view.parameters}}
        yield json.dumps(shown, ensure_ascii=False) + "\n"


COLUMNS = ("index", "api", "parameters", "status", "attempts", "statusCode", "result", "error", "message")


def _csv(run: RunView) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for view, _ in _bodies(run):
        outcome = view.outcome or {}
        row = {
            "index": view.index,
            "api": _cell(view.api),
            "parameters": json.dumps(view.parameters, ensure_ascii=False),
            "status": outcome["status"],
            "attempts": view.attempts,
            "statusCode": outcome.get("statusCode"),
            "result": json.dumps(outcome["result"], ensure_ascii=False) if "result" in outcome else None,
            "error": outcome.get("error"),
            "message": _cell(outcome.get("message")),
        }
        writer.writerow([row[name] for name in COLUMNS])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    if text.tell():
        yield text.getvalue()


def _cell(text: str | None) -> str | None:
    """Text that others wrote, so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text
