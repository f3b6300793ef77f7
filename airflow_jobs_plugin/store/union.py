"""Job files and Variables as one store."""

from __future__ import annotations

import logging

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.store.base import Loaded, StoredJob
from airflow_jobs_plugin.store.files import JobFiles
from airflow_jobs_plugin.store.variables import JobVariables

log = logging.getLogger(__name__)


class AllJobs:
    """All definitions. Of two with one id, a file named after the id wins, then the REST API's, then other files.

    The REST API refuses ids that are taken, so two meet only where a file comes later. That order lets a worker
    find its one job without looking into every file.
    """

    def __init__(self, files: JobFiles, variables: JobVariables) -> None:
        self.files = files
        self.variables = variables

    def load(self, job_id: str) -> StoredJob | None:
        """The one job of that id, or None. Raises ``JobFileError`` if its definition is broken."""
        if self.files.has_named(job_id):
            found = self.files.load(job_id)
            if found is not None:
                return found
        return self.variables.load(job_id) or self.files.load(job_id)

    def load_all(self) -> Loaded:
        """Everything, the REST API's jobs without their secrets."""
        loaded = self.files.load_all()
        try:
            created = self.variables.load_all()
        except Exception as error:
            # The files' jobs must not go because Variables cannot be read at this moment.
            log.exception("The jobs of the REST API cannot be read")
            loaded.faults["Variables"] = [JobFileError("Variables", f"cannot be read: {type(error).__name__}: {error}")]
            return loaded
        by_id = {stored.job.id: stored for stored in loaded.jobs}
        for stored in created.jobs:
            other = by_id.get(stored.job.id)
            winner, loser = (stored, other)
            if other is not None and self.files.is_named(other):
                winner, loser = other, stored
            by_id[stored.job.id] = winner
            if loser is not None:
                message = f"the id {stored.job.id!r} is already defined in {winner.location}; ids are unique"
                loaded.faults[loser.location] = [JobFileError(loser.location, message)]
        loaded.jobs = [by_id[job_id] for job_id in sorted(by_id)]
        loaded.faults.update(created.faults)
        return loaded
