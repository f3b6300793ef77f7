"""The webhook sink: a POST with a JSON body, signed as Standard Webhooks says.

Source of headers and signature: the Standard Webhooks specification, version 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks.base import Delivery, Format, Window, chunks, one_line
from airflow_jobs_plugin.sinks.destinations import Destinations, environment_proxy
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


class Webhook:
    """Delivers to one URL. Redirects are not followed: a body is not handed on to where nobody configured it."""

    window = Window()
    format: Format = "json"

    def __init__(self, spec: WebhookSink, destinations: Destinations | None = None) -> None:
        self._spec = spec
        self._destinations = destinations or Destinations()

    def destination(self) -> str:
        return mask_url(self._spec.url)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once: it takes more time than a delivery, and a run may have ten thousand of them."""
        return httpx.create_ssl_context()

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        try:
            return self._delivered(delivery)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            reason = self._redact(str(error) or type(error).__name__)
            raise DeliveryError(f"{self.destination()} could not be reached: {reason}") from None

    def _delivered(self, delivery: Delivery) -> dict[str, Any]:
        url = httpx.URL(self._spec.url)
        headers = self._headers(delivery)
        with self._client() as (client, addresses):
            if addresses is None:
                return self._posted(client, delivery, url, headers)
            # To an address that has been judged, under the host's name: for the receiver, and for its certificate.
            headers.setdefault("Host", url.netloc.decode("ascii"))
            extensions = {"sni_hostname": url.raw_host.decode("ascii")}
            for place, address in enumerate(addresses, 1):
                try:
                    return self._posted(client, delivery, url.copy_with(host=address), headers, extensions)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    # Nothing was sent. As any client does: a host may have addresses that cannot be reached from here.
                    if place == len(addresses):
                        raise
        raise httpx.ConnectError("the host has no address")

    @contextmanager
    def _client(self) -> Iterator[tuple[httpx.Client, list[str] | None]]:
        """A client, and the addresses to which it may connect; None: any."""
        proxy, addresses = environment_proxy(self._spec.url), None
        if proxy is None:
            addresses = self._destinations.addresses(self._spec.url)
        else:
            self._destinations.check_by_proxy(self._spec.url)
        try:
            # Whether there is a proxy is decided above and not a second time; certificates are the environment's.
            client = httpx.Client(
                timeout=TIMEOUT, trust_env=False, proxy=proxy, verify=self._tls, follow_redirects=False
            )
        except (ImportError, ValueError) as error:
            raise DeliveryError(
                f"the environment's proxy cannot be used: {type(error).__name__}; it should be http(s)://host:port",
                for_all=True,
            ) from None
        with client:
            yield client, addresses

    def _posted(
        self,
        client: httpx.Client,
        delivery: Delivery,
        url: httpx.URL,
        headers: httpx.Headers,
        extensions: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        with client.stream(
            "POST", url, content=chunks(delivery.body), headers=headers, extensions=extensions
        ) as response:
            if response.is_success:
                return {"to": self.destination(), "statusCode": response.status_code, "id": delivery.id}
            said = self._redact(_excerpt(response))
            raise DeliveryError(
                f"{self.destination()} answered {response.status_code}{': ' + said if said else ''}",
                status_code=response.status_code,
                # 410 Gone: the receiver wants no more of this.
                for_all=response.status_code == httpx.codes.GONE,
                retry_after=retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
            )

    def _headers(self, delivery: Delivery) -> httpx.Headers:
        """The configured headers under ours, names in any case; ours say what the message is."""
        ours = {"Content-Type": delivery.content_type, "Content-Length": str(delivery.size), **self._identity(delivery)}
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
    return one_line(text[:ANSWER_BYTES].decode("utf-8", "replace"))
