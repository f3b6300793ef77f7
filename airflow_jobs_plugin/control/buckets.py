"""The Variables that hold REST-created definitions, as the server reads and writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy.orm import Session

from airflow_jobs_plugin.control import variables
from airflow_jobs_plugin.control.variables import Found
from airflow_jobs_plugin.spec.writeonly import Secrets
from airflow_jobs_plugin.store.variables import DEFINITIONS, SECRETS, Bucket, bucket_of


@dataclass
class Kept:
    """One bucket, locked until the end of the transaction: definitions, and the secrets of each job's revisions."""

    name: str
    bucket: Bucket
    secrets: dict[str, dict[str, Secrets]]
    found: dict[str, Found]
    """The Variables as they were read."""

    def secrets_of(self, job_id: str) -> dict[int, Secrets]:
        """The secrets of a job by revision."""
        return {int(revision): secrets for revision, secrets in self.secrets.get(job_id, {}).items()}


def read(session: Session, job_id: str, *, lock: bool = False) -> Kept:
    """The bucket of a job; with ``lock`` nobody else changes it before this transaction ends."""
    name = bucket_of(job_id)
    found = variables.read(session, [DEFINITIONS + name, SECRETS + name], lock=lock)
    texts = {key: variable.text for key, variable in found.items()}
    secrets = texts.get(SECRETS + name)
    return Kept(name, Bucket.decode(texts.get(DEFINITIONS + name)), json.loads(secrets) if secrets else {}, found)


def write(session: Session, kept: Kept) -> None:
    """Write a bucket that was read with ``lock``. Raises what ``variables.write`` raises."""
    texts = {
        DEFINITIONS + kept.name: kept.bucket.encode() if kept.bucket.jobs or kept.bucket.deleted else None,
        SECRETS + kept.name: json.dumps(kept.secrets) if kept.secrets else None,
    }
    for key, text in texts.items():
        variables.write(session, key, text, kept.found.get(key))
    session.flush()


__all__ = ["Kept", "read", "write"]
