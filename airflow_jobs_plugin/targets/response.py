"""What comes back: bodies read within the limit, values parsed, failures told in one line."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.targets.base import Limits, Result
from airflow_jobs_plugin.targets.messages import Redactor, one_line
from airflow_jobs_plugin.targets.results import checked, invalid_response, too_big, written_size

if TYPE_CHECKING:
    import aiohttp

CHUNK = 64 * 1024
#: How much of a failure's body is read, and for how many seconds at most: it only serves the message.
EXCERPT_BYTES = 64 * 1024
EXCERPT_SECONDS = 2.0
EXCERPT_CHARS = 300


async def read_result(response: aiohttp.ClientResponse, limits: Limits) -> Result:
    """The result in a 2xx answer. Raises ``AttemptError`` if it is too big or not what it says it is."""
    body = await _read(response, limits.max_result_bytes)
    value = parse_body(body, response.content_type, response.charset)
    # Writing JSON can make six characters of one (control characters), never more.
    if 6 * len(body) + 2 > limits.max_result_bytes and written_size(value) > limits.max_result_bytes:
        raise too_big(limits.max_result_bytes, "the answer, written as JSON,")
    return Result(value, response.status)


def parse_body(body: bytes, content_type: str, charset: str | None) -> Any:
    """The JSON value of a body: parsed if it is said to be JSON, else its text; None if it is empty."""
    if not body:
        return None
    is_json = content_type in ("application/json", "text/json") or content_type.endswith("+json")
    encoding = charset or (json.detect_encoding(body) if is_json else "utf-8")
    try:
        # A byte order mark is no part of the text.
        text = body.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (LookupError, ValueError):
        raise invalid_response(f"the answer's body is not text in {one_line(encoding, 40)}") from None
    if is_json:
        try:
            text = json.loads(text, parse_constant=_refuse)
        except RecursionError:
            raise invalid_response("the answer's JSON is nested too deeply") from None
        except ValueError as error:
            raise invalid_response(f"the answer says it is JSON, but is not: {one_line(str(error))}") from None
    return checked(text, "the answer")


async def failure(
    response: aiohttp.ClientResponse, method: str, path: str, redact: Redactor, patience: float
) -> AttemptError:
    """The error of an answer other than 2xx. ``patience``: seconds that reading its body may take at most."""
    where = f"{method} {path}"
    if response.history:
        where += f", redirected to {response.url.host},"
    text = f"{where} answered {response.status}{_phrase(response)}"
    if 300 <= response.status < 400 and "Location" in response.headers:
        text += f" to {_host(response.headers['Location'])}, which was not followed"
    elif excerpt := _excerpt(await _read_some(response, min(EXCERPT_SECONDS, patience)), response, redact):
        text += f": {excerpt}"
    return AttemptError("http-error", redact(text), status_code=response.status)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    announced = response.content_length
    if announced is not None and announced > limit and "Content-Encoding" not in response.headers:
        raise too_big(limit, f"the answer ({announced} bytes)")
    body = bytearray()
    # Decompressed piece by piece, so a small answer that unpacks to gigabytes ends here too.
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > limit:
            raise too_big(limit, "the answer")
    return bytes(body)


async def _read_some(response: aiohttp.ClientResponse, seconds: float) -> bytes:
    import aiohttp

    body = bytearray()
    if response.status < 200:
        return b""
    try:
        async with asyncio.timeout(seconds):
            async for chunk in response.content.iter_chunked(CHUNK):
                body += chunk
                if len(body) >= EXCERPT_BYTES:
                    break
    except (aiohttp.ClientError, OSError):
        # The status says what happened; the body would only have explained it. (OSError has TimeoutError.)
        pass
    return bytes(body)


def _excerpt(body: bytes, response: aiohttp.ClientResponse, redact: Redactor) -> str:
    try:
        text = body.decode(response.charset or "utf-8", "replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", "replace")
    if "json" in response.content_type:
        try:
            text = _told(json.loads(text)) or text
        except (ValueError, RecursionError):
            pass
    return one_line(redact(text), EXCERPT_CHARS)


def _told(value: Any) -> str | None:
    """What a JSON error says in the fields that people read."""
    if isinstance(value, dict):
        for key in ("message", "error", "detail", "title"):
            found = value.get(key)
            if isinstance(found, dict):
                found = _told(found)
            if isinstance(found, str) and found.strip():
                return found
    return None


def _phrase(response: aiohttp.ClientResponse) -> str:
    if response.reason:
        return " " + one_line(response.reason, 60)
    try:
        return " " + HTTPStatus(response.status).phrase
    except ValueError:
        return ""


def _host(location: str) -> str:
    try:
        return one_line(urlsplit(location).hostname or "the same host", 100)
    except ValueError:
        return "something that is no URL"


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
