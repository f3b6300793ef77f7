"""Durations: integers (milliseconds) or strings in the grammar of the npm package ``ms`` 2.1.3."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from airflow_jobs_plugin.spec.faults import quoted

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
# `ms` counts a year as 365.25 days.
YEAR = 31_557_600_000

#: Largest magnitude in milliseconds: what a JavaScript number, and so every peer of this format, holds exactly.
MAX_DURATION = 2**53 - 1

_WORDS = "milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w|years?|yrs?|y"
_GRAMMAR = re.compile(rf"(?P<number>-?(?:[0-9]+)?\.?[0-9]+) *(?P<unit>{_WORDS})?", re.IGNORECASE)
# By the unit's first letters: every long form begins with one of them ("ms" and "mil" before "m").
_UNITS = (
    ("ms", 1),
    ("mil", 1),
    ("s", SECOND),
    ("m", MINUTE),
    ("h", HOUR),
    ("d", DAY),
    ("w", WEEK),
    ("y", YEAR),
)
_EXPECTED = "expected milliseconds as an integer, or a number with a unit such as '30s', '5m', '1.5h' or '7d'"


def parse_duration(value: int | str) -> int:
    """Turn a duration into milliseconds.

    Takes an integer (milliseconds) or a string: ``-?`` digits with an optional fraction, optional spaces, an
    optional unit (ms, s, m, h, d, w, y and their long forms, any case), 1 to 100 characters. Fractions of a
    millisecond are rounded half up. Returns milliseconds, negative ones included: a caller that wants a
    period refuses those. Raises ``ValueError`` for anything else, and beyond ±(2^53 - 1) ms.

    Source: npm ``ms`` 2.1.3, with exact decimal arithmetic instead of binary floats.

    >>> parse_duration("1.5h")
    5400000
    """
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a duration; {_EXPECTED}")
    if isinstance(value, float) and float(value).is_integer():
        value = int(value)
    if isinstance(value, int):
        milliseconds = value
    elif isinstance(value, str):
        if not 1 <= len(value) <= 100:
            raise ValueError(f"a duration has 1 to 100 characters, this one {len(value)}; {_EXPECTED}")
        match = _GRAMMAR.fullmatch(value)
        if match is None:
            raise ValueError(f"{quoted(value)} is not a duration; {_EXPECTED}")
        unit = (match["unit"] or "ms").lower()
        factor = next(factor for prefix, factor in _UNITS if unit.startswith(prefix))
        exact = Decimal(match["number"]) * factor
        milliseconds = int(exact.to_integral_value(ROUND_HALF_UP)) if abs(exact) < 2**60 else 2**60
    else:
        raise ValueError(f"a {type(value).__name__} is not a duration; {_EXPECTED}")
    if abs(milliseconds) > MAX_DURATION:
        raise ValueError(f"{str(value)[:40]} is out of bounds: at most {MAX_DURATION} ms (about 285,000 years)")
    return milliseconds


def format_duration(milliseconds: int) -> str:
    """Write milliseconds for people, exactly: ``5400000`` is ``"1 hour 30 minutes"``, 0 is ``"0 ms"``."""
    if milliseconds == 0:
        return "0 ms"
    parts = []
    rest = abs(milliseconds)
    for name, unit in (("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", SECOND)):
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count} {name}{'s' if count != 1 else ''}")
    if rest:
        parts.append(f"{rest} ms")
    return ("-" if milliseconds < 0 else "") + " ".join(parts)


def _not_negative(milliseconds: int) -> int:
    if milliseconds < 0:
        raise ValueError(f"a duration cannot be negative here ({milliseconds} ms); give 0 or more")
    return milliseconds


def _parse(value: Any) -> int:
    return parse_duration(value)


# Patterns of JSON Schema know no "any case".
_ANY_CASE = re.sub("[a-z]", lambda letter: f"[{letter.group()}{letter.group().upper()}]", _WORDS)
_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_DURATION},
            {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "pattern": rf"^([0-9]+)?\.?[0-9]+ *({_ANY_CASE})?$",
            },
        ],
        "description": "Milliseconds, or a number with a unit such as '30s', '5m', '1.5h', '7d'.",
    }
)

#: A model field's type: durations on input, whole milliseconds ≥ 0 in the model.
Duration = Annotated[int, BeforeValidator(_parse), AfterValidator(_not_negative), _SCHEMA]
