"""A webhook receiver: keeps what it gets and answers as it was told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply


class WebhookReceiver(LocalServer):
    """Takes a POST on any path; its ``ledger`` has all requests, :meth:`delivered` the accepted bodies.

    :param responses: the answers to the first requests, as statuses or as :class:`.Reply`; 200 after those
    """

    def __init__(self, responses: Iterable[int | Reply] = ()) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._responses = list(responses)
        self._accepted: list[Received] = []

    def script(self, responses: Iterable[int | Reply]) -> None:
        """Replace the answers to the requests that come from now on."""
        with self._changed:
            self._responses = list(responses)

    def reply(self, request: Received) -> Reply:
        """Return the next scripted answer, or 200; 405 to anything but POST."""
        if request.method != "POST":
            return Reply(405, {"error": "only POST"}, {"Allow": "POST"})
        with self._changed:
            answer = self._responses.pop(0) if self._responses else 200
            reply = answer if isinstance(answer, Reply) else Reply(answer, {"received": answer < 300})
            if 200 <= reply.status < 300:
                self._accepted.append(request)
                self._changed.notify_all()
        return reply

    def delivered(self) -> list[Any]:
        """Return the JSON bodies of all requests that were answered with 2xx."""
        with self._changed:
            return [request.body for request in self._accepted]

    def wait(self, count: int = 1, timeout: float = 60) -> list[Any]:
        """Return the delivered bodies once there are *count* of them.

        :raises TimeoutError: fewer after *timeout* seconds
        """
        end = time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._accepted) >= count, end - time.monotonic()):
                raise TimeoutError(f"{len(self._accepted)} of {count} deliveries after {timeout:g} s")
            return [request.body for request in self._accepted]
