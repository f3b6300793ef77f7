"""Definitions and payloads that go to the REST API, read from files or standard input; faults have their places."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_jobs_plugin.errors import JobFileError, JobsError, RemoteError
from airflow_jobs_plugin.spec import Configuration, Job, check_job_id, explain, parse_payload
from airflow_jobs_plugin.store import documents
from airflow_jobs_plugin.store.reading import shown

SUFFIXES = (".yaml", ".yml", ".json")


class Faults(JobsError):
    """What is wrong with a document, each fault with its place, one per line."""

    def __init__(self, faults: list[JobFileError]) -> None:
        super().__init__("\n".join(map(str, faults)))


@dataclass(frozen=True)
class Document:
    """A text, what it says, and what is sent of it."""

    name: str
    text: str
    value: Any
    """The decoded JSON or YAML."""
    content: Any
    """What is sent."""
    below: documents.Path = ()
    """Where the document would be in what the API names the places of."""

    def faults(self, found: list[tuple[documents.Path, str]]) -> Faults:
        """Faults by path and message, as an error with their places in the text."""
        locate = documents.locator(self.text)
        errors = []
        for path, message in found:
            inside = path[len(self.below) :] if path[: len(self.below)] == self.below else ()
            errors.append(JobFileError(self.name, message, *locate(inside)))
        return Faults(errors)

    @contextmanager
    def located(self) -> Iterator[None]:
        """What the API refuses of the document becomes ``Faults``."""
        try:
            yield
        except RemoteError as error:
            if error.status != 422 or not error.details:
                raise
            # A fault without a place is of the whole.
            said = [(parts(path), f"{path}: {message}" if path else message) for path, message in error.details]
            raise self.faults(said) from None


def definition(file: str, job_id: str | None = None, *, stored: bool = False) -> tuple[str, Document]:
    """The id and the definition of a job. Raises ``Faults``.

    :param file: a path; ``-`` is standard input
    :param job_id: the job's id, whatever the document says; without it the file's name is good for one, too
    :param stored: it replaces a stored one, so that ``***`` may stand for its secrets
    """
    document = _read(file)
    if not isinstance(document.value, dict):
        kind = type(document.value).__name__
        raise document.faults([((), f"a job file holds an object with fields, not a {kind}")])
    content = dict(document.value)
    if job_id is not None:
        content["id"] = job_id
    elif "id" not in content:
        content["id"] = _id_of(file, document)
    try:
        job = Job.model_validate(content, context={"masked": True} if stored else None)
    except ValidationError as error:
        raise document.faults([(fault.path, str(fault)) for fault in explain(error)]) from None
    return job.id, Document(document.name, document.text, document.value, content)


def payload(file: str) -> Document:
    """A payload for one run: a list of items, or an object with it as its one field. Raises ``Faults``."""
    document = _read(file)
    value = document.value
    below: documents.Path = ("payload",)
    if isinstance(value, dict):
        if list(value) != ["payload"]:
            message = "a payload is a list of items, or an object with the one field 'payload'"
            raise document.faults([((), message)])
        value, below = value["payload"], ()
    document = Document(document.name, document.text, document.value, value, below)
    try:
        parse_payload(value, Configuration())
    except ValidationError as error:
        raise document.faults([(fault.path, str(fault)) for fault in explain(error)]) from None
    return document


def parts(path: str) -> documents.Path:
    """``payload[3].retry`` as ``("payload", 3, "retry")``."""
    return tuple(int(n) if n else key for n, key in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path))


def _read(file: str) -> Document:
    name = "<stdin>" if file == "-" else shown(Path(file))
    try:
        # A byte more than is allowed, so that what is too large is seen to be.
        if file == "-":
            data = sys.stdin.buffer.read(documents.MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(documents.MAX_FILE_BYTES + 1)
        text = documents.decode(data)
        value = documents.parse_json(text) if _is_json(file, text) else documents.parse_yaml(text)
    except documents.DocumentError as error:
        raise Faults([JobFileError(name, error.message, error.line, error.column)]) from None
    except OSError as error:
        raise Faults([JobFileError(name, f"cannot be read: {error.strerror or error}")]) from None
    return Document(name, text, value, value)


def _is_json(file: str, text: str) -> bool:
    if file.endswith(".json"):
        return True
    if file.endswith(SUFFIXES):
        return False
    try:
        json.loads(text)  # a stream has no name that says what it is
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _id_of(file: str, document: Document) -> str:
    if not file.endswith(SUFFIXES):
        raise document.faults([((), "has no 'id'; give it one, or use --id")])
    try:
        return check_job_id(Path(file).stem.removesuffix(".job"))
    except ValueError as error:
        raise document.faults([((), f"has no 'id', and its name gives none: {error}")]) from None
