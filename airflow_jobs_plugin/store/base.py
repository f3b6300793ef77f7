"""What every store of definitions answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.spec import Job, masked


@dataclass(frozen=True)
class StoredJob:
    """A valid definition and where it came from."""

    job: Job
    definition: dict[str, Any]
    """As its author wrote it, decoded. Holds secrets: show ``spec.masked`` of it."""
    source: Literal["CODE", "API"]
    location: str
    """For people: the path of the file, as it was given to the store."""
    revision: int = 0
    """Counts the changes of a definition that the REST API keeps; 0 for a file."""
    earlier: dict[int, Job] = field(default_factory=dict)
    """Revisions that started runs may still use."""

    def described(self) -> str:
        """What a server knows of a job whose file it may not have: JSON text, secrets masked."""
        return json.dumps(
            {
                "source": self.source,
                "revision": self.revision,
                # Of a file the name alone: where it is on the server is nobody's business.
                "location": Path(self.location).name if self.source == "CODE" else self.location,
                "definition": masked(self.definition),
            },
            ensure_ascii=False,
        )


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
