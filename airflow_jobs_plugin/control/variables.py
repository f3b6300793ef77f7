"""Airflow's Variables, as the server reads and writes them: what another writer has changed meanwhile is not lost.

Read by column and decrypted here: loading a Variable as an object hands its value to Airflow's secrets masker, which
keeps it for good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from airflow_jobs_plugin.control.transactions import Overtaken

DESCRIPTION = "Kept by the jobs plugin; change jobs over its REST API."


@dataclass(frozen=True)
class Found:
    """A Variable as it was read."""

    text: str
    raw: str = field(repr=False)
    """As it is stored: by which it is told whether it is still that one."""


def read(session: Session, keys: list[str], *, lock: bool = False) -> dict[str, Found]:
    """Those Variables that there are; with ``lock`` they are this transaction's until it ends."""
    from airflow.models.crypto import get_fernet
    from airflow.models.variable import Variable

    # In one order, so that two writers never wait for each other.
    query = select(Variable.key, Variable._val, Variable.is_encrypted).where(Variable.key.in_(keys))
    query = query.order_by(Variable.key)
    found = {}
    for key, raw, encrypted in session.execute(query.with_for_update() if lock else query):
        found[key] = Found(get_fernet().decrypt(raw.encode()).decode() if encrypted else raw, raw)
    return found


def write(session: Session, key: str, text: str | None, before: Found | None) -> None:
    """Set a Variable, or remove it.

    What is not there cannot be locked, and SQLite locks nothing, so it is written only over what was read.

    :param before: the Variable as this transaction has read it; None: there was none
    :raises Overtaken: another writer was quicker; the transaction is to be tried again
    :raises IntegrityError: the same, of a Variable that both have made
    """
    from airflow.models.crypto import get_fernet
    from airflow.models.variable import Variable

    if before is None:
        if text is not None:
            session.add(Variable(key=key, val=text, description=DESCRIPTION))  # type: ignore[no-untyped-call]
        return
    mine = (Variable.key == key, Variable._val == before.raw)
    if text is None:
        done: Any = session.execute(delete(Variable).where(*mine).execution_options(synchronize_session=False))
    else:
        fernet = get_fernet()
        values: dict[Any, Any] = {
            Variable._val: fernet.encrypt(text.encode()).decode(),
            Variable.is_encrypted: fernet.is_encrypted,
        }
        change = update(Variable).where(*mine).values(values)
        done = session.execute(change.execution_options(synchronize_session=False))
    if done.rowcount != 1:
        raise Overtaken(f"another writer has changed the Variable {key!r} meanwhile")
