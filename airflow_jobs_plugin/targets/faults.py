"""What went wrong on the wire, in the words of an ``AttemptError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.targets.messages import Redactor, configuration_error, one_line

if TYPE_CHECKING:
    import aiohttp


class LeftHome(Exception):
    """A redirect led to another host; nothing was sent there. ``status`` is the redirect's."""

    def __init__(self, status: int | None) -> None:
        super().__init__()
        self.status = status


class NotRepeated(Exception):
    """Carries an error past ``aiohttp``'s own second try."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def translated(error: Exception, call: str, redact: Redactor) -> AttemptError:
    """The ``AttemptError`` for an exception of the HTTP client or of the provider.

    ``call`` is method and path for the message. An exception that is neither is raised again.
    """
    import aiohttp

    if isinstance(error, NotRepeated):
        error = error.error
    told = _told(error)
    if isinstance(error, LeftHome):
        return AttemptError(
            "http-error",
            f"{call} answered {error.status} with a redirect to another host, which is not followed: parameters and "
            "credentials are for the connection's host only",
            status_code=error.status,
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return AttemptError("connection-error", f"{call}: the proxy refused to connect: {error.status}")
    if isinstance(error, aiohttp.TooManyRedirects):
        return invalid_response(f"{call}: more than {len(error.history)} redirects", error.status)
    if isinstance(error, aiohttp.RedirectClientError):
        return invalid_response(f"{call}: was redirected to something that is no http URL")
    if isinstance(error, aiohttp.ClientResponseError):
        return invalid_response(f"{call}: the answer is not HTTP: {one_line(redact(error.message))}")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return AttemptError("timeout", f"{call}: the connection's own time-out passed")
    if isinstance(error, aiohttp.ClientPayloadError):
        if _is_cut_off(error):
            return AttemptError("connection-error", f"{call}: the connection was closed within the answer")
        return invalid_response(f"{call}: the answer's body cannot be decoded")
    if isinstance(error, aiohttp.ClientConnectorError):
        where = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return AttemptError(
            "connection-error",
            f"{call}: cannot connect to {where}{error.host}:{error.port}: {redact(told)}",
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return AttemptError("connection-error", f"{call}: the server closed the connection without an answer")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return AttemptError("connection-error", f"{call}: {redact(told)}")
    if type(error).__name__ == "HttpSrvLookupException":
        if isinstance(error.__cause__, ImportError):
            return configuration_error("the connection's 'srv_lookup' needs dnspython; install it")
        return AttemptError("connection-error", f"{call}: {redact(told)}")
    raise error


def _told(error: Any) -> str:
    """The operating system's or OpenSSL's reason, without the addresses and objects around it."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    reason = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or str(cause)
    return one_line(str(reason) or type(error).__name__, 200)


def _is_cut_off(error: aiohttp.ClientPayloadError) -> bool:
    from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

    return isinstance(error.__cause__, (ContentLengthError, TransferEncodingError, OSError))


def invalid_response(message: str, status: int | None = None) -> AttemptError:
    """The call was answered, but not with anything that makes sense."""
    return AttemptError("invalid-response", message, status_code=status)
