"""Notes of the plugin on a run, in Airflow's task state store: they hang on the run and go with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

#: Task id of the notes. No task has it: job DAGs have three, and none is called so.
OWNER = "job"
TERMINATED, JUDGED = "terminated", "judged"


def mark(session: Session, run: Any, key: str, value: dict[str, Any]) -> None:
    """Note something on a ``DagRun``. It counts until the run is cleared."""
    from airflow.models.task_state_store import TaskStateStoreModel as Store

    text = json.dumps({**value, "clearNumber": run.clear_number})
    row = session.scalar(
        select(Store).where(Store.dag_run_id == run.id, Store.task_id == OWNER, Store.map_index == -1, Store.key == key)
    )
    if row is not None:
        row.value = text
        row.updated_at = datetime.now(UTC)
        return
    session.add(
        Store(
            dag_run_id=run.id,
            dag_id=run.dag_id,
            run_id=run.run_id,
            task_id=OWNER,
            map_index=-1,
            key=key,
            value=text,
            updated_at=datetime.now(UTC),
        )
    )


def read_mark(text: str | None, clear_number: int) -> dict[str, Any] | None:
    """A note as it was written, unless the run was cleared since."""
    value: dict[str, Any] | None = json.loads(text) if text else None
    return value if value is not None and value.get("clearNumber") == clear_number else None
