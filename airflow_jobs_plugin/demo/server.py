"""A small HTTP server in a thread, with a ledger of everything that was asked of it."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True)
class Received:
    """One request as it came in.

    ``headers`` have lower-case names; ``body`` is the parsed JSON, None where there was none or it was
    broken; ``raw`` the bytes themselves, for signatures; ``time`` seconds since the epoch, of its arrival.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    raw: bytes
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Reply:
    """What to answer: a status, a body and further headers.

    The body is JSON, None for an empty one, bytes as they are, or an iterator of bytes, each sent as a chunk when it
    comes.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Ledger:
    """All requests in the order of their arrival. Any thread may write and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Received] = []

    def add(self, request: Received) -> None:
        """Append one request."""
        with self._lock:
            self._requests.append(request)

    def all(self) -> list[Received]:
        """Return a copy of the list."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._requests.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # the default of 5 refuses connections when 50 come at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is nothing to print; the rest goes to the log."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("request from %s failed", client_address)


class LocalServer:
    """An HTTP server on a port of 127.0.0.1, in threads of this process.

    A subclass says in :meth:`reply` what to answer; it runs in the request's own thread.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._server: _Server | None = None

    def reply(self, request: Received) -> Reply:
        """Return the answer to *request*, which is in the ledger already.

        A ``ConnectionError`` that it raises hangs up without one.
        """
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port it listens on.

        :raises RuntimeError: it has not been started
        """
        if self._server is None:
            raise RuntimeError(f"{type(self).__name__} has not been started")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, port: int = 0) -> Self:
        """Listen, on a free port unless one is given; return at once."""
        server = _Server(("127.0.0.1", port), self._handler())
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=type(self).__name__, daemon=True)
        thread.start()
        self._server = server
        return self

    def stop(self) -> None:
        """Close the port. Requests that are being answered are left to end by themselves."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self, request: Received) -> Reply:
        self.ledger.add(request)
        try:
            return self.reply(request)
        except ConnectionError:
            raise  # the subclass hangs up without an answer
        except Exception:
            log.exception("%s %s could not be answered", request.method, request.path)
            return Reply(500, {"error": "internal error"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                raw = self._read()
                if raw is None:
                    return
                try:
                    body = json.loads(raw) if raw else None
                except ValueError:
                    body = None
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(owner._answer(Received(self.command, self.path, headers, body, raw)))

            def _read(self) -> bytes | None:
                """Return the request's body; answer and return None when it cannot be read."""
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    return self._read_chunks()
                length = self.headers.get("Content-Length", "0")
                if not length.isdecimal() or int(length) > MAX_BODY:
                    self.close_connection = True
                    self._send(Reply(413, {"error": f"at most {MAX_BODY} bytes"}))
                    return None
                return self.rfile.read(int(length))

            def _read_chunks(self) -> bytes:
                parts = []
                while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass  # trailers
                return b"".join(parts)

            def _send(self, reply: Reply) -> None:
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    if isinstance(reply.body, Iterator):
                        self._send_chunks(reply.body)
                    else:
                        self._send_whole(reply.body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the caller gave up; the ledger has the request

            def _send_whole(self, body: Any) -> None:
                payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def _send_chunks(self, chunks: Iterator[bytes]) -> None:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in chunks:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.write(b"0\r\n\r\n")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

            def log_message(self, format: str, *args: object) -> None:
                log.debug(format, *args)

        return Handler
