"""What a function of a python target returns when it appends items to the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extended:
    """A result, and further items for the same run.

    The items run under the run's own limits and are delivered by its sink; they are appended once, and only when
    the attempt succeeds::

        from airflow_jobs_plugin import Extended

        def list_products(page: int) -> Extended:
            products, last = fetch(page)
            more = [] if last else [{"api": "shop:list_products", "parameters": {"page": page + 1}}]
            return Extended(products, payloads=more)
    """

    value: Any
    """The result, a JSON value."""
    payloads: Sequence[dict[str, Any]] = ()
    """Items as in a job's payload: ``{"api", "parameters", …}``."""
