"""What of a definition is secret, and the definition without it."""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "***"
#: Shorter values are left alone: masking every "1" would leave no message readable.
SHORTEST_SECRET = 4

_SENSITIVE = re.compile(
    r"pass(word|wd|phrase)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authorization|credential|cookie",
    re.IGNORECASE,
)
# User and password in front of a host, also without a scheme as proxies may be written, and in the middle of a text.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@|^[^/@\s:]*:[^/@\s]*@")
# No sign that begins one is within its name: a text of nothing but question marks would be looked at over and over.
_QUERY_VALUE = re.compile(r"([?&;][^=&;#?\s]*=)[^&;#\s]*")


def is_sensitive(key: str) -> bool:
    """Whether a field of this name usually holds a secret (``password``, ``apiKey``, ``Authorization`` …)."""
    # What is remembered has a bound: keys of parameters are as long as anybody likes.
    return _is_sensitive(key) if len(key) <= 100 else _SENSITIVE.search(key) is not None


@lru_cache(maxsize=4096)
def _is_sensitive(key: str) -> bool:
    return _SENSITIVE.search(key) is not None


def masked(value: Any, key: str = "") -> Any:
    """A copy of a definition (or of a part of one, found under ``key``) that may be shown to anybody.

    Masked are the values of all ``headers``, of every field with a sensitive name, and user names, passwords
    and query values in URLs, proxies and paths, wherever they stand. Takes and returns JSON values; never raises.
    """
    if isinstance(value, dict):
        if key == "headers":
            return dict.fromkeys(value, MASK)
        return {
            k: MASK if is_sensitive(str(k)) and v is not None and not isinstance(v, bool) else masked(v, str(k))
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [masked(inner, key) for inner in value]
    return mask_url(value) if isinstance(value, str) else value


def mask_url(text: str) -> str:
    """The text with user names, passwords and query values of URLs in it masked."""
    if "@" in text:
        text = _CREDENTIALS.sub(f"{MASK}@", text)
    return _QUERY_VALUE.sub(rf"\1{MASK}", text) if "?" in text and "=" in text else text


def secrets_in_url(url: str) -> list[str]:
    """What of a URL, or of a path, is secret: user, password, and the values of the query."""
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return []
    found = [unquote(user), unquote(password), f"{unquote(user)}:{unquote(password)}"]
    return [value for value in (*found, *(value for _, value in parse_qsl(parts.query))) if value.strip(":")]


def secrets_in(value: Any, key: str = "") -> list[str]:
    """The texts that ``masked`` would take out of a part of a definition found under ``key``."""
    if isinstance(value, dict):
        return [found for k, v in value.items() for found in secrets_in(v, key if is_sensitive(key) else str(k))]
    if isinstance(value, list):
        return [found for inner in value for found in secrets_in(inner, key)]
    if is_sensitive(key):
        return [] if value is None or isinstance(value, bool) else [str(value)]
    if not isinstance(value, str):
        return []
    # Proxies may be written without a scheme.
    return secrets_in_url(value if "://" in value else f"//{value}")


class Redactor:
    """Takes known secrets out of texts that others wrote, such as an error page that echoes the request."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known: set[str] = set()
        for secret in secrets:
            # An echo may drop the scheme ("Bearer"), decode, escape, or percent-encode.
            for form in (secret, *secret.split(), *_credentials(secret)):
                known |= {form, json.dumps(form)[1:-1], quote(form), quote(form, safe="")}
        # The longest first: a secret may contain another one.
        self._known = sorted((k for k in known if len(k) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, MASK)
        return text


def _credentials(header: str) -> list[str]:
    """User and password of a ``Basic`` authorization, together and the password alone."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        pair = b64decode(encoded, validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        return []
    return [pair, pair.partition(":")[2]]
