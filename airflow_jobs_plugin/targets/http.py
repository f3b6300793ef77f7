"""The http target: an attempt is one HTTP call through an Airflow connection.

The provider's hook says where and with what (see ``connection``); retries, time-outs and limits are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError, ConfigurationError
from airflow_jobs_plugin.spec.secrets import secrets_in_url
from airflow_jobs_plugin.spec.targets import HttpTarget
from airflow_jobs_plugin.targets.base import Attempt, Caller, Limits, Result
from airflow_jobs_plugin.targets.connection import Endpoint, Proxy, job_proxy, resolve
from airflow_jobs_plugin.targets.faults import LeftHome, NotRepeated, translated
from airflow_jobs_plugin.targets.messages import Redactor, configuration_error
from airflow_jobs_plugin.targets.request import Call, build_call
from airflow_jobs_plugin.targets.response import failure, read_result

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]

#: Seconds that an idle connection is kept: busy lanes reuse theirs at once, and the shorter the time, the rarer
#: is a call that meets a server just closing the connection (many do after 2 to 5 seconds).
KEEP_ALIVE = 1.0

#: Headers that no configuration may set: they would break the message, or say what is not so.
_OURS = frozenset(
    ("content-length", "transfer-encoding")
    + ("idempotency-key", "x-job-id", "x-job-run-id", "x-item-index", "x-attempt")
)


@asynccontextmanager
async def open_http(spec: HttpTarget, limits: Limits) -> AsyncIterator[Caller]:
    """Resolve the target's connection and keep a pool of sockets, without a limit: lanes are limited elsewhere."""
    import aiohttp

    endpoint: Endpoint | str
    try:
        endpoint = await resolve(spec.conn_id)
    except ConfigurationError as error:
        endpoint = str(error)
    async with aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE) as connector:
        yield _HttpCaller(spec, limits, endpoint, connector)


class _HttpCaller:
    def __init__(
        self, spec: HttpTarget, limits: Limits, endpoint: Endpoint | str, connector: aiohttp.BaseConnector
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._endpoint = endpoint
        self._connector = connector

    async def __call__(self, attempt: Attempt) -> Result:
        endpoint = self._endpoint
        if isinstance(endpoint, str):
            raise configuration_error(endpoint)
        try:
            proxy = job_proxy(attempt.proxy) or endpoint.proxy()
        except ConfigurationError as error:
            raise configuration_error(str(error)) from None
        call = build_call(self._spec, attempt)
        hidden = secrets_in_url(self._spec.path)
        exchange = _Exchange(endpoint, call, self._spec.headers, hidden, proxy, self._limits, self._connector)
        return await exchange.run(min(attempt.timeout, endpoint.total or attempt.timeout))


class _Exchange:
    """One call and its answer, redirects included."""

    def __init__(
        self,
        endpoint: Endpoint,
        call: Call,
        headers: dict[str, str],
        hidden: list[str],
        proxy: Proxy | None,
        limits: Limits,
        connector: aiohttp.BaseConnector,
    ) -> None:
        self._endpoint = endpoint
        self._call = call
        self._own = _merged(endpoint.headers, call, headers)
        self._hidden = hidden
        self._proxy = proxy
        self._limits = limits
        self._connector = connector
        self._home: URL | None = None
        self._path = call.path
        self._status: int | None = None

    async def run(self, seconds: float) -> Result:
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
                error = translated(cause, f"{self._call.method} {self._path}", self._redactor())
        # Raised out here, so that no traceback shows the client's own errors: they carry URLs and headers.
        raise error

    async def _run(self, deadline: float) -> Result:
        import aiohttp
        from airflow.providers.http.hooks.http import AsyncHttpSession, SessionConfig

        endpoint = self._endpoint
        # A session each, over shared sockets: cookies are the attempt's own.
        async with aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=endpoint.connect, sock_read=endpoint.read),
            trust_env=endpoint.trust_env,
            middlewares=(self._guard,),
        ) as session:

            async def send(url: str, **_: Any) -> aiohttp.ClientResponse:
                return await self._send(session, url)

            # The provider's session resolves SRV records and fails over; it sees neither query nor headers.
            provider = AsyncHttpSession(
                hook=endpoint.hook,
                request=send,
                config=SessionConfig(base_url=endpoint.base_url, extra_options={"check_response": False}),
                method=self._call.method,
            )
            response = await provider.run(endpoint=self._call.path)
            try:
                if 200 <= response.status < 300:
                    return await read_result(response, self._limits)
                if response.status == 407 and self._proxy is not None:
                    raise AttemptError("connection-error", f"the proxy {self._proxy.url} refused the call: 407")
                # Half of what is left: a slow body must not turn a known status into a time-out.
                patience = (deadline - asyncio.get_running_loop().time()) / 2
                raise await failure(response, self._call.method, self._path, self._redactor(), patience)
            finally:
                # Gives the socket back if the body was read to its end, and closes it if not.
                response.release()

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
            ssl=self._endpoint.tls,
            allow_redirects=self._endpoint.allow_redirects,
            max_redirects=self._endpoint.max_redirects,
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

    def _redactor(self) -> Redactor:
        secrets = [value for name, value in self._own.items() if name.lower() != "content-type"]
        if self._proxy and self._proxy.authorization:
            secrets.append(self._proxy.authorization)
        return Redactor([*secrets, *self._hidden])


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
