"""An Airflow connection as an HTTP call needs it. It means what the http provider says.

The provider's hook finds the connection and builds URL, credentials, headers and options from it; this module
checks them, and puts right what the hook hands to ``aiohttp`` but ``aiohttp`` does not understand: proxies by
scheme, ``verify`` as a path, ``cert``, time-outs in pairs, and values that came as text from a URI.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_jobs_plugin.errors import ConfigurationError
from airflow_jobs_plugin.targets.messages import basic_auth

if TYPE_CHECKING:
    from airflow.providers.http.hooks.http import HttpAsyncHook

#: What ``aiohttp``, and so the provider's hook, follows by default.
MAX_REDIRECTS = 10


@dataclass(frozen=True, repr=False)
class Proxy:
    """A forward proxy. ``url`` has no credentials; they are in ``authorization``, a header's value."""

    url: str
    authorization: str | None


@dataclass(frozen=True, repr=False)
class Endpoint:
    """Where calls go, and with what. Has secrets, therefore no ``repr``."""

    hook: HttpAsyncHook
    base_url: str
    """Without credentials and without a slash at its end; with SRV, of the record's name."""
    headers: dict[str, str]
    tls: ssl.SSLContext | bool
    proxies: dict[str, str]
    """By scheme, as ``requests`` has them: ``http``, ``https``, ``all``, ``https://host``."""
    total: float | None
    """Seconds; narrows the attempt's time-out."""
    connect: float | None
    """Seconds."""
    read: float | None
    """Seconds between two pieces of an answer."""
    allow_redirects: bool
    max_redirects: int
    trust_env: bool
    srv: bool
    """Whether the host is the name of an SRV record, which the hook resolves for each call."""

    def proxy(self) -> Proxy | None:
        """The connection's proxy for its URL. Raises ``ConfigurationError``."""
        from yarl import URL

        url = URL(self.base_url)
        for key in (f"{url.scheme}://{url.host}", url.scheme, f"all://{url.host}", "all"):
            if found := self.proxies.get(key):
                return parse_proxy(found, "the connection's proxy")
        return None


async def resolve(conn_id: str) -> Endpoint:
    """Find the connection and check it. Raises ``ConfigurationError``, whose message has no secret.

    Not to be canceled half-way: Airflow's channel to the supervisor does not survive that.
    """
    from airflow.providers.http.hooks.http import HttpAsyncHook
    from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSecretsBackendAccessDenied

    credentials: list[tuple[str, str]] = []

    def keep(login: str, password: str | None) -> None:
        # Becomes a header: aiohttp's BasicAuth refuses logins without a password, and is deprecated.
        credentials.append((login, password or ""))

    hook = HttpAsyncHook(http_conn_id=conn_id, auth_type=keep, retry_limit=1)
    try:
        config = await hook.config()
    except AirflowNotFoundException:
        raise ConfigurationError(_missing(conn_id)) from None
    except AirflowSecretsBackendAccessDenied:
        raise ConfigurationError(f"this task may not read the connection {conn_id!r}") from None
    except Exception as error:
        # Its text may repeat parts of the connection.
        raise ConfigurationError(
            f"the connection {conn_id!r} cannot be used ({type(error).__name__}); is its extra a JSON object?"
        ) from None
    try:
        return _endpoint(hook, config.base_url, config.headers or {}, config.extra_options or {}, credentials)
    except ConfigurationError as error:
        raise ConfigurationError(f"the connection {conn_id!r} {error}") from None


def parse_proxy(url: str, what: str = "the job's proxy") -> Proxy:
    """A proxy's URL, with credentials or without. Raises ``ConfigurationError``, which does not repeat it."""
    from yarl import URL

    try:
        parsed = URL(url if "://" in url else f"http://{url}")
        usable = bool(parsed.host) and parsed.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{what} is not a URL such as http://user:password@proxy.example.com:3128")
    if parsed.scheme not in ("http", "https"):
        raise ConfigurationError(f"{what} has the scheme {parsed.scheme!r}; only http and https proxies work")
    authorization = basic_auth(parsed.user or "", parsed.password or "") if parsed.raw_user else None
    return Proxy(str(parsed.origin()), authorization)


def job_proxy(proxy: str | dict[str, Any] | None) -> Proxy | None:
    """The proxy that a job names, as a URL or as ``{"version", "url"}``. Raises ``ConfigurationError``."""
    url = proxy.get("url") if isinstance(proxy, dict) else proxy
    if url is None and not proxy:
        return None
    return parse_proxy(url if isinstance(url, str) else "://")


def _missing(conn_id: str) -> str:
    return (
        f"there is no connection {conn_id!r}; create it with `airflow connections add {conn_id} --conn-type http "
        f"--conn-schema https --conn-host api.example.com`, or set the environment variable "
        f"AIRFLOW_CONN_{conn_id.upper()}"
    )


