"""Text for people: what others wrote made harmless for a terminal, instants, durations, tables."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

#: Characters that a column shows of a text.
CELL = 60


def safe(text: str) -> str:
    """The text on one line and without control characters, which could do anything to a terminal."""
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def json_text(value: Any, *, ascii_only: bool = False, indent: int | None = 2) -> str:
    """JSON that a terminal takes for text: what is not printable stands there escaped."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    return re.sub(r"[^\n -~]", _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    # Outside of strings JSON is ASCII, so this is in one.
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def short(value: Any, most: int = CELL) -> str:
    """A JSON value on one line, cut off after so many characters."""
    text = safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= most else text[: most - 1] + "…"


def moment(text: str | None) -> str:
    """An instant of the API to the second, in UTC: ``2026-11-23T09:00:00Z``; empty for none."""
    return "" if text is None else f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def between(start: str | None, end: str | None) -> str:
    """How long it took from one instant to another; empty while one is missing."""
    if start is None or end is None:
        return ""
    return span((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def span(seconds: float) -> str:
    """``4.2s``, ``2m05s`` or ``1h02m``."""
    if seconds < 59.95:  # which would read 60.0s
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table. Names of columns that end in ``>`` are numbers, aligned to the right.

    :param width: columns of the terminal, which no line exceeds; None: as long as they are
    """
    heads = [name.rstrip(">") for name in columns]
    cells = [heads, *([safe(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = (
            " " * (room - _width(cell)) + cell if name.endswith(">") else cell + " " * (room - _width(cell))
            for name, cell, room in zip(columns, row, widths, strict=True)
        )
        line = "  ".join(padded).rstrip()
        lines.append(line if width is None else cut(line, width))
    return lines


def cut(line: str, width: int) -> str:
    """The line, or as much of it as fits into that many columns of a terminal."""
    if _width(line) <= width:
        return line
    while _width(line) >= width:
        line = line[: -max(1, (_width(line) - width) // 2)]
    return line + "…"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
