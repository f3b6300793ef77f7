"""The one tree of errors that this package raises.

::

    JobsError
    ├── DefinitionError (also a ValueError)   a job definition, or an override of one, is wrong
    │   └── JobFileError                      ... in a file: has path, line and column
    ├── ConfigurationError                    the set-up is wrong: a connection, a setting, an allow-list
    ├── AttemptError                          one attempt of a payload item failed
    │   └── ItemFailedError                   the item has failed for good
    ├── DeliveryError                         a sink could not deliver
    ├── RemoteError                           an Airflow elsewhere cannot be reached, or refused
    └── RequestError                          what was asked for cannot be done
        ├── NotFoundError                     ... there is no such job, run or item
        ├── ConflictError                     ... not in the state that it is in
        └── ChangedError                      ... somebody else has changed it meanwhile
"""

from __future__ import annotations


def storable(text: str) -> str:
    """The text without NUL characters and halves of surrogate pairs: neither logs nor databases can hold them."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


class JobsError(Exception):
    """Root of the tree: catch this to catch everything that this package raises on purpose."""


class DefinitionError(JobsError, ValueError):
    """A job definition or payload override is wrong. The message says what, where and what would be right."""


class JobFileError(DefinitionError):
    """A fault in a job file, at a place in it.

    Attributes: ``path`` (as given to the store), ``line`` and ``column`` (from 1), ``message``.
    """

    def __init__(self, path: str, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{path}:{line}:{column}: {message}")
        self.path = path
        self.line = line
        self.column = column
        self.message = message


class ConfigurationError(JobsError):
    """The set-up is wrong, not the job: a missing connection, a refused function, a bad setting."""


class AttemptError(JobsError):
    """One attempt of a payload item failed.

    Attributes: ``code`` (a stable short name such as ``timeout``), ``message``, ``status_code`` (the HTTP
    status where there was one), ``retriable`` (False: another attempt cannot help, or must not be made),
    ``retry_after`` (seconds that the API asked to wait, or None; for a target's own waits, an item's are its policy's).
    The message is text that logs and databases can hold, whatever an API or a function has said.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status_code: int | None = None,
        retriable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        message = storable(message)
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status_code = status_code
        self.retriable = retriable
        self.retry_after = retry_after


class ItemFailedError(AttemptError):
    """A payload item has failed for good: no attempt is left, or none could help."""


class DeliveryError(JobsError):
    """A sink could not deliver.

    Attributes: ``status_code`` (the answer's, where there was one), ``retriable`` (False: do not try this delivery
    again), ``retry_after`` (seconds that the receiver asked to wait, or None), ``for_all`` (True: the destination
    refuses whatever is delivered there, for good; the run's other items are not even tried).
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        retriable: bool = True,
        retry_after: float | None = None,
        for_all: bool = False,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retriable = retriable and not for_all
        self.retry_after = retry_after
        self.for_all = for_all


class RemoteError(JobsError):
    """An Airflow elsewhere cannot be reached over its REST API, or refused what it was asked.

    Attributes: ``status`` (of the answer; None: there was none), ``code`` (the API's short name of the reason),
    ``details`` (the single faults of what was sent, each as path and message).
    """

    def __init__(
        self, message: str, status: int | None = None, code: str = "", details: list[tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details or []

    @property
    def passing(self) -> bool:
        """Whether it may be over in a moment, as when the API server starts again."""
        return self.status is None or self.status >= 500


class RequestError(JobsError):
    """What was asked for cannot be done. ``code`` is a stable short name of the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(RequestError):
    """There is no such job, run or item."""


class ConflictError(RequestError):
    """The thing is not in a state in which this can be done."""


class ChangedError(RequestError):
    """The thing is not the one that the caller has seen: somebody has changed it meanwhile."""
