"""What closing a run remembers of its delivery over the tries of its task, in Airflow's task state store."""

from __future__ import annotations

import base64
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

log = logging.getLogger(__name__)

#: Key of the sink task's state store with a request to deliver anew, as ``control/redelivery.py`` writes it.
REDELIVER = "redeliver"


def asked_again(context: Context) -> dict[str, Any]:
    """What ``control/redelivery.py`` left for this closing; empty if nobody asked for it."""
    asked: Any = context["task_state_store"].get(REDELIVER) or {}
    return asked if asked.get("clearNumber") == (context["dag_run"].clear_number or 0) else {}


def memory_key(clear_number: int) -> str:
    """Under what a closing keeps what it remembers: clearing the run closes it anew."""
    return f"delivery-{clear_number}"


class Notes:
    """The values by name; kept when one of the two methods says so."""

    def __init__(self, store: Any, key: str, fresh: dict[str, Any]) -> None:
        self._store, self._key = store, key
        self._value: dict[str, Any] = {**fresh, **(store.get(key) or {})}

    def __getitem__(self, name: str) -> Any:
        return self._value[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._value[name] = value

    def keep(self) -> None:
        """Keep them as they are, for as long as Airflow keeps the run: it may be delivered anew at any time."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._store.set(self._key, self._value, retention=NEVER_EXPIRE)

    def keep_at_all_costs(self) -> None:
        """Keep what was delivered. What is not noted would be delivered once more, if this process died then."""
        for pause in (0.5, 2, 5):
            try:
                self.keep()
                return
            except Exception:
                log.warning("The delivery could not be noted, trying again in %s s", pause, exc_info=True)
                time.sleep(pause)
        log.error("The delivery could not be noted: should this task be tried again, it is repeated under the same id")


class Indexes:
    """A set of item indexes, written as base64 of bits: 10,000 take 1.7 kB."""

    def __init__(self, text: str = "") -> None:
        self._bits = int.from_bytes(base64.b64decode(text), "little")

    def add(self, index: int) -> None:
        self._bits |= 1 << index

    def __contains__(self, index: int) -> bool:
        return bool(self._bits >> index & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()

    def without(self, others: Indexes) -> int:
        """How many there are that are not among others."""
        return (self._bits & ~others._bits).bit_count()

    def written(self) -> str:
        size = (self._bits.bit_length() + 7) // 8
        return base64.b64encode(self._bits.to_bytes(size, "little")).decode()
