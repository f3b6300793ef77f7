"""Where the jobs are and who asks: from options and the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from airflow_jobs_plugin.errors import ConfigurationError

DEFAULT_URL = "http://localhost:8080"
#: Environment variables. A token or password is never an argument, which every user of the machine could read.
URL, TOKEN, USERNAME, PASSWORD = (f"AIRFLOW_JOBS_{name}" for name in ("URL", "TOKEN", "USERNAME", "PASSWORD"))
HOW_TO_LOG_IN = f"give a token in {TOKEN} or --token-file, or {USERNAME} and {PASSWORD}"
#: Longest token file, bytes.
MAX_TOKEN = 64 * 1024


@dataclass(frozen=True)
class Connection:
    """An Airflow and the user's credentials for it: a token, or user name and password, or nothing at all."""

    url: str
    """Airflow's base URL, without a slash at the end."""
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, to which no proxy leads."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def from_options(url: str | None, token_file: Path | None, environment: Mapping[str, str]) -> Connection:
    """The connection that options and environment describe; options come first. Raises ``ConfigurationError``."""
    given = {name: environment.get(name) or None for name in (URL, TOKEN, USERNAME, PASSWORD)}
    base = _base_url(url or given[URL] or DEFAULT_URL, "--url" if url else URL)
    if token_file is not None:
        return Connection(base, token=_token(_read(token_file), str(token_file)))
    if (text := given[TOKEN]) is not None:
        return Connection(base, token=_token(text, TOKEN))
    if (given[USERNAME] is None) != (given[PASSWORD] is None):
        missing, present = (USERNAME, PASSWORD) if given[USERNAME] is None else (PASSWORD, USERNAME)
        raise ConfigurationError(f"{present} is set and {missing} is not; set both, or {TOKEN}")
    return Connection(base, username=given[USERNAME], password=given[PASSWORD])


def _base_url(text: str, source: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(ord(c) <= 32 or ord(c) == 127 for c in text):
        raise ConfigurationError(f"{source}: Airflow's base URL should be one such as {DEFAULT_URL}")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{source}: no user and password in the URL; {HOW_TO_LOG_IN}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{source}: Airflow's base URL has neither '?' nor '#'")
    return text.rstrip("/")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_TOKEN).decode()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"--token-file: {file} cannot be read: {said}") from None


def _token(text: str, source: str) -> str:
    token = text.strip()
    if not token or not all(33 <= ord(c) <= 126 for c in token):
        raise ConfigurationError(f"{source} holds no token: one word of ASCII characters")
    return token
