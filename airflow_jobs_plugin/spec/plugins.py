"""Kinds of sinks that other distributions bring, registered as entry points.

The group is ``airflow_jobs.sinks``, the name of an entry point the ``type`` in definitions, its value a class as
``airflow_jobs_plugin.sinks.base`` describes it. Looked up when a definition has a type that is not built in, once per
process: like every plug-in of Airflow, a new one is found after a restart.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "airflow_jobs.sinks"


def sink_types() -> list[str]:
    """The types that are registered, working or not, sorted."""
    return sorted(_registered())


def sink_class(kind: str) -> type[Any] | None:
    """The class that is registered for a type; None if there is none.

    Raises ``ValueError`` if it cannot be imported, or is registered more than once.
    """
    # Only what is registered is remembered: any text may be asked for.
    return _loaded(kind) if kind in _registered() else None


@cache
def _loaded(kind: str) -> type[Any]:
    entries = _registered()[kind]
    if len(entries) > 1:
        names = " and ".join(sorted(_origin(entry) for entry in entries))
        raise ValueError(f"the sink type {kind!r} is registered more than once, by {names}; uninstall all but one")
    try:
        found = entries[0].load()
    except Exception as error:
        # Whatever a plug-in raises while it is imported costs the jobs that use it, and no others.
        raise ValueError(
            f"the sink type {kind!r} comes from {_origin(entries[0])}, which cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"the sink type {kind!r} comes from {_origin(entries[0])}, which should be a class and is not")
    return found


def forget() -> None:
    """Look entry points up anew; for tests, and for whoever installs a plug-in into a running process."""
    _registered.cache_clear()
    _loaded.cache_clear()


@cache
def _registered() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    # One distribution may be on the path twice, as when it is installed and checked out.
    return {name: tuple({entry.value: entry for entry in entries}.values()) for name, entries in found.items()}


def _origin(entry: EntryPoint) -> str:
    return f"{entry.value} in {entry.dist.name}" if entry.dist is not None else entry.value
