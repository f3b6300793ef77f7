"""What an HTTP answer means: a result, or a failure told in one line."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.retry import retry_after
from airflow_jobs_plugin.targets.answers import excerpt, parse_body, read_limited, too_big
from airflow_jobs_plugin.targets.base import Limits
from airflow_jobs_plugin.targets.messages import Redactor, one_line

if TYPE_CHECKING:
    import aiohttp

#: How much of a failure's body is read, and for how many seconds at most: it only serves the message.
EXCERPT_BYTES = 64 * 1024
EXCERPT_SECONDS = 2.0


async def read_value(response: aiohttp.ClientResponse, limits: Limits) -> Any:
    """The JSON value in a 2xx answer. Raises ``AttemptError`` if it is too big or not what it says it is."""
    limit = limits.max_result_bytes
    announced = response.content_length
    if announced is not None and announced > limit and "Content-Encoding" not in response.headers:
        raise too_big(limit)
    body = await read_limited(response, limit)
    value = parse_body(body, response.headers.get("Content-Type", ""), response.status)
    # Writing JSON can make six characters of one (control characters), never more.
    if 6 * len(body) > limit and written_size(value) > limit:
        raise too_big(limit)
    return value


def written_size(value: Any) -> int:
    """Bytes of the value written as compact JSON in UTF-8; the quotes around a text do not count."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    return size - 2 if isinstance(value, str) else size


async def failure(
    response: aiohttp.ClientResponse, method: str, path: str, redact: Redactor, patience: float
) -> AttemptError:
    """The error of an answer other than 2xx. ``patience``: seconds that reading its body may take at most."""
    text = f"{method} {path} answered {response.status}{_phrase(response)}"
    if 300 <= response.status < 400 and "Location" in response.headers:
        text += " with a redirect that was not followed"
    body = await _read_some(response, min(EXCERPT_SECONDS, patience))
    # Before the excerpt is cut, so that no secret is cut in half and missed.
    body = redact(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if told := excerpt(body, response.headers.get("Content-Type", "")):
        text += f": {told}"
    # These two say when to come back; of other answers the header means other things.
    asked = (
        retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) if response.status in (429, 503) else None
    )
    return AttemptError("http-error", redact(text), status_code=response.status, retry_after=asked)


async def _read_some(response: aiohttp.ClientResponse, seconds: float) -> bytes:
    import aiohttp

    if response.status < 200:
        return b""
    try:
        async with asyncio.timeout(seconds):
            return await read_limited(response, EXCERPT_BYTES, cut=True)
    except (aiohttp.ClientError, OSError):
        # The status says what happened; the body would only have explained it. (OSError has TimeoutError.)
        return b""


def _phrase(response: aiohttp.ClientResponse) -> str:
    if response.reason:
        return " " + one_line(response.reason, 60)
    try:
        return " " + HTTPStatus(response.status).phrase
    except ValueError:
        return ""
