"""Two ways to drive items: each alone in a task instance of its own, or many sharing one. Semantics do not differ."""

from __future__ import annotations

from typing import Any

import pytest

#: For tests of what is so either way: they run with ``itemsPerTask`` 1, and with 4 where they are marked as ``core``
#: too, or all are asked for (``--thorough``): that takes ten minutes more.
either_way = pytest.mark.usefixtures("items_per_task")
SHARED = 4

_items_per_task = 1


def use(items_per_task: int) -> None:
    """Have definitions that do not say how many items share a task instance say so."""
    global _items_per_task
    _items_per_task = items_per_task


def shared() -> bool:
    """Whether items share task instances, in the test that runs."""
    return _items_per_task > 1


def in_use(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition, with ``itemsPerTask`` of the test that runs if it has none of its own."""
    configuration = definition.get("configuration") or {}
    if _items_per_task == 1 or "itemsPerTask" in configuration:
        return definition
    return {**definition, "configuration": {**configuration, "itemsPerTask": _items_per_task}}
