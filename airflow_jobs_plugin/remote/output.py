"""What commands print: JSON for programs, lines and tables for people, and remarks beside them."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from airflow_jobs_plugin.errors import JobsError, RemoteError
from airflow_jobs_plugin.remote.client import Page
from airflow_jobs_plugin.remote.session import Json
from airflow_jobs_plugin.remote.text import json_text, safe, table


class Output:
    """Standard output and standard error of a command.

    :param as_json: standard output gets the API's JSON and nothing else
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # What the terminal's encoding has no sign for is shown escaped.
                stream.reconfigure(errors="backslashreplace")

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Print a JSON value; with ``indent`` None on one line."""
        print(json_text(value, ascii_only=_is_not_unicode(sys.stdout), indent=indent))

    def line(self, text: str) -> None:
        """Print a line for people."""
        print(safe(text))

    def remark(self, text: str) -> None:
        """Say something beside the output."""
        sys.stdout.flush()
        print(safe(text), file=sys.stderr)

    def complain(self, error: JobsError, about: str = "") -> None:
        """Say what went wrong: each fault of a request, or the error's message."""
        faults = error.details if isinstance(error, RemoteError) else []
        lines = [f"{path}: {message}" if path else message for path, message in faults]
        for line in lines or str(error).splitlines():
            self.remark(f"{about}{line}")

    def give_up(self, error: OSError) -> None:
        """Say that standard output takes nothing more, and drop what it has not taken."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.remark(f"standard output cannot be written: {error.strerror or error}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table, no wider than the terminal."""
        # A terminal of no size, such as programs open, has lines as long as they are.
        width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
        for line in table(columns, rows, max(20, width) if width else None):
            print(line)

    def json_pages(self, pages: Iterable[Page], key: str | None = None) -> None:
        """Print all entries of a list as they come: as a list, or as ``{key: list, "totalCount"}``."""
        opening, total, first = f'{{"{key}": [' if key else "[", 0, True
        for page in pages:
            total = page.total
            for entry in page.entries:
                print(opening if first else ",")
                first = False
                print(json_text(entry, ascii_only=_is_not_unicode(sys.stdout)), end="")
        print(opening if first else "", end="" if first else "\n")
        print(f'], "totalCount": {total}}}' if key else "]")


def entries(pages: Iterable[Page]) -> Iterable[Json]:
    """The entries of all pages."""
    for page in pages:
        yield from page.entries


def write(pieces: Iterable[bytes], file: Path | None) -> int:
    """Write what comes piece by piece to a file, or to standard output; returns how many bytes.

    The file gets its name when all has come: half of the results never look like all of them.
    """
    if file is None:
        return _copy(pieces, _Terminal() if sys.stdout.isatty() else sys.stdout.buffer)
    target = file.resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:  # a device or a pipe
                return _copy(pieces, stream)
        part = target.with_name(f"{target.name[:200]}.{os.getpid()}.part")
        try:
            with part.open("xb") as stream:
                written = _copy(pieces, stream)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise JobsError(f"{file} cannot be written: {error.strerror or error}") from None
    return written


def _copy(pieces: Iterable[bytes], stream: Any) -> int:
    size = 0
    for piece in pieces:
        stream.write(piece)
        size += len(piece)
    stream.flush()
    return size


class _Terminal:
    """Standard output that is a terminal: text without control characters."""

    def __init__(self) -> None:
        # Lines of CSV end with a carriage return and a line feed, which is one end of a line.
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)

    def write(self, piece: bytes) -> None:
        self._show(self._decoder.decode(piece))

    def flush(self) -> None:
        self._show(self._decoder.decode(b"", final=True))
        sys.stdout.flush()

    def _show(self, text: str) -> None:
        sys.stdout.write("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))


def _is_not_unicode(stream: TextIO) -> bool:
    return not (stream.encoding or "").lower().replace("-", "").startswith("utf")
