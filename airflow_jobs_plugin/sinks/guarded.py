"""A sink that somebody else wrote, held to what closing a run relies on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from airflow_jobs_plugin.errors import ConfigurationError, DeliveryError, storable
from airflow_jobs_plugin.sinks.base import CONTENT_TYPES, Delivery, DeliverySink, Window
from airflow_jobs_plugin.spec.secrets import Redactor

log = logging.getLogger(__name__)

#: What the run's report says in its own words.
_OURS = frozenset({"status", "payloads", "delivered", "refused", "bytes", "tries", "message", "nextTry"})
#: Most characters of a receipt as JSON, and of a message; both are kept with the run and shown.
RECEIPT_CHARACTERS, MESSAGE_CHARACTERS = 10_000, 1000


class Guarded:
    """Passes deliveries on. Whatever is not a ``DeliveryError`` becomes one, and receipts become JSON.

    :param sink: as the plug-in made it
    :param kind: the ``type`` that definitions name
    :param secrets: what of the definition is secret, to be taken out of what the plug-in says
    """

    def __init__(self, sink: DeliverySink, kind: str, secrets: list[str]) -> None:
        if not isinstance(getattr(sink, "window", None), Window):
            raise ConfigurationError(f"sink: {kind!r} has no 'window'; it should be a sinks.base.Window")
        if getattr(sink, "format", None) not in CONTENT_TYPES:
            known = " or ".join(map(repr, CONTENT_TYPES))
            raise ConfigurationError(f"sink: {kind!r} has no usable 'format'; it should be {known}")
        self._sink, self._kind, self._redact = sink, kind, Redactor(secrets)
        self.window, self.format = sink.window, sink.format

    def destination(self) -> str:
        try:
            return self._told(str(self._sink.destination()))
        except Exception:
            log.exception("The sink %r did not say where it delivers to", self._kind)
            return self._kind

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        try:
            receipt = self._sink.deliver(delivery)
        except DeliveryError as error:
            raise DeliveryError(
                self._told(str(error)) or type(error).__name__,
                status_code=error.status_code if type(error.status_code) is int else None,
                retriable=bool(error.retriable),
                retry_after=_seconds(error.retry_after),
                for_all=bool(error.for_all),
            ) from None
        except Exception as error:
            # Its text is in the log alone, since nobody has looked what may be in it.
            log.exception("Unexpected error of the sink %r", self._kind)
            raise DeliveryError(
                f"the sink {self._kind!r} failed with {type(error).__name__}; the log of the task has more"
            ) from None
        return self._receipt(receipt)

    def _receipt(self, receipt: Any) -> dict[str, Any]:
        """What of a receipt can be kept as JSON and is not for the report itself to say. Never raises."""
        if not isinstance(receipt, Mapping):
            if receipt is not None:
                log.warning("The sink %r returned a %s; it should be a dict", self._kind, type(receipt).__name__)
            return {"to": self.destination()}
        kept: dict[str, Any] = {}
        for name, value in receipt.items():
            if not isinstance(name, str) or name in _OURS:
                log.warning("The sink %r returned %r, which is not for it to say", self._kind, name)
            elif (plain := _plain(value)) is _NOTHING:
                log.warning("The sink %r returned something under %r that is not JSON", self._kind, name)
            else:
                kept[storable(name)] = plain
        if not isinstance(kept.get("statusCode"), (int, type(None))):
            del kept["statusCode"]
        if not isinstance(kept.get("to"), str):
            kept["to"] = self.destination()
        if len(json.dumps(kept)) > RECEIPT_CHARACTERS:
            log.warning("The sink %r returned more than %d characters", self._kind, RECEIPT_CHARACTERS)
            return {"to": kept["to"][:MESSAGE_CHARACTERS]}
        return kept

    def _told(self, text: str) -> str:
        return storable(self._redact(text))[:MESSAGE_CHARACTERS]


_NOTHING = object()


def _plain(value: Any, depth: int = 5) -> Any:
    """The value as JSON has it, or ``_NOTHING``."""
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return value if type(value) is not int or abs(value) < 2**53 else _NOTHING
    if type(value) is str:
        return storable(value)
    if depth and type(value) in (list, tuple):
        found = [_plain(v, depth - 1) for v in value]
        return _NOTHING if any(v is _NOTHING for v in found) else found
    if depth and type(value) is dict and all(type(key) is str for key in value):
        inner = {storable(key): _plain(v, depth - 1) for key, v in value.items()}
        return _NOTHING if any(v is _NOTHING for v in inner.values()) else inner
    return _NOTHING


def _seconds(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and value >= 0 else None
