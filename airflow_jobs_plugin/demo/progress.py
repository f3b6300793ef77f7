"""What a run of a job looks like while it runs, and afterwards, on a terminal or in a log file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

# Airflow's states of a mapped task instance, in the words of a job's items.
WORDS = {
    "running": "running",
    "up_for_retry": "retrying",
    "success": "succeeded",
    "failed": "failed",
    "upstream_failed": "canceled",
    "skipped": "canceled",
    "removed": "canceled",
}
COUNTED = ("pending", "running", "retrying", "succeeded", "failed", "canceled")
ENDED = ("succeeded", "failed", "canceled")


def count(instances: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return how many items are pending, running, retrying, succeeded, failed and canceled.

    :param instances: the task instances of the run as Airflow's REST API gives them; those of other tasks
        than ``payload``, and ``payload`` itself before its items are known, are left out
    """
    items = (i for i in instances if i["task_id"] == "payload" and i["map_index"] >= 0)
    return Counter(WORDS.get(item["state"] or "", "pending") for item in items)


def describe(counts: Mapping[str, int]) -> str:
    """Return the counts as a phrase without the zeros: ``3 pending, 2 running``."""
    return ", ".join(f"{counts[word]} {word}" for word in COUNTED if counts.get(word)) or "planning"


class RunProgress:
    """A progress bar with counts; where there is no terminal, one plain line for each change.

    :param total: number of items that the run begins with
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._last = ""
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=console,
            )
            self._task = self._bar.add_task("planning", total=total)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, counts: Mapping[str, int]) -> None:
        """Show the present counts."""
        done = sum(counts.get(word, 0) for word in ENDED)
        text = describe(counts)
        # A run may grow.
        self._total = max(self._total, sum(counts.values()))
        if self._bar:
            self._bar.update(self._task, completed=done, total=self._total, description=text)
        elif text != self._last:
            self._last = text
            self._console.print(f"  {done}/{self._total} done: {text}", markup=False)


def _short(value: Any, width: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"


def result_table(body: Mapping[str, Any], attempts: Mapping[int, int]) -> Table:
    """Return the delivered body of a run as a table.

    :param body: what the webhook got
    :param attempts: how many attempts an item needed, by its index
    """
    table = Table(title="What the webhook received", title_justify="left", box=box.SIMPLE, pad_edge=False)
    # On a narrow terminal the last column gives way first.
    table.add_column("#", justify="right", min_width=2)
    table.add_column("API", no_wrap=True, min_width=20)
    table.add_column("parameters", no_wrap=True, overflow="ellipsis", min_width=12)
    table.add_column("attempts", justify="right", min_width=8)
    table.add_column("status", no_wrap=True, min_width=13)
    table.add_column("result or error", no_wrap=True, overflow="ellipsis")
    for index, entry in enumerate(body["results"]):
        info = entry["apiInfo"]
        outcome = info["result"]
        failed = outcome["status"] != "completed"
        said = f"{outcome.get('error')}: {outcome.get('message')}" if failed else outcome.get("result")
        table.add_row(
            str(index),
            info["name"],
            Text(_short(info["parameters"], 28)),
            str(attempts.get(index, "?")),
            Text(f"{outcome['status']} {outcome.get('statusCode') or ''}".strip(), "red" if failed else "green"),
            Text(_short(said, 70)),
        )
    return table
