"""What the items of a batch have come to, as its task instance records it while it runs.

A journal is a sequence of rows in the instance's task state store, each written once: what has happened since the row
before. The bodies (results and errors) of a row's items stand in rows of their own, so that whoever only counts, or
lists, does not read them. Everything here is pure: the worker writes rows and replays them after a death, the server
replays them for those who look.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Key of the row with the counts, which is written over and over.
PROGRESS = "progress"
#: Characters of one piece of the bodies: with what JSON adds, below the 64 KB from which Airflow warns.
PIECE = 60_000


def row_key(row: int) -> str:
    """Key of a row, from 0."""
    return f"log-{row:06d}"


def piece_key(row: int, piece: int) -> str:
    """Key of a piece of a row's bodies, from 0."""
    return f"body-{row:06d}-{piece:03d}"


class Ended(NamedTuple):
    """How an item ended, and where its body is."""

    ok: bool
    attempts: int
    start: int
    """Of the last attempt, milliseconds since the epoch."""
    took: int
    """The last attempt, milliseconds."""
    status_code: int | None
    offset: int
    """Of the body in its row's bodies."""
    length: int
    row: int = 0
    life: int = 0


@dataclass
class Row:
    """What is noted at a time."""

    ended: list[tuple[int, Ended]] = field(default_factory=list)
    tried: list[tuple[int, int, int]] = field(default_factory=list)
    """Items that wait for another attempt: index, attempts made, when the next one is due (milliseconds)."""
    flying: list[int] = field(default_factory=list)
    """Items that are being called."""
    lost: list[int] = field(default_factory=list)
    """Items that were being called when an earlier worker died."""
    sent: list[int] = field(default_factory=list)
    """Items that have been delivered."""
    life: int = 0
    """Which life of the items it is: clearing the instance begins another one."""
    plan: str = ""
    """Which plan the list is of: clearing the run has another one made."""
    begins: str | None = None
    """At the beginning of another life: which items run anew, ``all`` or ``failed``."""
    pieces: int = 0
    packed: bool = False

    def written(self) -> dict[str, Any]:
        """The row as a small JSON object."""
        value: dict[str, Any] = {"life": self.life, "plan": self.plan, "pieces": self.pieces, "packed": self.packed}
        if self.begins:
            value["begins"] = self.begins
        if self.ended:
            value["ended"] = [[index, int(e.ok), *e[1:7]] for index, e in self.ended]
        if self.tried:
            value["tried"] = [list(t) for t in self.tried]  # the store takes no tuples
        for name in ("flying", "lost", "sent"):
            if found := getattr(self, name):
                value[name] = found
        return value

    @classmethod
    def read(cls, value: dict[str, Any]) -> Row:
        """From what ``written`` returned."""
        ended = [(e[0], Ended(bool(e[1]), *e[2:8])) for e in value.get("ended", ())]
        return cls(
            ended,
            [(t[0], t[1], t[2]) for t in value.get("tried", ())],
            list(value.get("flying", ())),
            list(value.get("lost", ())),
            list(value.get("sent", ())),
            value["life"],
            value["plan"],
            value.get("begins"),
            value["pieces"],
            value["packed"],
        )


@dataclass
class Standing:
    """What all rows of a journal come to."""

    ended: dict[int, Ended] = field(default_factory=dict)
    tried: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of items that wait for another attempt: attempts made, when it is due (milliseconds since the epoch)."""
    flying: set[int] = field(default_factory=set)
    deaths: Counter[int] = field(default_factory=Counter)
    sent: set[int] = field(default_factory=set)
    life: int = 0
    plan: str = ""
    rows: int = 0
    """How many there are."""
    shapes: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """Of rows with bodies: pieces, and whether they are packed."""

    def apply(self, row: Row) -> None:
        """Add the next row."""
        if row.begins:
            self.begin(row.life, row.begins)
        # In this order: an item may have waited for an attempt and ended with it within one row.
        for index, attempts, due in row.tried:
            self.tried[index] = (attempts, due)
        for index, ended in row.ended:
            self.ended[index] = ended._replace(row=self.rows, life=row.life)
            self.tried.pop(index, None)
        self.deaths.update(row.lost)
        self.sent.update(row.sent)
        self.flying = set(row.flying)
        self.life, self.plan = row.life, row.plan
        if row.pieces:
            self.shapes[self.rows] = (row.pieces, row.packed)
        self.rows += 1

    def begin(self, life: int, which: str) -> None:
        """Begin another life, in which ``all`` items run anew, or those that ``failed``."""
        gone = [n for n, e in self.ended.items() if which == "all" or not e.ok]
        for index in gone:
            del self.ended[index]
            self.sent.discard(index)
        self.tried.clear()
        self.flying.clear()
        self.deaths.clear()
        self.life = life

    def due(self, life: int, plan: str, count: int) -> str | None:
        """Which items run anew, now that the instance is in that life; None if it is the one of the journal.

        A person who clears an instance means what had failed in it, or, if nothing had, all of it. If the list is
        another one, nothing of before counts.
        """
        if not self.rows:
            return None
        if plan != self.plan:
            return "all"
        if life == self.life:
            return None
        return "all" if len(self.ended) >= count and all(e.ok for e in self.ended.values()) else "failed"

    def counts(self) -> dict[str, int]:
        """For the row ``PROGRESS``; what is in none of these waits for its first attempt."""
        succeeded = sum(e.ok for e in self.ended.values())
        return {
            "succeeded": succeeded,
            "failed": len(self.ended) - succeeded,
            "running": len(self.flying),
            "retrying": sum(n not in self.flying for n in self.tried),
            "again": sum(n in self.flying for n in self.tried),
        }


def replay(rows: Iterable[dict[str, Any]]) -> Standing:
    """What a journal comes to."""
    standing = Standing()
    for row in rows:
        standing.apply(Row.read(row))
    return standing


def pack(text: str) -> tuple[list[str], bool]:
    """The bodies of a row as pieces to be stored, and whether they are compressed."""
    if not text:
        return [], False
    if len(text) <= PIECE // 2:  # quotes inside take two characters when it is stored as JSON
        return [text], False
    packed = base64.b64encode(zlib.compress(text.encode(), 1)).decode()
    return [packed[n : n + PIECE] for n in range(0, len(packed), PIECE)], True


def unpack(pieces: Iterable[str], packed: bool) -> str:
    """The bodies of a row."""
    text = "".join(pieces)
    return zlib.decompress(base64.b64decode(text)).decode() if packed else text


def outcome_of(index: int, ended: Ended, body: str, message_id: str, *, sent: bool) -> dict[str, Any]:
    """An item's outcome as ``run/outcomes.py`` has it, from the journal."""
    outcome: dict[str, Any] = {
        "index": index,
        "status": "completed" if ended.ok else "failed",
        "attempts": ended.attempts,
        "statusCode": ended.status_code,
        "messageId": message_id,
    }
    if ended.ok:
        outcome["result"] = body
    else:
        outcome |= json.loads(body)
    if sent:
        outcome["delivered"] = {}
    return outcome
