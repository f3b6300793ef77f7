"""Job files: ``*.job.yaml``, ``*.job.yml`` and ``*.job.json`` in a folder and its sub-folders. Read-only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.spec import Job, check_job_id, explain
from airflow_jobs_plugin.spec.faults import MOST_FAULTS
from airflow_jobs_plugin.store import documents
from airflow_jobs_plugin.store.base import Loaded, StoredJob
from airflow_jobs_plugin.store.reading import read_regular, shown

SUFFIXES = (".job.yaml", ".job.yml", ".job.json")


class JobFiles:
    """The job files below a folder.

    Where two files define the same id, the one named after the id wins, then the one in the least deep folder,
    then the first by path; the others are reported as faults. A worker that needs one job looks where it is
    most likely to be found, in that order, and not into every file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def has_named(self, job_id: str) -> bool:
        """Whether a file right in the folder is named after the job; without listing it."""
        return any(os.path.lexists(os.path.join(self.folder, job_id + suffix)) for suffix in SUFFIXES)

    def is_named(self, stored: StoredJob) -> bool:
        """Whether that is where the job was found."""
        return Path(stored.location).parent == self.folder and stem(Path(stored.location)) == stored.job.id

    def load(self, job_id: str) -> StoredJob | None:
        """The job of that id, or None. Raises ``JobFileError`` if the file named after it is broken."""
        names = sorted(job_id + suffix for suffix in SUFFIXES)
        fault: JobFileError | None = None
        # First right in the folder, without listing it: what it costs must not grow with the number of jobs.
        tried = {known for name in names if os.path.lexists(known := os.path.join(self.folder, name))}
        for likely in sorted(tried):
            try:
                found = read(Path(likely))
            except JobFileErrors as errors:
                fault = fault or errors.faults[0]
            else:
                if found.job.id == job_id:
                    return found
        rest = sorted((path for path in _walk(self.folder) if path not in tried), key=_rank(job_id))
        needle = job_id.encode()
        for path in map(Path, rest):
            try:
                data = _read_bytes(path)
                # An id may be written with escapes; hardly anyone does, so the text is searched first.
                if path.name in names or needle in data or b"\\" in data:
                    found = read(path, data)
                    if found.job.id == job_id:
                        return found
            except OSError:
                continue
            except JobFileErrors as errors:
                if path.name in names:
                    fault = fault or errors.faults[0]
        if fault is not None:
            raise fault
        return None

    def load_all(self) -> Loaded:
        """Every job file, faults kept by path."""
        loaded = Loaded()
        by_id: dict[str, list[StoredJob]] = {}
        for path in find(self.folder):
            try:
                stored = read(path)
            except JobFileErrors as errors:
                loaded.faults[shown(path)] = errors.faults
            else:
                by_id.setdefault(stored.job.id, []).append(stored)
        for job_id, candidates in by_id.items():
            rank = _rank(job_id)
            winner = min(candidates, key=lambda candidate: rank(candidate.location))
            loaded.jobs.append(winner)
            for loser in candidates:
                if loser is not winner:
                    loaded.faults[loser.location] = [
                        _at(
                            Path(loser.location),
                            ("id",),
                            f"the id {job_id!r} is already defined in {winner.location}; ids are unique over all files",
                        )
                    ]
        loaded.jobs.sort(key=lambda stored: stored.job.id)
        return loaded


