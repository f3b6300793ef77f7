"""What of a definition is secret, and the definition without it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

MASK = "***"

_SENSITIVE = re.compile(
    r"pass(word|wd|phrase)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authorization|credential|cookie",
    re.IGNORECASE,
)
_URL_KEYS = {"url", "proxy", "endpoint"}


@lru_cache(maxsize=4096)
def is_sensitive(key: str) -> bool:
    """Whether a field of this name usually holds a secret (``password``, ``apiKey``, ``Authorization`` …)."""
    return _SENSITIVE.search(key) is not None


def masked(value: Any, key: str = "") -> Any:
    """A copy of a definition (or of a part of one, found under ``key``) that may be shown to anybody.

    Masked are the values of all ``headers``, of every field with a sensitive name, and user names, passwords
    and query values in URLs and proxies. Takes and returns JSON values; never raises.
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
    if isinstance(value, str) and (key in _URL_KEYS or "://" in value):
        return mask_url(value)
    return value


def mask_url(url: str) -> str:
    """The URL with its user, password and query values masked; a text that is no URL comes back as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host[2]}" if host[1] else parts.netloc
    query = re.sub(r"=[^&]*", f"={MASK}", parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, "")) if parts.scheme else url
