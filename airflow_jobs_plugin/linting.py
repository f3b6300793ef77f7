"""What ``airflow-jobs lint`` checks, without Airflow: everything that would keep a job file from becoming a DAG."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.run.items import unrunnable
from airflow_jobs_plugin.spec import Job
from airflow_jobs_plugin.store import lint as read_files
from airflow_jobs_plugin.store.neighbours import python_dag_ids
from airflow_jobs_plugin.store.reading import read_regular, shown

#: Airflow's default; the environment variable is honoured, Airflow's configuration file is not read.
MAX_MAP_LENGTH = 1024
#: Items from which on sharing task instances is advised.
MANY_ITEMS = 300
#: How far into a Python file the factory's import is looked for.
FACTORY_BYTES = 100_000


class Linted(NamedTuple):
    """What there is to say of job files."""

    faults: list[JobFileError]
    """By path, line and column."""
    good: int
    """The number of jobs without a fault."""
    advice: list[str]
    """What would be better, a line each."""


def lint(paths: list[Path]) -> Linted:
    """Check files and folders."""
    missing = [JobFileError(shown(path), "no such file or folder") for path in paths if not path.exists()]
    loaded = read_files([path for path in paths if path.exists()])
    faults = list(loaded.all_faults())
    taken = _neighbours(paths, {stored.job.id for stored in loaded.jobs})
    good = 0
    advice = []
    for stored in loaded.jobs:
        problem = unrunnable(stored.job, _max_map_length())
        if problem is None and (other := taken.get(stored.job.id)):
            problem = f"id: {stored.job.id!r} is the id of another DAG, in {other}; choose another"
        if problem is None:
            good += 1
            if told := _advice(stored.job):
                advice.append(f"{stored.location}: {told}")
        else:
            faults.append(JobFileError(stored.location, problem))
    ordered = sorted(faults, key=lambda fault: (fault.path, fault.line, fault.column))
    return Linted(missing + ordered, good, sorted(advice))


def _advice(job: Job) -> str | None:
    count = len(job.payload)
    if count <= MANY_ITEMS or job.configuration.items_per_task > 1:
        return None
    return (
        f"note: {count} items are as many task instances, of about half a CPU second each; with "
        f"configuration.itemsPerTask, such as {min(count, 1000)}, they share some"
    )


def _neighbours(paths: list[Path], wanted: set[str]) -> dict[str, str]:
    """Ids of the Python DAGs beside the factory file of each given folder, where there is such a file."""
    found: dict[str, str] = {}
    for path in paths:
        if not path.exists():
            continue
        folder = path.absolute() if path.is_dir() else path.absolute().parent
        # The factory file stands beside the folder of the job files, which may have sub-folders.
        for parent in (folder, *folder.parents[:2]):
            if any(_calls_factory(file) for file in parent.glob("*.py")):
                found |= python_dag_ids(parent, wanted)
                break
    return found


def _calls_factory(file: Path) -> bool:
    try:
        return (
            re.search(rb"(?m)^from airflow_jobs_plugin\.factory import load_jobs", read_regular(file, FACTORY_BYTES))
            is not None
        )
    except OSError:
        return False


def _max_map_length() -> int:
    value = os.environ.get("AIRFLOW__CORE__MAX_MAP_LENGTH", "")
    return int(value) if value.isdecimal() else MAX_MAP_LENGTH
