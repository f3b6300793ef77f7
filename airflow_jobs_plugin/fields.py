"""Fields of log lines: which job, run, item and attempt a line is about.

Airflow writes them with each of its lines: in the JSON of a task's log, and in that of a component with
``[logging] json_logs``.
"""

from __future__ import annotations

from typing import Any

from structlog.contextvars import bind_contextvars, bound_contextvars


def bind(**fields: Any) -> None:
    """All further lines of this coroutine, or of this process where there are none, have these fields."""
    bind_contextvars(**fields)


#: The same for as long as a ``with`` lasts.
bound = bound_contextvars

__all__ = ["bind", "bound"]
