"""What an API answered: its body, read with a limit, and as a JSON value."""

from __future__ import annotations

import json
from email.message import Message
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.base import check_json

if TYPE_CHECKING:
    import aiohttp

CHUNK = 64 * 1024


def too_big(limit: int) -> AttemptError:
    """The error for a result over the limit. Not retried: the call was made, and did what it does."""
    return AttemptError(
        "result-too-big-error",
        f"the result is larger than {limit:,} bytes ([jobs] max_result_bytes); have the API answer with less, "
        "or store the data elsewhere and answer with where",
        retriable=False,
    )


async def read_limited(response: aiohttp.ClientResponse, limit: int, *, cut: bool = False) -> bytes:
    """The decoded body, never more than ``limit`` bytes and a chunk in memory.

    A longer one raises ``AttemptError``, or is cut with ``cut``.
    """
    parts = []
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK):
        size += len(chunk)
        parts.append(chunk)
        if size > limit:
            if cut:
                break
            raise too_big(limit)
    data = b"".join(parts)
    return data[:limit] if cut else data


def parse_body(data: bytes, content_type: str, status: int) -> Any:
    """The body as a JSON value: JSON where it says it is, else text, None if empty. Raises ``AttemptError``."""
    kind, charset = _media_type(content_type)
    if not data.strip():
        return None
    if kind == "application/json" or kind.endswith("+json"):
        try:
            value = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
            raise _invalid(f"the body says that it is JSON and is not: {reason}", status) from None
    else:
        try:
            value = data.decode(charset)
        except (UnicodeError, LookupError):
            raise _invalid(
                f"{len(data)} bytes of {kind or 'no content type'} are not text ({charset})", status
            ) from None
    try:
        return check_json(value)
    except ValueError as error:
        raise _invalid(f"the body cannot be stored: {error}", status) from None


def extended_payloads(answer: Any) -> list[Any] | None:
    """The items that an answer appends to the run, in its field ``extendedPayloads``; None if it has none.

    Raises ``AttemptError`` if the field is no list. Not retried: the call was made, and did what it does.
    """
    found = answer.get("extendedPayloads") if isinstance(answer, dict) else None
    if found is not None and not isinstance(found, list):
        raise invalid_extended_payloads(f"the answer's extendedPayloads is {_kind(found)}")
    return found


def invalid_extended_payloads(what: str) -> AttemptError:
    """The error for items to append that are no list. ``what`` says what they are."""
    return AttemptError(
        "invalid-extended-payloads",
        f'{what}; it should be a list of items such as [{{"api": "list-products", "parameters": {{"page": 2}}}}]',
        retriable=False,
    )


def _kind(value: Any) -> str:
    """The name that JSON has for a value that is neither null nor a list."""
    if isinstance(value, bool):
        return "a boolean"
    return "an object" if isinstance(value, dict) else "a text" if isinstance(value, str) else "a number"


def excerpt(data: bytes, content_type: str) -> str:
    """What an error's body says, on one line of at most 300 characters."""
    kind, charset = _media_type(content_type)
    try:
        text = data.decode(charset, "replace")
    except (UnicodeError, LookupError):
        text = data.decode("utf-8", "replace")
    if "json" in kind:
        try:
            text = _message_in(json.loads(text)) or text
        except (ValueError, RecursionError):
            pass
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def _message_in(body: Any) -> str:
    for name in ("message", "error", "detail", "title"):
        found = body.get(name) if isinstance(body, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str) and found:
            return found
    return ""


@lru_cache(256)
def _media_type(header: str) -> tuple[str, str]:
    message = Message()
    message["Content-Type"] = " ".join(header.split())
    return (message.get_content_type() if header else "").lower(), str(message.get_param("charset") or "utf-8")


def _invalid(message: str, status: int) -> AttemptError:
    return AttemptError("invalid-response", message, status_code=status)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
