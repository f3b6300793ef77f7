"""A disk of its own for a folder, so that it can be full while others are not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full(folder: Path, kilobytes: int = 256) -> Iterator[Path]:
    """Lay a small file system over *folder* and fill it; yields the file that fills it.

    Only root can: skips the test where it is not run by root, and where mounting is forbidden, which CI may not be.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system over the folder of logs")
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"no small file system could be mounted: {done.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    try:
        filler = folder / "filler"
        _fill(filler)
        yield filler
    finally:
        # Lazily: a component may still have a log open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass  # which is what it is to be: full
