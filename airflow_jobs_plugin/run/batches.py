"""How the list of a run is kept whose items share task instances: cut into batches, one per task instance.

What ``plan`` returns, and ``payload`` is mapped over, is a short reference per batch; the items of batch *n* are an
XCom of ``plan`` of their own. So neither a task that starts nor an append reads more than it needs of a long list.
Batches follow each other without gaps: item *i* is in the one with ``first <= i < first + count``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

#: Key of the state store row of ``plan`` with the sizes of the batches, so that whoever counts reads no list.
SIZES = "batches"


@dataclass(frozen=True)
class Appendage:
    """What one append added: consecutive items of one batch."""

    mark: str
    first: int
    count: int
    depth: int
    parent: int | None


@dataclass(frozen=True)
class Batch:
    """Items that one task instance drives."""

    number: int
    """Also the ``map_index`` of its task instance."""
    first: int
    """Index of its first item in the run's list."""
    count: int
    plan: str
    """Of which plan it is: clearing the run has another one made, and what was recorded for the one before is void."""
    appended: tuple[Appendage, ...] = field(default=())

    @property
    def end(self) -> int:
        """Index after its last item."""
        return self.first + self.count

    @property
    def key(self) -> str:
        """XCom key of its items."""
        return f"items-{self.number:05d}"

    def grown(self, more: Appendage) -> Batch:
        """The batch with what an append has put at its end."""
        return replace(self, count=self.count + more.count, appended=(*self.appended, more))

    def written(self) -> dict[str, Any]:
        """The reference, as ``plan`` returns it."""
        appended = [[a.mark, a.first, a.count, a.depth, a.parent] for a in self.appended]
        return {"batch": self.number, "first": self.first, "count": self.count, "plan": self.plan, "appended": appended}

    @classmethod
    def read(cls, value: dict[str, Any]) -> Batch:
        """From what ``written`` returned."""
        appended = tuple(Appendage(*a) for a in value["appended"])
        return cls(value["batch"], value["first"], value["count"], value["plan"], appended)


def is_batch(value: dict[str, Any]) -> bool:
    """Whether an element of what ``plan`` returned is a reference to a batch; else it is an item."""
    return "batch" in value


def cut(count: int, size: int, plan: str) -> list[Batch]:
    """The batches of a list of that many items."""
    return [Batch(n, first, min(size, count - first), plan) for n, first in enumerate(range(0, count, size))]


def sizes_of(batches: list[Batch]) -> dict[str, Any]:
    """The value of the row ``SIZES``."""
    return {"plan": batches[0].plan, "sizes": [batch.count for batch in batches]}


def tasks_at_once(concurrency: int, size: int) -> int:
    """How many task instances of a run may be active, to keep that many calls going with batches of that size.

    Two more than have enough items for it, so that lanes are not idle while an instance starts, or waits for its last
    items; more where a single process would be the bottleneck.
    """
    return min(concurrency, max(-(-concurrency // size) + 2, -(-concurrency // 64)))
