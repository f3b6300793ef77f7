"""Messages that may be stored and shown: one line, limited, and without secrets."""

from __future__ import annotations

from base64 import b64encode

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.secrets import Redactor

__all__ = ["Redactor", "basic_auth", "configuration_error", "one_line"]


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line of at most ``limit`` characters, without any that storage cannot hold."""
    # No need to look at megabytes for a line; the factor leaves room for spaces that collapse.
    words = " ".join(text[: limit * 8].split())
    words = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
    return words if len(words) <= limit else words[: limit - 1] + "…"


def configuration_error(message: str) -> AttemptError:
    """What the set-up makes impossible, and another attempt too."""
    return AttemptError("configuration-error", message, retriable=False)


def basic_auth(login: str, password: str) -> str:
    """The value of an ``Authorization`` header with these credentials (RFC 7617).

    Latin-1 where it can carry them, as ``requests`` and ``aiohttp`` do, else UTF-8.
    """
    pair = f"{login}:{password}"
    try:
        raw = pair.encode("latin-1")
    except UnicodeEncodeError:
        raw = pair.encode()
    return "Basic " + b64encode(raw).decode()
