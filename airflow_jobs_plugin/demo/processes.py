"""Starting, watching and ending processes that must never outlive their owner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

NANNY = Path(__file__).with_name("nanny.py")


class StackError(RuntimeError):
    """Something of the demo stack did not start, or ended before it should have."""


def free_ports(count: int) -> list[int]:
    """Return *count* different TCP ports on 127.0.0.1 that nothing listens on at this moment."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            # All are held until the last one is found, so that none is handed out twice.
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        return ports


def tail(path: Path, lines: int = 30) -> str:
    """Return the last *lines* lines of a log file, or a remark when there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * lines))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({path}: {error.strerror})"
    return "\n".join(text.splitlines()[-lines:]) or f"({path} is empty)"


class ManagedProcess:
    """A command under a :mod:`.nanny`, its output in a log file.

    :param name: what messages call it
    :param command: argument list
    :param log: file that its standard output and error are appended to
    :param env: its whole environment; None for this process's
    :param cwd: its working folder
    :param user: (uid, gid) to run it as; only root can
    :param stop_signal: asks it to end
    :param death_signal: what it gets from the kernel should its nanny be killed
    :param grace: seconds it has before it and all its descendants are killed
    :param remove: folders to delete after it, should this process be killed
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        grace: float = 5.0,
        remove: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.grace = grace
        order = {
            "command": list(command),
            "owner": os.getpid(),
            "signal": int(stop_signal),
            "death_signal": int(death_signal),
            "grace": grace,
            "uid": user[0] if user else None,
            "gid": user[1] if user else None,
            "remove": [str(folder) for folder in remove],
        }
        with log.open("ab") as output:
            self._nanny = subprocess.Popen(
                # -P: the nanny's own folder has modules that would hide others.
                [sys.executable, "-P", str(NANNY), json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,  # a Ctrl-C in the terminal is the owner's to handle
            )

    @property
    def pid(self) -> int:
        """The process id of the nanny; the command is its child."""
        return self._nanny.pid

    def running(self) -> list[psutil.Process]:
        """The command, first, and all that it has started; none if it has ended."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._nanny.poll()

    def check(self) -> None:
        """Raise :class:`StackError` with the end of the log when the process has ended."""
        status = self.poll()
        if status is not None:
            raise StackError(f"{self.name} ended with status {status}. The end of {self.log}:\n{tail(self.log)}")

    def wait(self, timeout: float) -> int:
        """Wait until it has ended; return its status.

        :raises StackError: it still runs after *timeout* seconds
        """
        try:
            return self._nanny.wait(timeout)
        except subprocess.TimeoutExpired:
            raise StackError(
                f"{self.name} is still busy after {timeout:g} s. The end of {self.log}:\n{tail(self.log)}"
            ) from None

    def request_stop(self) -> None:
        """Ask for the end and return at once."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._nanny.terminate()

    def kill(self) -> None:
        """Kill the command with -9; return when it and all its descendants are gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for command in psutil.Process(self.pid).children():
                command.kill()
        self.stop()

    def stop(self) -> None:
        """End the command and all its descendants; return when none is left."""
        self.request_stop()
        try:
            self._nanny.wait(self.grace + 15)
        except subprocess.TimeoutExpired:
            self._nanny.kill()
            self._nanny.wait()
