"""The Variables that hold REST-created definitions, as the server reads and writes them.

Read by column and decrypted here: loading a Variable as an object hands its value to Airflow's secrets masker, which
keeps it for good.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from airflow_jobs_plugin.spec.writeonly import Secrets
from airflow_jobs_plugin.store.variables import DEFINITIONS, SECRETS, Bucket, bucket_of

DESCRIPTION = "Kept by the jobs plugin; change jobs over its REST API."


@dataclass
class Kept:
    """One bucket, locked until the end of the transaction: definitions, and the secrets of each job's revisions."""

    name: str
    bucket: Bucket
    secrets: dict[str, dict[str, Secrets]]

    def secrets_of(self, job_id: str) -> dict[int, Secrets]:
        """The secrets of a job by revision."""
        return {int(revision): secrets for revision, secrets in self.secrets.get(job_id, {}).items()}


def read(session: Session, job_id: str, *, lock: bool = False) -> Kept:
    """The bucket of a job; with ``lock`` nobody else changes it before this transaction ends."""
    name = bucket_of(job_id)
    texts = _texts(session, [DEFINITIONS + name, SECRETS + name], lock)
    secrets = texts.get(SECRETS + name)
    return Kept(name, Bucket.decode(texts.get(DEFINITIONS + name)), json.loads(secrets) if secrets else {})


def write(session: Session, kept: Kept) -> None:
    """Write a bucket that was read with ``lock``."""
    definitions = kept.bucket.encode() if kept.bucket.jobs or kept.bucket.deleted else None
    _put(session, DEFINITIONS + kept.name, definitions)
    _put(session, SECRETS + kept.name, json.dumps(kept.secrets) if kept.secrets else None)
    session.flush()


def _texts(session: Session, keys: list[str], lock: bool) -> dict[str, str]:
    from airflow.models.crypto import get_fernet
    from airflow.models.variable import Variable

    # In one order, so that two writers never wait for each other.
    query = select(Variable.key, Variable._val, Variable.is_encrypted).where(Variable.key.in_(keys))
    query = query.order_by(Variable.key)
    texts = {}
    for key, value, encrypted in session.execute(query.with_for_update() if lock else query):
        texts[key] = get_fernet().decrypt(value.encode()).decode() if encrypted else value
    return texts


def _put(session: Session, key: str, text: str | None) -> None:
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


__all__ = ["Kept", "read", "write"]
