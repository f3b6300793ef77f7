"""The command line in a process of its own, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl
from typing import Any


def command(*arguments: Any) -> list[str]:
    """The words that run a command line of ours, wherever they are run."""
    return [sys.executable, "-P", "-m", "airflow_jobs_plugin", *map(str, arguments)]


def on_terminal(
    *arguments: Any, columns: int = 80, term: str = "xterm", environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command line of ours; returns its exit status and what it wrote to the terminal.

    :param columns: how wide the terminal is; 0: nobody has said
    :param environment: default: that of this process
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    variables = {**(os.environ if environment is None else environment), "TERM": term, "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:
        pass  # how Linux says that the last one has closed a terminal
    finally:
        os.close(ours)
    return process.wait(60), written.decode()
