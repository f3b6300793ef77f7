"""Reading files that anybody may have put into a folder, and naming them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from airflow_jobs_plugin.spec.faults import escaped


def read_regular(path: Path | str, limit: int) -> bytes:
    """The first ``limit`` bytes of a regular file. Raises ``OSError`` for anything else.

    Never blocks: a pipe in the folder must not hang the process that parses for all.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "not a regular file")
        data = b""
        while len(data) < limit and (part := os.read(descriptor, limit - len(data))):
            data += part
        return data
    finally:
        os.close(descriptor)


def shown(path: Path | str) -> str:
    """A path as text that can be printed, stored and sent: on one line, and valid Unicode."""
    return escaped(os.fsencode(path).decode("utf-8", "backslashreplace"))
