"""What every target asks of a result: a JSON value that storage can hold, within the limit."""

from __future__ import annotations

import json
from typing import Any

from airflow_jobs_plugin.errors import AttemptError
from airflow_jobs_plugin.spec.base import check_json
from airflow_jobs_plugin.targets.messages import one_line


def invalid_response(message: str) -> AttemptError:
    """The call was answered, but not with anything that can be kept as a result."""
    return AttemptError("invalid-response", message)


def too_big(limit: int, what: str) -> AttemptError:
    """A result over the limit. Not retriable: the call succeeded, and repeating it would repeat its effects."""
    return AttemptError(
        "result-too-big-error",
        f"{what} is larger than {limit} bytes, the limit that [jobs] max_result_bytes sets; "
        "let the API return less, or raise the setting",
        retriable=False,
    )


def checked(value: Any, what: str) -> Any:
    """Return the value if JSON and the database can hold it exactly; else raise ``AttemptError``."""
    try:
        return check_json(value)
    except ValueError as error:
        raise invalid_response(f"{what} cannot be kept as JSON: {one_line(str(error))}") from None


def written_size(value: Any) -> int:
    """Bytes of the value written as compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
