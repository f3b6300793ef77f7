"""Runs one command and makes sure that nothing of it survives: ``nanny.py '<json>'``.

A script of its own, started by :mod:`.processes`, because only a parent that outlives both its owner and
its child can promise this. The JSON object has

``command``
    the argument list to run, with this process's environment and standard streams;
``owner``
    the process id whose end is also the end of the command, even when it was ``kill -9``;
``signal``
    the number of the signal that asks the command to end;
``grace``
    seconds between that signal and SIGKILL for everything that is left;
``uid``, ``gid``
    the unprivileged user to run as, or null;
``remove``
    folders to delete when the owner vanished without doing it.

Ends with the command's exit status (128 + n for signal n). On Linux every orphaned descendant is handed to
this process by the kernel (child subreaper), so sessions and process groups of their own hide nothing.
Elsewhere descendants are remembered while they are seen, which is as good as it gets there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
TICK = 0.5  # seconds between two looks at the owner


def _prctl(libc: ctypes.CDLL | None, option: int, value: int) -> None:
    if libc is not None:
        libc.prctl(option, value, 0, 0, 0)


class Nanny:
    """One command, watched until nothing of it is left."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.owner: int = order["owner"]
        self.stopping = False
        self.status: int | None = None
        self.seen: set[psutil.Process] = set()
        self.libc = ctypes.CDLL(None) if LINUX else None
        self.wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if LINUX else os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken

    def _on_signal(self, *_: object) -> None:
        self.stopping = True

    def run(self) -> int:
        _prctl(self.libc, PR_SET_CHILD_SUBREAPER, 1)
        user: dict[str, Any] = {}
        if self.order.get("uid") is not None:
            user = {"user": self.order["uid"], "group": self.order["gid"], "extra_groups": []}
        # Should this process be killed with -9, its child at least follows. Bound before the fork: after
        # it, only async-signal-safe work is welcome. The kernel forgets the setting when credentials
        # change; subprocess changes them first.
        death = functools.partial(_prctl, self.libc, PR_SET_PDEATHSIG, self.order["death_signal"])
        child = subprocess.Popen(
            self.order["command"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=death,  # safe: this process has one thread
            **user,
        )
        while not self._reap(child.pid) and not self.stopping and not self._orphaned():
            self._sleep(TICK)
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, self.order["signal"])
            end = time.monotonic() + self.order["grace"]
            while not self._reap(child.pid) and time.monotonic() < end:
                self._sleep(0.1)
        self._kill_the_rest(child.pid)
        if self._orphaned():
            for folder in self.order.get("remove", ()):
                self._remove(folder)
        return 128 + signal.SIGKILL if self.status is None else self.status

    def _orphaned(self) -> bool:
        return os.getppid() != self.owner

    def _sleep(self, seconds: float) -> None:
        if not LINUX:
            self.seen.update(psutil.Process().children(recursive=True))
        select.select([self.wake], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)

    def _reap(self, pid: int) -> bool:
        """Collect every ended child, adopted ones included; true once the command itself has ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if not ended:
                    break
                if ended == pid:
                    code = os.waitstatus_to_exitcode(status)
                    self.status = 128 - code if code < 0 else code
        return self.status is not None

    def _kill_the_rest(self, pid: int) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            self._reap(pid)
            left = {p for p in self.seen if p.is_running()} | set(psutil.Process().children(recursive=True))
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)

    @staticmethod
    def _remove(folder: str) -> None:
        # Other nannies of the same owner may still be writing into it.
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.lexists(folder):
                return
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(Nanny(json.loads(sys.argv[1])).run())
