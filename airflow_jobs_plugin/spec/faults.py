"""What is wrong with a definition, said so that its author can mend it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

# Names of union members that pydantic puts into a path; an author never wrote them there.
_TAGS = {"sink": {"webhook", "s3"}, "target": {"http", "run-api", "python"}}
_NOISE = ("Value error, ", "function-")


@dataclass(frozen=True)
class Fault:
    """One fault: ``path`` is where (keys and indexes from the definition's root), ``message`` what and what instead."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def explain(error: ValidationError) -> list[Fault]:
    """The faults of a definition, in the order of its fields. Input is never repeated: it may be secret."""
    faults: dict[Fault, None] = {}
    for line in error.errors(include_url=False, include_input=False, include_context=False):
        message = line["msg"].removeprefix(_NOISE[0])
        if line["type"] == "missing":
            message = "is missing; it is required"
        faults[Fault(_written_path(line["loc"]), message)] = None
    return list(faults)


def dotted(path: tuple[str | int, ...]) -> str:
    """``("payload", 3, "retry")`` as ``payload[3].retry``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _written_path(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    path: list[str | int] = []
    for part in loc:
        if isinstance(part, str):
            if path and part in _TAGS.get(str(path[-1]), ()):
                continue
            # A union without a discriminator names its members by their validators.
            if part.startswith(_NOISE[1]) or part in ("str", "dict[str,any]"):
                continue
        path.append(part)
    return tuple(path)
