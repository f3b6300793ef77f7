"""Jobs for Apache Airflow: stored definitions of which APIs to run, how, when, and where the results go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_jobs_plugin.extended import Extended

__version__ = "0.1.0"

__all__ = ["Extended", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: every process of Airflow imports this package, few return one.
    if name == "Extended":
        from airflow_jobs_plugin.extended import Extended

        return Extended
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
