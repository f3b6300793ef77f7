"""One HTTP call through an Airflow connection: what every target that speaks HTTP is made of.

The provider's hook says where and with what (see ``connection``); time-outs and limits are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError, ConfigurationError
from airflow_jobs_plugin.targets.base import Limits
from airflow_jobs_plugin.targets.connection import Endpoint, Proxy, job_proxy, resolve
from airflow_jobs_plugin.targets.faults import LeftHome, NotRepeated, translated
from airflow_jobs_plugin.targets.messages import Redactor, configuration_error
from airflow_jobs_plugin.targets.request import Call
from airflow_jobs_plugin.targets.response import failure, read_value

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
    Sender = Callable[[str], Awaitable[aiohttp.ClientResponse]]

#: Seconds that an idle connection is kept: busy lanes reuse theirs at once, and the shorter the time, the rarer
#: is a call that meets a server just closing the connection (many do after 2 to 5 seconds).
KEEP_ALIVE = 1.0

#: Headers that no configuration may set: they would break the message, or say what is not so.
_OURS = frozenset(
    ("content-length", "transfer-encoding")
    + ("idempotency-key", "x-job-id", "x-job-run-id", "x-item-index", "x-attempt")
    + ("x-job-append-url", "x-job-append-token")
)


@dataclass(frozen=True)
class Answer:
    """A 2xx answer: its body as a JSON value, and its status."""

    value: Any
    status: int


@asynccontextmanager
async def open_client(conn_id: str, headers: dict[str, str], limits: Limits) -> AsyncIterator[Client]:
    """Resolve the connection and keep a pool of sockets, without a limit: lanes are limited elsewhere.

    ``headers`` are sent with every call, over the connection's own. What is wrong with the connection is raised by
    each call.
    """
    import aiohttp

    endpoint: Endpoint | str
    try:
        endpoint = await resolve(conn_id)
    except ConfigurationError as error:
        endpoint = str(error)
    async with aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE) as connector:
        yield Client(endpoint, headers, limits, connector)


class Client:
    """Makes calls through one connection, concurrent ones included, on one event loop."""

    def __init__(
        self, endpoint: Endpoint | str, headers: dict[str, str], limits: Limits, connector: aiohttp.BaseConnector
    ) -> None:
        self._endpoint = endpoint
        self._headers = headers
        self._limits = limits
        self._connector = connector

    async def call(self, call: Call, seconds: float, proxy: str | dict[str, Any] | None = None) -> Answer:
        """Make one call, once, within ``seconds`` or the connection's own time-out, whichever is shorter.

        ``proxy`` replaces the connection's. Raises ``AttemptError``, also for any answer but 2xx.
        """
        exchange = self._exchange(call, proxy)
        return await exchange.run(min(seconds, exchange.endpoint.total or seconds))

    def redactor(self, call: Call) -> Redactor:
        """Takes what is secret of a call, its connection included, out of what was answered to it."""
        return self._exchange(call, None).redactor()

    def _exchange(self, call: Call, proxy: str | dict[str, Any] | None) -> _Exchange:
        endpoint = self._endpoint
        if isinstance(endpoint, str):
            raise configuration_error(endpoint)
        try:
            way = job_proxy(proxy) or endpoint.proxy()
        except ConfigurationError as error:
            raise configuration_error(str(error)) from None
        return _Exchange(endpoint, call, self._headers, way, self._limits, self._connector)


class _Exchange:
    """One call and its answer, redirects included."""

    def __init__(
        self,
        endpoint: Endpoint,
        call: Call,
        headers: dict[str, str],
        proxy: Proxy | None,
        limits: Limits,
        connector: aiohttp.BaseConnector,
    ) -> None:
        self.endpoint = endpoint
        self._call = call
        self._own = _merged(endpoint.headers, call, headers)
        self._proxy = proxy
        self._limits = limits
        self._connector = connector
        self._home: URL | None = None
        self._path = call.path
        self._status: int | None = None

    async def run(self, seconds: float) -> Answer:
        """Make the call within ``seconds``. Raises ``AttemptError``."""
        deadline = asyncio.get_running_loop().time() + seconds
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await self._run(deadline)
        except AttemptError:
            raise
        except Exception as cause:
            if limit.expired() and isinstance(cause, TimeoutError):
                error = AttemptError("timeout", f"no answer within {seconds:g} s")
            else:
                error = translated(cause, f"{self._call.method} {self._path}", self.redactor())
        # Raised out here, so that no traceback shows the client's own errors: they carry URLs and headers.
        raise error

    async def _run(self, deadline: float) -> Answer:
        import aiohttp

        endpoint = self.endpoint
        # A session each, over shared sockets: cookies are the attempt's own.
        async with aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=endpoint.connect, sock_read=endpoint.read),
            trust_env=endpoint.trust_env,
            middlewares=(self._guard,),
        ) as session:
            response = await self._found(partial(self._send, session))
            try:
                if 200 <= response.status < 300:
                    return Answer(await read_value(response, self._limits), response.status)
                if response.status == 407 and self._proxy is not None:
                    raise AttemptError("connection-error", f"the proxy {self._proxy.url} refused the call: 407")
                # Half of what is left: a slow body must not turn a known status into a time-out.
                patience = (deadline - asyncio.get_running_loop().time()) / 2
                raise await failure(response, self._call.method, self._path, self.redactor(), patience)
            finally:
                # Gives the socket back if the body was read to its end, and closes it if not.
                response.release()

    async def _found(self, send: Sender) -> aiohttp.ClientResponse:
        """Send to where the connection's host is."""
        endpoint = self.endpoint
        if not endpoint.srv:
            return await send(endpoint.base_url + self._call.path)
        from airflow.providers.http.hooks.http import AsyncHttpSession, SessionConfig

        async def called(url: str, **_: Any) -> aiohttp.ClientResponse:
            return await send(url)

        # The provider's session resolves SRV records and fails over; it sees neither query nor headers.
        provider = AsyncHttpSession(
            hook=endpoint.hook,
            request=called,
            config=SessionConfig(base_url=endpoint.base_url, extra_options={"check_response": False}),
            method=self._call.method,
        )
        return await provider.run(endpoint=self._call.path)

    async def _send(self, session: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
        from yarl import URL

        call, proxy = self._call, self._proxy
        # Encoded already: yarl would decode what need not be encoded, such as a quoted letter.
        target = URL(f"{url}?{call.query}" if call.query else url, encoded=True)
        self._home, self._path = target.origin(), target.raw_path
        return await session.request(
            call.method,
            target,
            data=call.body,
            headers=call.headers,
            ssl=self.endpoint.tls,
            allow_redirects=self.endpoint.allow_redirects,
            max_redirects=self.endpoint.max_redirects,
            proxy=proxy.url if proxy else None,
            proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else None,
        )

    async def _guard(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Called for the first request and for every redirect's."""
        import aiohttp

        if not self._is_home(request.url):
            # As strict as can be: a followed 307 would hand the parameters to where nobody configured them.
            raise LeftHome(self._status)
        for name, value in self._own.items():
            request.headers[name] = value
        if request.url.origin() == self._home:
            for name, value in self._call.private.items():
                request.headers[name] = value
        if self._proxy and self._proxy.authorization and not request.is_ssl():
            # Without TLS there is no CONNECT that could carry it.
            request.headers["Proxy-Authorization"] = self._proxy.authorization
        try:
            response = await handler(request)
        except aiohttp.ClientConnectorError:
            raise  # nothing was sent: the provider may try the next server of an SRV record
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            # aiohttp would send GET, PUT and DELETE a second time; one attempt is one call.
            raise NotRepeated(error) from None
        self._status = response.status
        return response

    def _is_home(self, url: URL) -> bool:
        """Whether a call may go there: the connection's own origin, or the same host with TLS."""
        home = self._home
        if home is None or url.origin() == home:
            return True
        upgrade = (home.scheme, home.port, url.scheme, url.port) == ("http", 80, "https", 443)
        return upgrade and url.host == home.host

    def redactor(self) -> Redactor:
        """Takes the secrets of this call out of texts that others wrote."""
        secrets = [value for name, value in self._own.items() if name.lower() != "content-type"]
        if self._proxy and self._proxy.authorization:
            secrets.append(self._proxy.authorization)
        return Redactor([*secrets, *self._call.private.values(), *self._call.hidden])


def _merged(connection: dict[str, str], call: Call, target: dict[str, str]) -> dict[str, str]:
    """What is configured: the connection's headers under the target's, names in any case.

    The body's type is known better here than by the connection; the target's word is final.
    """
    merged: dict[str, tuple[str, str]] = {}
    known = {"Content-Type": call.content_type} if call.content_type else {}
    for headers in (connection, known, target):
        for name, value in headers.items():
            if name.lower() not in _OURS:
                merged[name.lower()] = (name, value)
    return dict(merged.values())
