"""What an attempt is given and what it gives back. Free of operators, so that every driver uses the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Memory(Protocol):
    """What the attempts of one item leave for each other: one small JSON object, which outlives a worker.

    It belongs to one item of one run. Whoever provides it empties it when the item's outcome is stored, so that an
    item that a person has run again begins anew.
    """

    async def recall(self) -> dict[str, Any] | None:
        """What was remembered last, by whatever attempt; None: nothing. Raises what its storage raises."""
        ...

    async def remember(self, value: dict[str, Any] | None) -> None:
        """Keep the value, over the death of this process once this has returned; None forgets."""
        ...


@dataclass(frozen=True)
class Grant:
    """The right to append items to the run that the attempt belongs to."""

    url: str
    """Where to append: absolute, of characters that a header carries as they are."""
    token: str = field(repr=False)
    """For this run alone. A secret."""


@dataclass(frozen=True)
class Attempt:
    """One try of one payload item: all that a target may use."""

    job_id: str
    run_id: str
    index: int
    """Position of the item in the run's list, from 0."""
    number: int
    """Attempt number, from 1."""
    item_id: str
    """The same for every attempt of the item, and of no other item: sent as ``Idempotency-Key``."""
    api: str
    parameters: dict[str, Any]
    timeout: float
    """Seconds that this attempt may take, connecting included."""
    proxy: str | dict[str, Any] | None = None
    auth_session: dict[str, Any] | None = None
    memory: Memory | None = None
    """None: a worker's death forgets what this attempt started."""
    grant: Grant | None = None
    """Passed on where the target has ``sendRunToken``."""


@dataclass(frozen=True)
class Result:
    """What a successful attempt returned: a JSON value, and the HTTP status where there was one."""

    value: Any
    status_code: int | None = None
    extended_payloads: list[Any] | None = None
    """Items that the API appends to the run, as it wrote them: checked to be a list, no further."""


@dataclass(frozen=True)
class Limits:
    """Bounds that the configuration sets for every attempt."""

    max_result_bytes: int = 2 * 1024 * 1024
    """Largest result in bytes: of the response's body as received, and of the value written as JSON."""
    python_targets: tuple[str, ...] = field(default=())
    """Patterns of ``module:function`` that python targets may call, ``*`` for any run of characters."""


class Caller(Protocol):
    """An opened target: call it once per attempt, from one event loop, concurrently as often as needed."""

    async def __call__(self, attempt: Attempt) -> Result:
        """Make one attempt. Raises ``AttemptError``; cancelling it cancels the call."""
        ...
