"""The API that jobs call in the fault tests: it holds calls, stalls, trickles and floods."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply

MEGABYTE = b"x" * 1024 * 1024


class Api(LocalServer):
    """Answers at once with what it was asked, but for

    ``slow``
        after ``seconds``;
    ``hold``
        when ``released`` is set;
    ``flaky``
        503 the first ``failures`` times;
    ``grow``
        with ``extendedPayloads``: as many ``echo`` as ``width`` says;
    ``stall``
        never, until this server is closed;
    ``trickle``
        a byte each 50 ms, without an end;
    ``flood``
        100 MB; their length is said before if ``announced``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}

    def stop(self) -> None:
        """Close the port, and end what is held."""
        self.closed.set()
        self.released.set()
        super().stop()

    def reply(self, request: Received) -> Reply:
        """See the class."""
        api, parameters = request.path.strip("/"), request.body or {}
        with self._lock:
            count = self._calls[key] = self._calls.get(key := request.headers["idempotency-key"], 0) + 1
        match api:
            case "slow":
                time.sleep(parameters["seconds"])
            case "hold":
                self.released.wait()
            case "stall":
                self.closed.wait()
            case "flaky" if count <= parameters["failures"]:
                return Reply(503, {"message": f"no luck, call {count}"})
            case "trickle":
                return Reply(200, self._trickle())
            case "flood":
                return Reply(200, MEGABYTE * 100 if parameters.get("announced") else iter([MEGABYTE] * 100))
        answer = {"echo": parameters, "call": count}
        if width := parameters.get("width"):
            answer["extendedPayloads"] = [{"api": "echo", "parameters": {"child": n}} for n in range(width)]
        return Reply(200, answer)

    def _trickle(self) -> Iterator[bytes]:
        while not self.closed.wait(0.05):
            yield b" "
