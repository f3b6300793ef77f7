"""What ``airflow-jobs lint`` checks, without Airflow: everything that would keep a job file from becoming a DAG."""

from __future__ import annotations

import os
import re
from pathlib import Path

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.run.items import unrunnable
from airflow_jobs_plugin.store import lint as read_files
from airflow_jobs_plugin.store.neighbours import python_dag_ids
from airflow_jobs_plugin.store.reading import read_regular, shown

#: Airflow's default; the environment variable is honoured, Airflow's configuration file is not read.
MAX_MAP_LENGTH = 1024
#: How far into a Python file the factory's import is looked for.
FACTORY_BYTES = 100_000


def lint(paths: list[Path]) -> tuple[list[JobFileError], int]:
    """Check files and folders. Returns the faults by path, line and column, and the number of jobs without one."""
    missing = [JobFileError(shown(path), "no such file or folder") for path in paths if not path.exists()]
    loaded = read_files([path for path in paths if path.exists()])
    faults = list(loaded.all_faults())
    taken = _neighbours(paths, {stored.job.id for stored in loaded.jobs})
    good = 0
    for stored in loaded.jobs:
        problem = unrunnable(stored.job, _max_map_length())
        if problem is None and (other := taken.get(stored.job.id)):
            problem = f"id: {stored.job.id!r} is the id of another DAG, in {other}; choose another"
        if problem is None:
            good += 1
        else:
            faults.append(JobFileError(stored.location, problem))
    return missing + sorted(faults, key=lambda fault: (fault.path, fault.line, fault.column)), good


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
