"""What a sink is, and the window in which a delivery is tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any, Protocol


@dataclass(frozen=True)
class Window:
    """How long a delivery is retried: waits of ``first``, doubling up to ``longest``, until ``total`` is over."""

    first: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(minutes=2)
    total: timedelta = timedelta(hours=1)

    def wait(self, failures: int, elapsed: timedelta, asked: float | None = None) -> timedelta | None:
        """The wait after the given number of failed tries (from 1), or None when the window is over.

        ``elapsed`` counts from the first try. ``asked`` is the receiver's own wish in seconds: never less is
        waited, and where it reaches beyond the window the last try is made at the window's end.
        """
        if elapsed >= self.total:
            return None
        # Beyond 2^20 the doubling has long met its bound, and larger powers would overflow.
        wait: timedelta = min(self.first * 2 ** min(failures - 1, 20), self.longest)
        if asked is not None:
            wait = max(wait, timedelta(seconds=min(asked, self.total.total_seconds())))
        return min(wait, self.total - elapsed)


@dataclass(frozen=True)
class Delivery:
    """One thing to deliver."""

    id: str
    """The same over all tries of it, so that the receiver can tell a repeat."""
    body: IO[bytes]
    """Positioned anywhere; the sink rewinds it for every try."""
    size: int
    """Bytes in ``body``."""


class DeliverySink(Protocol):
    """Delivers. One class per kind of destination."""

    window: Window

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        """Try once. Returns what to record (``{"to", "statusCode", …}``). Raises ``DeliveryError``."""
        ...

    def destination(self) -> str:
        """Where it goes, without secrets."""
        ...
