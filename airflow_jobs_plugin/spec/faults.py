"""What is wrong with a definition, said so that its author can mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

#: How many faults of one definition are told; of a long list that is wrong all the way through the first say enough.
MOST_FAULTS = 100
#: How much of somebody else's text a message repeats, characters.
LONGEST_QUOTE = 60

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
        if line["type"] == "default_factory_not_called":
            # What a default is made from is wrong, and told by a line of its own.
            continue
        message = line["msg"].removeprefix(_NOISE[0])
        if line["type"] == "missing":
            message = "is missing; it is required"
        faults[Fault(_written_path(line["loc"]), message)] = None
    return list(faults)


def dotted(path: tuple[str | int, ...]) -> str:
    """``("payload", 3, "retry")`` as ``payload[3].retry``: names printable and not too long, whoever made them up."""
    text = ""
    for part in path:
        name = f"[{part}]" if isinstance(part, int) else printable(part)
        text += name if isinstance(part, int) or not text else f".{name}"
    return text


def quoted(value: Any) -> str:
    """A value as a message repeats it: printable, on one line and not too long. Of what is within it nothing."""
    if isinstance(value, str):
        short = len(value) <= LONGEST_QUOTE
        return repr(value) if short else f"{value[:LONGEST_QUOTE]!r}…"
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def printable(name: str, most: int = LONGEST_QUOTE) -> str:
    """Somebody else's name for something, as a message repeats it: without quotes, escaped and cut where need be."""
    short = escaped(name[:most])
    return short if len(name) <= most else f"{short}…"


def escaped(text: str) -> str:
    """The text with escapes for what cannot be printed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