class JobFileErrors(Exception):
    """A job file is broken: ``faults``, at least one."""

    def __init__(self, faults: list[JobFileError]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


def find(folder: Path) -> Iterator[Path]:
    """The job files below a folder, by path; hidden folders are left out, a missing folder has none."""
    return map(Path, sorted(_walk(folder)))


def _walk(folder: Path) -> Iterator[str]:
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        # Folders that are links count too; one that leads back to where it came from does not.
        here = os.stat(root)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            if name.endswith(SUFFIXES) and name[0] != ".":
                yield os.path.join(root, name)


def _rank(job_id: str) -> Callable[[str], tuple[bool, int, str]]:
    """The order in which files are asked for a job: named after it, least deep, by path."""
    names = {job_id + suffix for suffix in SUFFIXES}
    return lambda path: (os.path.basename(path) not in names, path.count(os.sep), path)


def stem(path: Path) -> str:
    """``nightly-prices`` of ``…/nightly-prices.job.yaml``."""
    return path.name.rsplit(".", 2)[0]


def read(path: Path, data: bytes | None = None) -> StoredJob:
    """Read and validate one job file. Raises ``JobFileErrors`` with every fault and its place."""
    if shown(path) != str(path):
        message = "the file's name is not printable text in UTF-8; rename the file"
        raise JobFileErrors([JobFileError(shown(path), message)])
    try:
        if data is None:
            data = _read_bytes(path)
        text = documents.decode(data)
        definition = documents.parse_json(text) if path.suffix == ".json" else documents.parse_yaml(text)
    except documents.DocumentError as error:
        raise JobFileErrors([JobFileError(shown(path), error.message, error.line, error.column)]) from None
    except OSError as error:
        raise JobFileErrors([JobFileError(shown(path), f"cannot be read: {error.strerror or error}")]) from None
    if not isinstance(definition, dict):
        kind = type(definition).__name__
        raise JobFileErrors([JobFileError(shown(path), f"a job file holds an object with fields, not a {kind}")])
    return StoredJob(_validated(path, text, definition), definition, "CODE", str(path))


def lint(paths: list[Path]) -> Loaded:
    """Read the given files and folders as a store would, faults kept by path. For ``airflow-jobs lint``."""
    loaded = Loaded()
    seen: dict[str, str] = {}
    for path in paths:
        if path.is_dir():
            part = JobFiles(path).load_all()
            if not part.jobs and not part.faults:
                endings = ", ".join(SUFFIXES)
                part.faults[shown(path)] = [
                    JobFileError(shown(path), f"no job file in here; their names end in {endings}")
                ]
        else:
            part = Loaded()
            if not path.name.endswith(SUFFIXES):
                part.faults[shown(path)] = [
                    JobFileError(shown(path), f"not a job file by its name, which ends in one of {', '.join(SUFFIXES)}")
                ]
            else:
                try:
                    part.jobs.append(read(path))
                except JobFileErrors as errors:
                    part.faults[shown(path)] = errors.faults
        for stored in part.jobs:
            first = seen.setdefault(stored.job.id, stored.location)
            if first != stored.location:
                message = f"the id {stored.job.id!r} is already defined in {first}; ids are unique over all files"
                loaded.faults[stored.location] = [_at(Path(stored.location), ("id",), message)]
            else:
                loaded.jobs.append(stored)
        loaded.faults.update(part.faults)
    return loaded


def _read_bytes(path: Path | str) -> bytes:
    # One byte more than is allowed, so that what is too large is seen to be.
    return read_regular(path, documents.MAX_FILE_BYTES + 1)


def _validated(path: Path, text: str, definition: dict[str, Any]) -> Job:
    if "id" not in definition:
        name = stem(path)
        try:
            check_job_id(name)
        except ValueError as error:
            message = f"has no 'id', and its name gives none: {error}"
            raise JobFileErrors([JobFileError(shown(path), message)]) from None
        definition = {"id": name, **definition}
    try:
        return Job.model_validate(definition)
    except ValidationError as error:
        found = explain(error)
        locate = documents.locator(text)
        faults = [JobFileError(shown(path), str(fault), *locate(fault.path)) for fault in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            faults.append(JobFileError(shown(path), f"and {len(found) - MOST_FAULTS} more faults"))
        raise JobFileErrors(faults) from None


def _at(path: Path, where: tuple[str | int, ...], message: str) -> JobFileError:
    try:
        line, column = documents.locator(path.read_text("utf-8-sig"))(where)
    except (OSError, ValueError):
        line, column = 1, 1
    return JobFileError(shown(path), message, line, column)
