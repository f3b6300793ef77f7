"""The webhook sink: a POST with a JSON body, signed as Standard Webhooks says.

Source of headers and signature: the Standard Webhooks specification, version 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any

import httpx

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks.base import Delivery, Window
from airflow_jobs_plugin.spec import WebhookSink
from airflow_jobs_plugin.spec.retry import retry_after
from airflow_jobs_plugin.spec.secrets import Redactor, mask_url, secrets_in_url
from airflow_jobs_plugin.spec.sinks import signing_key

#: Seconds for connecting, and for every single read and write.
TIMEOUT = 30.0
#: How much of an answer is read: enough for a message, never more.
ANSWER_BYTES = 2000
#: How long is waited for more of it.
ANSWER_SECONDS = 5.0
CHUNK = 64 * 1024


class Webhook:
    """Delivers to one URL. Redirects are not followed: a body is not handed on to where nobody configured it."""

    window = Window()

    def __init__(self, spec: WebhookSink) -> None:
        self._spec = spec

    def destination(self) -> str:
        return mask_url(self._spec.url)

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        try:
            with (
                httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client,
                client.stream(
                    "POST", self._spec.url, content=chunks(delivery.body), headers=self._headers(delivery)
                ) as response,
            ):
                if response.is_success:
                    return {"to": self.destination(), "statusCode": response.status_code, "id": delivery.id}
                said = self._redact(_excerpt(response))
                raise DeliveryError(
                    f"{self.destination()} answered {response.status_code}{': ' + said if said else ''}",
                    status_code=response.status_code,
                    # 410 Gone: the receiver wants no more of this.
                    retriable=response.status_code != httpx.codes.GONE,
                    retry_after=retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
                )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            reason = self._redact(str(error) or type(error).__name__)
            raise DeliveryError(f"{self.destination()} could not be reached: {reason}") from None

    def _headers(self, delivery: Delivery) -> httpx.Headers:
        """The configured headers under ours, names in any case; ours say what the message is."""
        ours = {"Content-Type": "application/json", "Content-Length": str(delivery.size), **self._identity(delivery)}
        merged: dict[str, tuple[str, str]] = {}
        for headers in ({"User-Agent": f"airflow-jobs-plugin/{__version__}"}, self._spec.headers, ours):
            merged |= {name.lower(): (name, value) for name, value in headers.items()}
        return httpx.Headers([(name.encode(), value.encode("latin-1")) for name, value in merged.values()])

    def _redact(self, text: str) -> str:
        # Receivers echo what they were sent, and what they say is logged, stored and shown.
        return Redactor([*self._spec.headers.values(), *secrets_in_url(self._spec.url)])(text)

    def _identity(self, delivery: Delivery) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {"webhook-id": delivery.id, "webhook-timestamp": timestamp}
        if self._spec.secret is not None:
            digest = hmac.new(signing_key(self._spec.secret), digestmod=hashlib.sha256)
            digest.update(f"{delivery.id}.{timestamp}.".encode())
            for chunk in chunks(delivery.body):
                digest.update(chunk)
            headers["webhook-signature"] = "v1," + base64.b64encode(digest.digest()).decode()
        return headers


def chunks(body: IO[bytes]) -> Iterator[bytes]:
    """The whole body from its start, in pieces."""
    body.seek(0)
    while chunk := body.read(CHUNK):
        yield chunk


def _excerpt(response: httpx.Response) -> str:
    text, deadline = b"", time.monotonic() + ANSWER_SECONDS
    try:
        # Raw pieces as they come: what trickles in is left when its time is over.
        for part in response.iter_bytes():
            text += part
            if len(text) >= ANSWER_BYTES or time.monotonic() > deadline:
                break
    except httpx.HTTPError:
        pass
    words = "".join(c if c.isprintable() else " " for c in text[:ANSWER_BYTES].decode("utf-8", "replace"))
    return " ".join(words.split())[:300]
