"""What every store of definitions answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.spec import Job


@dataclass(frozen=True)
class StoredJob:
    """A valid definition and where it came from."""

    job: Job
    definition: dict[str, Any]
    """As its author wrote it, decoded. Holds secrets: show ``spec.masked`` of it."""
    source: Literal["CODE", "API"]
    location: str
    """For people: the path of the file, as it was given to the store."""


@dataclass
class Loaded:
    """All that a store holds: the jobs that are valid, and by place the faults of those that are not."""

    jobs: list[StoredJob] = field(default_factory=list)
    faults: dict[str, list[JobFileError]] = field(default_factory=dict)

    def all_faults(self) -> Iterator[JobFileError]:
        for faults in self.faults.values():
            yield from faults


class JobStore(Protocol):
    """A place where definitions live."""

    def load(self, job_id: str) -> StoredJob | None:
        """The one job of that id, at the cost of one; None if there is none, or none that is valid."""
        ...

    def load_all(self) -> Loaded:
        """Everything; one broken definition costs that job alone."""
        ...
