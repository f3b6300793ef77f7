"""Airflow's Variables, as the server reads and writes them.

Read by column and decrypted here: loading a Variable as an object hands its value to Airflow's secrets masker, which
keeps it for good.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

DESCRIPTION = "Kept by the jobs plugin; change jobs over its REST API."


def read(session: Session, keys: list[str], *, lock: bool = False) -> dict[str, str]:
    """The texts of those Variables that there are; with ``lock`` they are this transaction's until it ends."""
    from airflow.models.crypto import get_fernet
    from airflow.models.variable import Variable

    # In one order, so that two writers never wait for each other.
    query = select(Variable.key, Variable._val, Variable.is_encrypted).where(Variable.key.in_(keys))
    query = query.order_by(Variable.key)
    texts = {}
    for key, value, encrypted in session.execute(query.with_for_update() if lock else query):
        texts[key] = get_fernet().decrypt(value.encode()).decode() if encrypted else value
    return texts


def write(session: Session, key: str, text: str | None) -> None:
    """Set a Variable, or remove it. A new one that another writer makes at the same time is an ``IntegrityError``."""
    from airflow.models.crypto import get_fernet
    from airflow.models.variable import Variable

    if text is None:
        session.execute(delete(Variable).where(Variable.key == key))
        return
    fernet = get_fernet()
    values: dict[Any, Any] = {
        Variable._val: fernet.encrypt(text.encode()).decode(),
        Variable.is_encrypted: fernet.is_encrypted,
    }
    changed: Any = session.execute(
        update(Variable).where(Variable.key == key).values(values).execution_options(synchronize_session=False)
    )
    if not changed.rowcount:
        # Two that make the same one: the unique key refuses the second, and its transaction is tried again.
        session.add(Variable(key=key, val=text, description=DESCRIPTION))  # type: ignore[no-untyped-call]
