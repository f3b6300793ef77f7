"""A wall clock for each machine, which a test moves while the machine's processes run."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")
HOUR = 3600


class Clocks:
    """Processes with a machine's ``environment`` go by its clock.

    :param folder: for the library and the machines' offsets; everybody has to reach it, as PostgreSQL runs as nobody
    """

    def __init__(self, folder: Path, compiler: str) -> None:
        self._folder = folder
        self._library = folder / "clock.so"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
        self._library.chmod(0o755)

    def environment(self, machine: str) -> Mapping[str, str]:
        """What a process of that machine needs in its environment; true until the machine's clock is moved."""
        if not self._file(machine).exists():
            self.move(0, machine)
        return {"LD_PRELOAD": str(self._library), "AIRFLOW_JOBS_TEST_CLOCK": str(self._file(machine))}

    def move(self, seconds: int, *machines: str) -> None:
        """Set machines' clocks so far ahead of true time, or behind it; of all machines if none is named."""
        for name in machines or [file.stem for file in self._folder.glob("*.offset")]:
            path = self._file(name)
            # Over what is there, not anew: processes have it mapped.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
                file.write(struct.pack("=q", seconds))
            path.chmod(0o644)

    def _file(self, machine: str) -> Path:
        return self._folder / f"{machine}.offset"


@contextmanager
def built() -> Iterator[Clocks]:
    """Clocks in a folder of their own. Skips the test where there is no C compiler, which CI has to have."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        reason = "no C compiler: apt-get install gcc, or CC names one"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ajp-clocks-"))
    folder.chmod(0o755)
    try:
        yield Clocks(folder, compiler)
    finally:
        shutil.rmtree(folder)
