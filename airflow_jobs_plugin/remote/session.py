"""Requests to an Airflow: logging in, and saying what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from airflow_jobs_plugin import __version__
from airflow_jobs_plugin.errors import RemoteError
from airflow_jobs_plugin.remote.connection import HOW_TO_LOG_IN, URL, Connection

Json = dict[str, Any]
Params = Mapping[str, str | int | bool | None]

API = "jobs/api/v1"
LOGIN = "auth/token"
#: Seconds to connect, and between two pieces of an answer.
CONNECT_TIMEOUT, TIMEOUT = 10.0, 60.0


class Session:
    """Requests to the plugin's routes of one Airflow; every failure is a ``RemoteError``.

    :param connection: where it is, and the credentials. Without any it asks for the token that an Airflow without
        passwords gives to everybody.
    """

    def __init__(self, connection: Connection) -> None:
        self.url = connection.url
        self._connection = connection
        self._token = connection.token
        try:
            self._http = httpx.Client(
                base_url=connection.url,
                headers={"User-Agent": f"airflow-jobs/{__version__}"},
                timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
                # A proxy of the user's shell has no business with this machine itself.
                trust_env=not connection.is_local,
                verify=httpx.create_ssl_context() if connection.url.startswith("https:") else True,
            )
        except (ValueError, ImportError, OSError) as error:
            raise RemoteError(f"the proxy or TLS settings of the environment cannot be used: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def object(self, method: str, path: str, *needed: str, **options: Any) -> Json:
        """Ask for a JSON object with some fields at least. Options are those of ``read``."""
        response = self.read(method, path, **options)
        answer = _decoded(response)
        if not isinstance(answer, dict) or not answer.keys() >= set(needed):
            raise self._stranger(response)
        return answer

    def array(self, path: str, params: Params) -> tuple[list[Json], Mapping[str, str]]:
        """Ask for a JSON array; returns it and the answer's headers."""
        response = self.read("GET", path, params=params)
        answer = _decoded(response)
        if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
            raise self._stranger(response)
        return answer, response.headers

    def done(self, method: str, path: str, **options: Any) -> Mapping[str, str]:
        """Ask for something that answers with nothing; returns the answer's headers. Options are those of ``read``."""
        response = self.read(method, path, **options)
        if response.status_code != 204:
            raise self._stranger(response)
        return response.headers

    def stream(self, path: str, params: Params, kinds: tuple[str, ...]) -> Iterator[bytes]:
        """Ask for one of some content types; yields the body in the pieces in which it comes."""
        response = self._open("GET", path, params, None, {})
        with self._explained():
            try:
                if not response.headers.get("Content-Type", "").startswith(kinds):
                    raise self._stranger(response)
                yield from response.iter_bytes()
            finally:
                response.close()

    def read(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Send a request; returns the good answer.

        :param path: below the plugin's routes, its segments percent-encoded
        :param params: of the query; those that are None are left out
        :param body: JSON value; None for an empty body
        :param also: statuses that are no refusal either
        """
        response = self._open(method, path, params, body, headers or {}, also)
        with self._explained():
            response.read()
        return response

    def _open(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Any,
        headers: Mapping[str, str],
        also: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Send a request with the token; returns the good answer, whose body has not been read."""
        for renewable in (self._connection.token is None, False):
            if self._token is None:
                self._token = self._log_in()
            bearer = {"Authorization": f"Bearer {self._token}"}
            response = self._send(method, f"{API}/{path}", params, body, {**headers, **bearer})
            if response.status_code != 401 or not renewable:
                break
            # The token has expired meanwhile; a request that is refused so has done nothing.
            response.close()
            self._token = None
        if not response.is_success and response.status_code not in also:
            raise self._refusal(response)
        return response

    def _send(
        self, method: str, path: str, params: Params | None, body: Any, headers: Mapping[str, str]
    ) -> httpx.Response:
        content = None
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers = {**headers, "Content-Type": "application/json"}
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._explained():
            request = self._http.build_request(method, path, params=given, content=content, headers=headers)
            return self._http.send(request, stream=True)

    def _log_in(self) -> str:
        name, password = self._connection.username, self._connection.password
        if name is not None:
            response = self._send("POST", LOGIN, None, {"username": name, "password": password}, {})
        else:
            response = self._send("GET", LOGIN, None, None, {})
        with self._explained():
            response.read()
        if response.status_code >= 500:
            raise self._refusal(response)
        answer = _decoded(response)
        if response.is_success and isinstance(answer, dict) and "access_token" in answer:
            return str(answer["access_token"])
        said = f"does not accept the password of {name!r}" if name is not None else "wants to know who asks"
        if response.status_code == 404 or response.is_success or response.is_redirect:
            raise self._stranger(response)
        raise RemoteError(f"{self.url} {said}; {HOW_TO_LOG_IN}", 401)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout:
            raise RemoteError(f"cannot reach {self.url}: no connection within {CONNECT_TIMEOUT:g} s") from None
        except httpx.TimeoutException:
            raise RemoteError(f"{self.url} has not answered for {TIMEOUT:g} s") from None
        except httpx.ConnectError as error:
            where = f"{URL} or --url says where Airflow is"
            raise RemoteError(f"cannot reach {self.url}: {error or 'no connection'}; {where}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise RemoteError(f"the connection to {self.url} broke: {said}") from None

    def _stranger(self, response: httpx.Response) -> RemoteError:
        if response.is_redirect:
            where = response.headers.get("Location")
            return RemoteError(f"{self.url} leads elsewhere, to {where}; give that URL", response.status_code)
        kind = response.headers.get("Content-Type", "nothing").partition(";")[0]
        path = response.request.url.path
        return RemoteError(
            f"{self.url} answers {path} with {response.status_code} and {kind}; "
            "is it the base URL of an Airflow with the jobs plugin?",
            response.status_code,
        )

    def _refusal(self, response: httpx.Response) -> RemoteError:
        status = response.status_code
        with self._explained():
            response.read()
        body = _decoded(response)
        if status >= 500 and not isinstance(body, dict):
            return RemoteError(f"{self.url} cannot answer at this moment (status {status})", status)
        if not isinstance(body, dict) or (status in (404, 405) and "code" not in body):
            return self._stranger(response)
        message = str(body.get("message") or body.get("detail") or f"status {status}")
        if status == 401 or (status == 403 and message == "Invalid JWT token"):
            message = f"{self.url} does not accept the token ({message}); {HOW_TO_LOG_IN}"
        elif status == 403:
            message = f"not allowed: {message}"
        elif status >= 500:
            message = f"{self.url} failed: {message} (correlationId {body.get('correlationId')})"
        return RemoteError(message, status, str(body.get("code") or ""), _details(body.get("details")))


def _details(value: Any) -> list[tuple[str, str]]:
    """The single faults of an error; what stands before Airflow has errors of its own shape."""
    faults = [fault for fault in value if isinstance(fault, dict)] if isinstance(value, list) else []
    return [(str(fault.get("path") or ""), str(fault["message"])) for fault in faults if fault.get("message")]


def _decoded(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