def _endpoint(
    hook: HttpAsyncHook,
    base_url: str,
    extra_headers: dict[str, Any],
    options: dict[str, Any],
    credentials: list[tuple[str, str]],
) -> Endpoint:
    base, url_credentials = _base(base_url)
    headers = {name: _header(name, value) for name, value in extra_headers.items() if value is not None}
    for login, password in (credentials or url_credentials)[:1]:
        # As in requests, credentials win over a header of the connection.
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = basic_auth(login, password)
    total, connect, read = _timeouts(options.get("timeout"))
    redirects = _number(options.get("max_redirects", MAX_REDIRECTS), "max_redirects")
    return Endpoint(
        hook=hook,
        base_url=base,
        headers=headers,
        tls=_tls(options.get("verify_ssl"), options.get("cert")),
        proxies=_proxies(options.get("proxy")),
        total=total,
        connect=connect,
        read=read,
        allow_redirects=_flag(options.get("allow_redirects", True), "allow_redirects") and redirects > 0,
        max_redirects=int(redirects),
        trust_env=_flag(options.get("trust_env", False), "trust_env"),
        # Where the hook has another name for it, its session finds out for itself, which takes as long as the call.
        srv=getattr(hook, "_srv_lookup_enabled", True),
    )


def _base(base_url: str) -> tuple[str, list[tuple[str, str]]]:
    from yarl import URL

    scheme = base_url.partition("://")[0]
    if scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"has the schema {scheme!r}, which should be http or https; a path belongs to its host "
            "(https://api.example.com/v1), and in a URI what follows the host is the schema"
        )
    try:
        url = URL(base_url)
        usable = bool(url.host) and url.port != 0
    except ValueError:
        raise ConfigurationError("has a host and a port that make no URL") from None
    if not usable:
        raise ConfigurationError("has no host; set it, for example, to https://api.example.com")
    if url.raw_query_string or url.raw_fragment:
        raise ConfigurationError("has a host with a query or a fragment; these belong to the target's path")
    credentials = [(unquote(url.raw_user or ""), unquote(url.raw_password or ""))] if url.raw_user else []
    return str(url.origin()) + url.raw_path.rstrip("/"), credentials


def _header(name: str, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise ConfigurationError(
            f"has {name!r} in its extra, which is no header; headers are at the top level of the extra"
        )
    text = (value if isinstance(value, str) else json.dumps(value)).strip()
    if any(ord(c) < 32 and c != "\t" or ord(c) == 127 for c in name + text) or not name.strip():
        raise ConfigurationError(f"has the header {name!r} in its extra, with characters that a header cannot carry")
    return text


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    if isinstance(value, (bool, int)):
        return bool(value)
    raise ConfigurationError(f"has {name!r} in its extra, which should be true or false")


_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ConfigurationError(f"has {name!r} in its extra, which should be a number of at least 0")
    return number


def _timeouts(value: Any) -> tuple[float | None, float | None, float | None]:
    """The whole call's, connecting's and reading's, seconds. A pair is what ``requests`` makes of it."""
    value = _decoded(value)
    if isinstance(value, list) and len(value) == 2:
        connect, read = (None if one is None else _number(one, "timeout") or None for one in value)
        return None, connect, read
    return (None if value is None else _number(value, "timeout") or None), None, None


def _proxies(value: Any) -> dict[str, str]:
    value = _decoded(value)
    if isinstance(value, str):
        return {"all": value} if value else {}
    if value is None or (isinstance(value, dict) and all(isinstance(v, str | None) for v in value.values())):
        return {key: url for key, url in (value or {}).items() if url}
    raise ConfigurationError("has 'proxy' in its extra, which should be a URL, or an object of URLs by scheme")


def _decoded(value: Any) -> Any:
    """Values of a connection's URI are text, also where JSON is meant."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _tls(verify: Any, cert: Any) -> ssl.SSLContext | bool:
    path = None
    if isinstance(verify, str) and verify.strip().lower() not in _WORDS:
        path = verify
    trusting = verify is not None and path is None and not _flag(verify, "verify")
    if path is None and not cert:
        return not trusting
    try:
        context = _context(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"has 'verify' in its extra, whose certificates cannot be used: {path} ({_reason(error)})"
        ) from None
    if trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        chain = _decoded(cert)
        files = chain if isinstance(chain, list) else [chain]
        try:
            context.load_cert_chain(*files)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(f"has 'cert' in its extra, which cannot be loaded ({_reason(error)})") from None
    return context


def _context(path: str | None) -> ssl.SSLContext:
    import os

    if path is not None and os.path.isdir(path):
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
