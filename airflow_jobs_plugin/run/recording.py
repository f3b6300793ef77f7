"""The journal of a batch in Airflow's task state store: written while the batch runs, replayed when it comes again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_jobs_plugin.run.journal import PROGRESS, Ended, Row, pack, piece_key, replay, row_key

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Bodies that wait to be written, in characters, with which no further item is started.
MOST_WAITING = 8 * 1024 * 1024
#: Items, and characters, of which a row is written at once; and seconds after which it is written anyway.
ROW_ITEMS, ROW_CHARACTERS, ROW_SECONDS = 100, 2 * 1024 * 1024, 0.8
#: Seconds that writing a row may take before nothing more is begun.
LATE = 2.0


class Journal:
    """Collects what happens to the items of a batch, and keeps it.

    Everything is for the event loop's thread, but for ``write``.
    """

    def __init__(self, context: Context, life: int, plan: str, count: int) -> None:
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._store: Any = context["task_state_store"]
        self._forever = NEVER_EXPIRE
        self.standing = replay(self._rows())
        counted: Any = self._store.get(PROGRESS)
        if self.standing.rows and (counted or {}).get("rows") != self.standing.rows:
            # A worker died between a row and the counts that go with it.
            self._set(PROGRESS, self._progress())
        self._row = self._fresh(life, plan)
        self._row.begins = self.standing.due(life, plan, count)
        if self._row.begins:
            self.standing.begin(life, self._row.begins)
        # What was in flight when the row before was written went down with its worker.
        self._row.lost = sorted(self.standing.flying - self.standing.ended.keys())
        self.standing.deaths.update(self._row.lost)
        self.standing.flying.clear()
        self._lock = threading.Lock()
        self._bodies: list[str] = []
        self._size = 0
        self._writing: tuple[Row, list[str]] | None = None
        self._applied, self._taken = False, 0.0
        self.flying: set[int] = set()

    def _fresh(self, life: int, plan: str) -> Row:
        return Row(life=life, plan=plan)

    def _rows(self) -> Iterator[dict[str, Any]]:
        number = 0
        while (row := self._store.get(row_key(number))) is not None:
            yield row
            number += 1

    # -- collecting ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether writing lags behind, and nothing more should be begun: it would be called again after a death."""
        late = self._writing is not None and time.monotonic() - self._taken > LATE
        return late or self._size > MOST_WAITING or self._events > 4 * ROW_ITEMS

    @property
    def due(self) -> bool:
        """Whether there is enough for a row, without waiting for time to pass."""
        return self._events >= ROW_ITEMS or self._size >= ROW_CHARACTERS

    @property
    def _events(self) -> int:
        return len(self._row.ended) + len(self._row.tried)

    def ended(self, index: int, ended: Ended, body: str) -> None:
        """An item has ended; ``body`` is its result, or its error, as JSON text."""
        placed = ended._replace(offset=self._size, length=len(body))
        self._bodies.append(body)
        self._size += len(body)
        self._row.ended.append((index, placed))

    def tried(self, index: int, attempts: int, due: int) -> None:
        """An attempt failed, and another one is due then (milliseconds since the epoch)."""
        self._row.tried.append((index, attempts, due))

    def sent(self, index: int) -> None:
        """An item was delivered."""
        self._row.sent.append(index)

    # -- keeping -------------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Set aside what has happened since the last time, to be written; returns whether there is anything."""
        if self._writing is None:
            row = self._row
            news = row.ended or row.tried or row.sent or row.lost or row.begins
            if not news and self.flying == self.standing.flying:
                return False
            row.flying = sorted(self.flying)
            self._writing, self._taken = (row, self._bodies), time.monotonic()
            self._row, self._bodies, self._size = self._fresh(row.life, row.plan), [], 0
        return True

    def write(self) -> list[tuple[int, Ended, str]]:
        """Keep what was set aside; returns the items that had ended, with their bodies. For any thread.

        Raises what the store raises; what was not kept is then kept the next time.
        """
        with self._lock:
            return self._write() if self._writing is not None else []

    def _write(self) -> list[tuple[int, Ended, str]]:
        if TYPE_CHECKING:
            assert self._writing is not None
        row, bodies = self._writing
        if not self._applied:
            number = self.standing.rows
            pieces, row.packed = pack("".join(bodies))
            row.pieces = len(pieces)
            for place, piece in enumerate(pieces):
                self._set(piece_key(number, place), piece)
            # Only now it counts: the pieces of a row that is not there are written over.
            self._set(row_key(number), row.written())
            row.lost, row.begins = [], None
            self.standing.apply(row)
            self._applied = True
        self._set(PROGRESS, self._progress())
        self._writing, self._applied = None, False
        return [(index, ended, body) for (index, ended), body in zip(row.ended, bodies, strict=True)]

    def _progress(self) -> dict[str, Any]:
        standing = self.standing
        return {"life": standing.life, "plan": standing.plan, "rows": standing.rows, **standing.counts()}

    def _set(self, key: str, value: Any) -> None:
        self._store.set(key, value, retention=self._forever)


def unrecordable() -> str | None:
    """Why the task state store cannot keep what a batch comes to, as it is configured here; None if it can."""
    from airflow.configuration import conf

    if conf.getboolean("state_store", "clear_on_success", fallback=False):
        return "with [state_store] clear_on_success results would be lost; switch it off, or use itemsPerTask 1"
    if conf.get("workers", "state_store_backend", fallback=""):
        return "with a [workers] state_store_backend the server cannot read progress and results; use itemsPerTask 1"
    return None


__all__ = ["ROW_ITEMS", "ROW_SECONDS", "Journal", "unrecordable"]
