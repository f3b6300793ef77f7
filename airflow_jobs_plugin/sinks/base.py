"""What a sink is, and the window in which a delivery is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any, Literal, Protocol

Format = Literal["json", "jsonl"]
CHUNK = 64 * 1024
#: What bodies are, by format.
CONTENT_TYPES: dict[Format, str] = {"json": "application/json", "jsonl": "application/x-ndjson"}


@dataclass(frozen=True)
class Window:
    """How long a delivery is retried: waits of ``first``, doubling up to ``longest``, until ``total`` is over."""

    first: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(minutes=2)
    total: timedelta = timedelta(hours=1)

    def wait(self, failures: int, elapsed: timedelta, asked: float | None = None) -> timedelta | None:
        """The wait after the given number of failed tries (from 1), or None when the window is over.

        ``elapsed`` is what the tries and the waits between them took. ``asked`` is the receiver's own wish in seconds:
        never less is waited, and where it reaches beyond the window the last try is made at the window's end.
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
    content_type: str = CONTENT_TYPES["json"]
    names: Mapping[str, str] = field(default_factory=dict)
    """Values for templates of names: ``jobId``, ``jobRunId``, ``date`` (YYYY-MM-DD) and ``time`` (HHMMSS) of the run's
    start in UTC, ``type``, ``status``; of a single item also ``index``, ``itemId`` and ``api``."""


class DeliverySink(Protocol):
    """Delivers. One class per kind of destination.

    That of another distribution is registered as an entry point in the group ``airflow_jobs.sinks`` under the ``type``
    that definitions name. It has an inner class ``Spec``, a subclass of ``spec.sinks.BaseSink`` with the fields of the
    definition (secrets in fields with names such as ``token`` or ``password``, which are masked wherever a job is
    shown), and is made with an instance of that and the ``destinations.Destinations`` that its deliveries may reach.
    Validating a definition imports the module: what is heavy belongs into ``deliver``.
    """

    window: Window
    format: Format
    """``json``: one document per delivery. ``jsonl``: one item per line."""

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        """Try once. Returns what to record (``{"to", "statusCode", …}``). Raises ``DeliveryError``."""
        ...

    def destination(self) -> str:
        """Where it goes, without secrets."""
        ...


def one_line(text: str) -> str:
    """What somebody else wrote, as one line of at most 300 printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def chunks(body: IO[bytes]) -> Iterator[bytes]:
    """The whole body from its start, in pieces."""
    body.seek(0)
    while chunk := body.read(CHUNK):
        yield chunk
