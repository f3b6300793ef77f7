"""Definitions in Airflow Variables: what the REST API creates, and every component on every machine can read.

Many definitions share a Variable, chosen by a hash of the id, so that a parse of all jobs needs a handful of reads and
a worker that needs one job needs one small one. Secrets are in Variables of their own, which a parse never reads;
Airflow masks their values wherever it shows Variables, because their keys say what they are.

A record keeps the revisions of a definition that started runs still use.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.spec import Job, check_job_id, explain
from airflow_jobs_plugin.spec.writeonly import Secrets, join
from airflow_jobs_plugin.store.base import Loaded, StoredJob

PREFIX = "airflow_jobs/"
DEFINITIONS = PREFIX + "definitions/"
SECRETS = PREFIX + "secrets/"
BUCKETS = 32

#: A Variable's text by key, None where there is none.
Get = Callable[[str], str | None]


@dataclass
class Revision:
    """A definition without its secrets."""

    definition: dict[str, Any]
    has_secrets: bool
    until: str | None = None
    """When the next revision replaced it."""


@dataclass
class Record:
    """One job as it is kept: the newest revision of its definition, and those that runs still use."""

    revision: int
    """Number of the newest."""
    created_at: str
    updated_at: str
    revisions: dict[int, Revision]

    @property
    def newest(self) -> Revision:
        """The definition as it is now."""
        return self.revisions[self.revision]


@dataclass
class Bucket:
    """The contents of one Variable with definitions: jobs by id, and when others were deleted."""

    jobs: dict[str, Record] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, text: str | None) -> Bucket:
        """From a Variable's text. Raises ``ValueError`` if it is not what this module wrote."""
        if not text:
            return cls()
        try:
            data = json.loads(text)
            return cls({k: _record(v) for k, v in data["jobs"].items()}, data.get("deleted") or {})
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a bucket of job definitions: {type(error).__name__}: {error}") from None

    def encode(self) -> str:
        """The Variable's text."""
        return json.dumps({"jobs": {k: asdict(record) for k, record in self.jobs.items()}, "deleted": self.deleted})


def _record(data: dict[str, Any]) -> Record:
    revisions = {int(n): Revision(**revision) for n, revision in data["revisions"].items()}
    record = Record(data["revision"], data["created_at"], data["updated_at"], revisions)
    _ = record.newest
    return record


def bucket_of(job_id: str) -> str:
    """The name of the bucket that holds, or would hold, a job."""
    return f"{zlib.crc32(job_id.encode()) % BUCKETS:02d}"


class JobVariables:
    """The jobs in Airflow's Variables, as a parse and a worker read them.

    :param get: reads a Variable
    :param keys: lists the keys with a prefix
    """

    def __init__(self, get: Get | None = None, keys: Callable[[str], Iterable[str]] | None = None) -> None:
        self._get = get or _get
        self._keys = keys or _keys

    def load(self, job_id: str) -> StoredJob | None:
        """The one job with its secrets, at the cost of two reads at most."""
        bucket = bucket_of(job_id)
        for _ in range(3):
            record = Bucket.decode(self._get(DEFINITIONS + bucket)).jobs.get(job_id)
            if record is None:
                return None
            secret = any(revision.has_secrets for revision in record.revisions.values())
            secrets = secrets_of(self._get(SECRETS + bucket) if secret else None, job_id)
            # Written together, but read one after the other: an update may have come between.
            if all(n in secrets for n, revision in record.revisions.items() if revision.has_secrets):
                return stored(job_id, record, secrets)
        raise JobFileError(location(job_id), "its secrets do not belong to its definition; write it again over REST")

    def load_all(self) -> Loaded:
        """Every job, without secrets."""
        loaded = Loaded()
        for key in sorted(self._keys(DEFINITIONS)):
            try:
                records = Bucket.decode(self._get(key)).jobs
            except ValueError as error:
                loaded.faults[key] = [JobFileError(f"Variable {key}", str(error))]
                continue
            for job_id, record in sorted(records.items()):
                try:
                    loaded.jobs.append(stored(job_id, record))
                except JobFileError as error:
                    loaded.faults[location(job_id) + f" ({job_id})"] = [error]
        return loaded


def is_job_id(dag_id: str) -> bool:
    """Whether a job could have that id."""
    try:
        check_job_id(dag_id)
    except ValueError:
        return False
    return True


def location(job_id: str) -> str:
    """Where a job is kept, for people."""
    return f"Variable {DEFINITIONS}{bucket_of(job_id)}"


def secrets_of(text: str | None, job_id: str) -> dict[int, Secrets]:
    """The secrets of a job by revision, from the text of their Variable."""
    found: dict[str, Secrets] = (json.loads(text) if text else {}).get(job_id, {})
    return {int(revision): secrets for revision, secrets in found.items()}


def stored(job_id: str, record: Record, secrets: dict[int, Secrets] | None = None) -> StoredJob:
    """A record as a job; without ``secrets`` masked, and without the earlier revisions, which only runs need.

    Raises ``JobFileError`` if it is not valid.
    """
    earlier: dict[int, Job] = {}
    definition = record.newest.definition
    if secrets is not None:
        for number, revision in record.revisions.items():
            if number != record.revision:
                earlier[number] = _validated(job_id, join(revision.definition, secrets.get(number, [])))
        definition = join(definition, secrets.get(record.revision, []))
    return StoredJob(_validated(job_id, definition), definition, "API", location(job_id), record.revision, earlier)


def _validated(job_id: str, definition: dict[str, Any]) -> Job:
    try:
        return Job.model_validate({**definition, "id": job_id}, context={"masked": True})
    except ValidationError as error:
        raise JobFileError(location(job_id), "; ".join(map(str, explain(error)))) from None


def _get(key: str) -> str | None:
    from airflow.sdk import Variable

    text: str | None = Variable.get(key, default=None)
    return text


def _keys(prefix: str) -> Iterable[str]:
    from airflow.sdk import Variable

    try:
        return list(Variable.keys(prefix))
    except ImportError:
        # Only Airflow's own processes have somebody who answers; a parse by the command line does without these jobs.
        return []
