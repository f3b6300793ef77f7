"""What an item's attempt remembers beyond the death of its worker: kept in Airflow's task state store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

KEY = "attempt"


class ItemMemory:
    """The ``Memory`` of one item. Clearing the item forgets: what a person asks for anew begins anew."""

    def __init__(self, context: Context, index: int | None = None) -> None:
        """``index`` tells items apart that share a task instance."""
        self._key = KEY if index is None else f"{KEY}-{index}"
        self._store: Any = context["task_state_store"]
        # Clearing raises it, and nothing else does.
        self._life = context["ti"].max_tries

    async def recall(self) -> dict[str, Any] | None:
        """What was remembered last."""
        return await asyncio.to_thread(self.now)

    async def remember(self, value: dict[str, Any] | None) -> None:
        """Keep a small JSON object, or nothing. It is kept when this returns."""
        if value is None:
            await asyncio.to_thread(self._store.delete, self._key)
        else:
            await asyncio.to_thread(self._store.set, self._key, {"life": self._life, "value": value})

    def now(self) -> dict[str, Any] | None:
        """``recall`` for those who are not asynchronous."""
        kept = self._store.get(self._key)
        return kept["value"] if isinstance(kept, dict) and kept.get("life") == self._life else None
