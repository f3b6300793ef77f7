"""Messages that may be stored and shown: one line, limited, and without secrets."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.secrets import MASK

#: Shorter values are left alone: masking every "1" would leave no message readable.
SHORTEST_SECRET = 4


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


class Redactor:
    """Takes known secrets out of texts that others wrote, such as an error page that echoes the request."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known: set[str] = set()
        for secret in secrets:
            # An echo may drop the scheme ("Bearer"), escape, or percent-encode.
            for form in (secret, *secret.split()):
                known |= {form, json.dumps(form)[1:-1], quote(form), quote(form, safe="")}
        # The longest first: a secret may contain another one.
        self._known = sorted((k for k in known if len(k) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, MASK)
        return text
