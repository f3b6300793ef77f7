"""What is sent: path, query, body and identity headers of one call. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.secrets import secrets_in_url
from airflow_jobs_plugin.spec.targets import HttpTarget
from airflow_jobs_plugin.targets.base import Attempt

JSON = "application/json"

#: What a header carries as it is. The percent sign is encoded too, so that decoding always gives the original.
_HEADER_SAFE = "".join(chr(c) for c in range(32, 127) if chr(c) != "%")


@dataclass(frozen=True, repr=False)
class Call:
    """One HTTP call, but for the connection that it goes through. May have secrets, therefore no ``repr``."""

    method: str
    path: str
    """Percent-encoded, begins with a slash; to be appended to the connection's URL."""
    query: str
    """Percent-encoded, without the question mark; may be empty."""
    body: bytes | None
    headers: dict[str, str]
    """The plugin's own; configured ones come on top."""
    content_type: str | None = None
    private: dict[str, str] = field(default_factory=dict)
    """Headers for the connection's own origin, and for no other that a redirect leads to. Secret."""
    hidden: tuple[str, ...] = ()
    """What else of the call is secret, and is taken out of messages."""


def build_call(spec: HttpTarget, attempt: Attempt) -> Call:
    """The call that an attempt makes. Raises ``AttemptError`` if the API name fits into no path."""
    path, query = located(spec.path, api=encoded_api(attempt.api))
    way = spec.parameters_as or ("query" if spec.method == "GET" else "json")
    body: bytes | None = None
    content_type: str | None = None
    if way == "json":
        body, content_type = json_body(attempt.parameters), JSON
    elif way == "form":
        body = urlencode(list(pairs(attempt.parameters))).encode("ascii")
        content_type = "application/x-www-form-urlencoded"
    else:
        sent = urlencode(list(pairs(attempt.parameters)), quote_via=quote, safe="")
        query = "&".join(part for part in (query, sent) if part)
    return Call(
        spec.method,
        path,
        query,
        body,
        headers_of(attempt, content_type),
        content_type,
        private=grant_headers(attempt) if spec.send_run_token else {},
        hidden=tuple(secrets_in_url(spec.path)),
    )


def located(template: str, **encoded: str) -> tuple[str, str]:
    """Path and query of a template, with each ``{name}`` replaced by its value, which is percent-encoded already.

    Raises ``AttemptError`` where the two together walk up the path, as ``/.{api}`` and ``/x`` do.
    """
    for name, value in encoded.items():
        template = template.replace(f"{{{name}}}", value)
    path, _, query = template.partition("#")[0].partition("?")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise AttemptError(
            "invalid-parameters", "the API name makes '.' or '..' a segment of the target's path", retriable=False
        )
    return path, query


def json_body(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encoded_api(api: str) -> str:
    """The API name as part of a path: its slashes separate segments, everything else is percent-encoded."""
    segments = api.split("/")
    if any(segment in (".", "..") for segment in segments):
        # Dots cannot be encoded: servers would walk up the path.
        raise AttemptError("invalid-parameters", "the API name has '.' or '..' as a path segment", retriable=False)
    try:
        return "/".join(quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise AttemptError("invalid-parameters", "the API name is not text", retriable=False) from None


def pairs(parameters: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters as a query or a form has them.

    Numbers and booleans as JSON writes them, null left out (as ``requests`` does), lists as repeated names,
    objects and lists in lists as JSON text.
    """
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield name, one if isinstance(one, str) else _json_text(one)


def headers_of(attempt: Attempt, content_type: str | None = None) -> dict[str, str]:
    """The headers that every call of an attempt carries."""
    headers = {
        "Accept": "application/json, */*;q=0.5",
        "User-Agent": f"airflow-jobs-plugin/{__version__}",
        **identity(attempt),
    }
    if content_type is not None:
        headers["Content-Type"] = content_type
    return headers


def identity(attempt: Attempt) -> dict[str, str]:
    """The headers that say which attempt this is; ``Idempotency-Key`` is the same for all of an item."""
    return {
        "Idempotency-Key": header_value(attempt.item_id),
        "X-Job-Id": header_value(attempt.job_id),
        "X-Job-Run-Id": header_value(attempt.run_id),
        "X-Item-Index": str(attempt.index),
        "X-Attempt": str(attempt.number),
    }


def grant_headers(attempt: Attempt) -> dict[str, str]:
    """The headers that let the API append items to the run; none where the attempt has no grant."""
    if attempt.grant is None:
        return {}
    # As they are: nobody who is to call a URL would decode it first.
    return {"X-Job-Append-Url": attempt.grant.url, "X-Job-Append-Token": attempt.grant.token}


def header_value(text: str) -> str:
    """The text percent-encoded where a header cannot carry it: other than printable ASCII, ``%``, spaces at an end."""
    inner = text.strip(" ")
    before, _, after = text.partition(inner) if inner else (text, "", "")
    return quote(before, safe="") + quote(inner, safe=_HEADER_SAFE, errors="replace") + quote(after, safe="")


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
