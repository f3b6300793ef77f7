"""Secrets that go into a definition and do not come out: the definition without them, and they by place.

A definition that is read, edited and written back has ``***`` where its secrets were; they stay what they were, unless
they would then be sent to another place than the one they were given for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from airflow_jobs_plugin.spec.faults import Fault
from airflow_jobs_plugin.spec.job import Job
from airflow_jobs_plugin.spec.secrets import MASK, masked
from airflow_jobs_plugin.spec.sinks import S3Sink, WebhookSink

Path = tuple[str | int, ...]
#: Secrets by place: each a path of keys and indexes, and the value there.
Secrets = list[tuple[list[str | int], Any]]

#: Fields that say where something is sent. A secret that was given for one place is not kept for another.
_DESTINATION = (
    *("type", "url", "endpoint", "bucket", "region"),
    *("conn_id", "path", "module", "start_path", "result_path", "cancel_path"),
)


def split(definition: dict[str, Any]) -> tuple[dict[str, Any], Secrets]:
    """The definition with its secrets masked, and the secrets. Takes decoded JSON."""
    public = masked(definition)
    return public, [(list(path), value) for path, value, shown in _leaves(definition, public, ()) if value != shown]


def join(public: dict[str, Any], secrets: Secrets) -> dict[str, Any]:
    """What ``split`` took apart."""
    definition: dict[str, Any] = deepcopy(public)
    for path, value in secrets:
        _put(definition, tuple(path), value)
    return definition


def kept(definition: dict[str, Any], public: dict[str, Any], secrets: Secrets) -> tuple[dict[str, Any], list[Fault]]:
    """A new definition with the secrets of the stored one in place of its masks, and a fault for each that has none.

    :param definition: as a client sent it
    :param public: the stored one, masked
    :param secrets: the stored one's secrets
    """
    merged: dict[str, Any] = deepcopy(definition)
    stored = {tuple(path): value for path, value in secrets}
    ours, theirs = _places(masked(definition)), _places({**public, "id": definition.get("id")})
    faults = []
    for path in masks(definition):
        if path not in stored:
            message = f"{MASK!r} stands for a stored secret, and none is stored here; give the value"
        elif ours is not None and ours(path) != (theirs(path) if theirs is not None else None):
            message = f"{MASK!r} stands for the stored secret, which is not kept for another place; give it again"
        else:
            _put(merged, path, stored[path])
            continue
        faults.append(Fault(path, message))
    return merged, faults


def masks(definition: dict[str, Any]) -> list[Path]:
    """The places of a definition that hold a mask where a secret would be."""
    # What is masked again with another text in the mask's place is secret; a mask elsewhere is just a text.
    remasked = masked(_unmasked(definition))
    return [path for path, value, again in _leaves(definition, remasked, ()) if MASK in str(value) and value == again]


def _unmasked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmasked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unmasked(inner) for inner in value]
    return value.replace(MASK, "secret") if isinstance(value, str) else value


def _leaves(value: Any, other: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    """Two values of one shape side by side, down to where one of them is neither an object nor a list."""
    if isinstance(value, dict) and isinstance(other, dict):
        for key, inner in value.items():
            yield from _leaves(inner, other[key], (*path, key))
    elif isinstance(value, list) and isinstance(other, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, other[index], (*path, index))
    else:
        yield path, value, other


def _places(definition: dict[str, Any]) -> Callable[[Path], Any] | None:
    """Tells where the secret at a place of the definition is sent; None if the definition is not valid anyway."""
    try:
        job = Job.model_validate(definition, context={"masked": True})
    except ValidationError:
        return None
    # Which fields of a plug-in's sink say where it delivers, only the plug-in knows: all of them, as they are written.
    known = job.sink is None or isinstance(job.sink, (WebhookSink, S3Sink))
    sink = _destination(job.sink) if known else definition["sink"]

    def place(path: Path) -> Any:
        if path[0] == "sink":
            return sink
        if path[0] == "notifications":
            return job.notifications
        if path[-1] == "proxy" or path[0] == "proxy":
            return job.proxy if path[0] == "proxy" else job.configuration.proxy
        # What goes with a call goes to the target, by way of the proxy.
        way = (_destination(job.target), job.proxy, job.configuration.proxy)
        index = path[1] if path[0] == "payload" else None
        return (*way, job.payload[index]) if isinstance(index, int) else way

    return place


def _destination(part: Any) -> Any:
    return [getattr(part, name, None) for name in _DESTINATION]


def _put(value: Any, path: Path, secret: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = secret
