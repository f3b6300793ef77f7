"""Where deliveries may go: rules of the configuration, kept at the moment of delivery.

Names are judged by ``[jobs] sink_hosts``, addresses by ``[jobs] sink_private_addresses``. A host is resolved once, and
the connection is made to an address that was judged: what the name means a moment later changes nothing.
"""

from __future__ import annotations

import re
import socket
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal
from urllib.parse import urlsplit

import idna

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import DeliveryError

Source = Literal["CODE", "API"]
"""Where a job's definition is from: a file, or the REST API."""

_PORTS = {"http": 80, "https": 443}
#: Addresses that stand for an IPv4 one where the network translates (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Destinations:
    """What the deliveries of a job may reach."""

    source: Source = "CODE"

    def addresses(self, url: str) -> list[str] | None:
        """The addresses of a URL's host to which may be connected, in the resolver's order; None: any will do.

        Raises ``DeliveryError``: for good if the rules refuse the destination, else if the host is not found now.
        """
        host, port = self.check_host(url)
        if self._any_address():
            return None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise DeliveryError(f"the host {host!r} could not be found: {reason}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # All of them: which one is connected to is not for the owner of the name to try.
        if not all(is_public(address) for address in addresses):
            raise self._refused(host)
        return addresses

    def check_by_proxy(self, url: str) -> None:
        """Check a URL to which a proxy will connect. Raises ``DeliveryError``.

        The proxy resolves the host by itself. What is found here is judged as ever; what only the proxy can find is
        the proxy's to judge.
        """
        host, _ = self.check_host(url)
        try:
            self.addresses(url)
        except DeliveryError as error:
            if not error.retriable or _literal(host):
                raise

    def check_host(self, url: str) -> tuple[str, int]:
        """Judge the name alone; returns host and port. Raises ``DeliveryError``."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            host, port = "", None
        if not host:
            raise DeliveryError("the destination is no URL", for_all=True)
        try:
            host = on_the_wire(host)
        except UnicodeError:
            raise DeliveryError(f"{host!r} cannot be the name of a host", for_all=True) from None
        patterns = settings.words("sink_hosts")
        if patterns and not any(_matches(name, pattern) for name in _spellings(host) for pattern in patterns):
            raise DeliveryError(
                f"the host {host!r} is none that [jobs] sink_hosts allows; a pattern for it has to be added there",
                for_all=True,
            )
        return host, port or _PORTS.get(parts.scheme.lower(), 443)

    def _any_address(self) -> bool:
        rule = settings.text("sink_private_addresses").lower()
        if rule not in ("files", "all", "none"):
            raise DeliveryError(
                f"[jobs] sink_private_addresses is {rule!r}; it should be 'files', 'all' or 'none'", for_all=True
            )
        return rule == "all" or (rule == "files" and self.source == "CODE")

    def _refused(self, host: str) -> DeliveryError:
        allow = "'all' allows it" if self.source == "CODE" else "'all' allows it, 'files' for jobs of files only"
        return DeliveryError(
            f"the host {host!r} is not on the public network, where [jobs] sink_private_addresses does not let this "
            f"job deliver; {allow}",
            for_all=True,
        )


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, and says so itself."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None or ip.is_site_local:
            return False
        # An IPv4 address in the clothes of another protocol is what it is underneath.
        if ip in _TRANSLATED:
            return is_public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if not all(is_public(str(one)) for one in (ip.sixtofour, *(ip.teredo or ())) if one is not None):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL (``HTTPS_PROXY``, ``NO_PROXY`` …)."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme.lower()) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return found if "://" in found else f"http://{found}"


def _matches(host: str, pattern: str) -> bool:
    # No other wildcard: brackets belong to IPv6 addresses.
    expression = ".*".join(re.escape(part) for part in pattern.lower().rstrip(".").split("*"))
    return re.fullmatch(expression, host) is not None


def on_the_wire(host: str) -> str:
    """A host as the HTTP clients ask for it; the name that is judged has to be that one. Raises ``UnicodeError``.

    Names with letters beyond ASCII are encoded as they do it, by IDNA 2008: Python's own codec knows that of 2003
    alone, by which ``faß.de`` is another host, ``fass.de``.
    """
    return host.lower() if host.isascii() else idna.encode(host.lower()).decode()


def _spellings(host: str) -> set[str]:
    """A host as it goes over the wire, and as people write it."""
    spellings = {host}
    with suppress(UnicodeError):
        spellings.add(idna.decode(host))
    return spellings


def _literal(host: str) -> bool:
    """Whether a host is an address in any of its spellings, such as ``127.1``."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True
