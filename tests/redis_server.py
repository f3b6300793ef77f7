"""A Redis of one's own, to be stopped and killed as a test likes."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from airflow_jobs_plugin.demo.processes import ManagedProcess, StackError, free_ports

#: What CI installs; the variable names another program.
BINARY = os.environ.get("AIRFLOW_JOBS_TEST_REDIS_SERVER", "redis-server")


def require_redis_server() -> str:
    """Return the program; without one skip the test, or fail it in CI."""
    if found := shutil.which(BINARY):
        return found
    reason = f"no {BINARY}: apt-get install redis-server, or AIRFLOW_JOBS_TEST_REDIS_SERVER names the program"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


class RedisServer:
    """A Redis on a free port of 127.0.0.1 that writes down each change before it answers, and ends with this process.

    :param binary: the program
    :param folder: where its data and its log go
    :param env: further environment variables for it
    """

    def __init__(self, binary: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._binary = binary
        self._folder = folder
        self._env = {**os.environ, **(env or {})}
        self._port = 0
        self._process: ManagedProcess | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>/0``."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> Self:
        """Start it and wait until it answers; after :meth:`stop`, where and with what it was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = self._port or free_ports(1)[0]
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        command = [self._binary, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self._process = ManagedProcess("Redis", command, self._folder / "redis.log", env=self._env)
        self._wait(self._process)
        return self

    def _wait(self, process: ManagedProcess, timeout: float = 20) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            process.check()
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass  # not listening yet
            time.sleep(0.05)
        raise StackError(f"Redis does not answer after {timeout:g} s")

    def restart(self, *, killed: bool = False, after: float = 0) -> None:
        """End it, with -9 if ``killed``, and start it again ``after`` seconds."""
        if self._process is not None and killed:
            self._process.kill()
        self.stop()
        time.sleep(after)
        self.start()

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
