"""When a job runs: intervals and calendars. The models; the arithmetic is in ``timetables.recurrence``."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, date, datetime, time
from functools import lru_cache
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from airflow_jobs_plugin.spec.base import Model, check_plain, did_you_mean
from airflow_jobs_plugin.spec.durations import DAY, SECOND, Duration, format_duration
from airflow_jobs_plugin.spec.faults import quoted

MONTHS = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE",
    "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER",
)  # fmt: skip
WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
FIRST_YEAR, LAST_YEAR = 2000, 2100
#: Longest period of an interval: a century, the span of the calendars.
LONGEST_PERIOD = 36_525 * DAY


class _Field:
    """One field of a calendar: its bounds, its names, and how a written value becomes the numbers it matches."""

    def __init__(self, low: int, high: int, names: tuple[str, ...] = ()) -> None:
        self.low = low
        self.high = high
        self.names = names

    def numbers(self, value: Any) -> tuple[int, ...]:
        if value == "*":
            return tuple(range(self.low, self.high + 1))
        if isinstance(value, (list, tuple)):
            if not value:
                raise ValueError("an empty list matches nothing; leave the field out to match everything")
            matched = {n for inner in value for n in self._one(inner)}
            return tuple(sorted(matched))
        return tuple(self._one(value))

    def _one(self, value: Any) -> range:
        if value == "*":
            return range(self.low, self.high + 1)
        if not isinstance(value, dict):
            number = self._number(value)
            return range(number, number + 1)
        if unknown := [k for k in value if k not in ("start", "end", "step")]:
            raise ValueError(
                f"unknown field {quoted(unknown[0])}{did_you_mean(str(unknown[0]), ['start', 'end', 'step'])}"
            )
        if value.get("start") is None:
            raise ValueError("a range needs a 'start', and may have an 'end' and a 'step'")
        start = self._number(value["start"])
        end = start if value.get("end") is None else self._number(value["end"])
        if end < start:
            raise ValueError(
                f"the range ends ({_told(value['end'])}) before it starts ({_told(value['start'])}) and ranges do not "
                "wrap; write two ranges in a list"
            )
        step = 1 if value.get("step") is None else self._plain_number(value["step"], "step")
        if step < 1:
            raise ValueError(f"step is {quoted(step)}; it is at least 1")
        if step > 1 and start + step > end:
            raise ValueError(
                f"a step of {quoted(step)} reaches nothing after {_told(value['start'])}; "
                + (
                    "give the range an 'end'"
                    if value.get("end") is None
                    else f"the range ends at {_told(value['end'])}"
                )
            )
        return range(start, end + 1, step)

    def _number(self, value: Any) -> int:
        if isinstance(value, str) and not _is_decimal(value):
            return self._named(value)
        number = self._plain_number(value, "value")
        if not self.low <= number <= self.high:
            raise ValueError(f"{quoted(number)} is out of bounds; it goes from {self.low} to {self.high}")
        return number

    def _plain_number(self, value: Any, what: str) -> int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError(f"the {what} {quoted(value)} should be a whole number")
        if isinstance(value, str) and not _is_decimal(value):
            raise ValueError(f"the {what} {quoted(value)} should be a whole number")
        return int(value)

    def _named(self, word: str) -> int:
        if not self.names:
            raise ValueError(
                f"{quoted(word)} should be '*', a number from {self.low} to {self.high}, "
                "a range {start, end, step}, or a list of these"
            )
        upper = word.strip().upper()
        found = [n for n, name in enumerate(self.names) if len(upper) >= 3 and name.startswith(upper)]
        if len(found) != 1:
            raise ValueError(f"unknown name {quoted(word)}{did_you_mean(upper, list(self.names))}")
        return found[0] + self.low


def _told(value: Any) -> str:
    # Without quotes, as people write names of days: by now it is a number or a name that is known.
    return value if isinstance(value, str) else quoted(value)


def _is_decimal(text: str) -> bool:
    digits = text[1:] if text[:1] in "+-" else text
    return digits.isascii() and digits.isdigit() and len(digits) <= 18


def _schema(field: _Field) -> WithJsonSchema:
    # Names are for the models: patterns of JSON Schema know no "any case".
    text = r"^([+-]?[0-9]{1,18}|\*|\s*[A-Za-z]{3,9}\s*)$" if field.names else r"^([+-]?[0-9]{1,18}|\*)$"
    single: list[dict[str, Any]] = [
        {"type": "integer", "minimum": field.low, "maximum": field.high},
        {"type": "string", "pattern": text},
    ]
    bounded = {
        "type": "object",
        "properties": {
            "start": {"anyOf": single},
            "end": {"anyOf": [*single, {"type": "null"}]},
            "step": {
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "string", "pattern": "^[+]?[0-9]{1,18}$"},
                    {"type": "null"},
                ]
            },
        },
        "required": ["start"],
        "additionalProperties": False,
    }
    several = {"type": "array", "minItems": 1, "items": {"anyOf": [*single, bounded]}}
    return WithJsonSchema({"anyOf": [*single, bounded, several]})


_YEAR = _Field(FIRST_YEAR, LAST_YEAR)
_MONTH = _Field(1, 12, MONTHS)
_DAY_OF_MONTH = _Field(1, 31)
_DAY_OF_WEEK = _Field(0, 6, WEEKDAYS)
_HOUR = _Field(0, 23)
_SIXTY = _Field(0, 59)

Year = Annotated[tuple[int, ...], BeforeValidator(_YEAR.numbers), _schema(_YEAR)]
Month = Annotated[tuple[int, ...], BeforeValidator(_MONTH.numbers), _schema(_MONTH)]
DayOfMonth = Annotated[tuple[int, ...], BeforeValidator(_DAY_OF_MONTH.numbers), _schema(_DAY_OF_MONTH)]
DayOfWeek = Annotated[tuple[int, ...], BeforeValidator(_DAY_OF_WEEK.numbers), _schema(_DAY_OF_WEEK)]
Hour = Annotated[tuple[int, ...], BeforeValidator(_HOUR.numbers), _schema(_HOUR)]
Sixty = Annotated[tuple[int, ...], BeforeValidator(_SIXTY.numbers), _schema(_SIXTY)]


class Calendar(Model):
    """Instants at which the clock in the schedule's zone shows the given fields; all of them have to match.

    A value is ``"*"``, a number or a name, ``{start, end?, step?}`` (both ends included), or a list of these.
    """

    # In the model each field is the sorted tuple of the numbers that it matches.
    year: Year = tuple(range(FIRST_YEAR, LAST_YEAR + 1))
    """2000 to 2100. Default: every year."""
    month: Month = tuple(range(1, 13))
    """1 to 12, or a name. Default: every month."""
    day_of_month: DayOfMonth = tuple(range(1, 32))
    """1 to 31. Default: every day."""
    day_of_week: DayOfWeek = tuple(range(7))
    """0 (Sunday) to 6, or a name. Default: every day."""
    hour: Hour = (0,)
    """0 to 23. Default: 0."""
    minute: Sixty = (0,)
    """0 to 59. Default: 0."""
    second: Sixty = (0,)
    """0 to 59. Default: 0."""
    comment: Annotated[str, Field(max_length=200), AfterValidator(check_plain)] | None = None
    """For people, up to 200 characters."""


class Interval(Model):
    """The instants ``k * every + offset`` since the Unix epoch; the time zone plays no part."""

    every: Duration
    """Period in milliseconds, 1 second to a century."""
    offset: Duration = 0
    """Shift in milliseconds, 0 ≤ offset < every."""

    @field_validator("every")
    @classmethod
    def _period_in_bounds(cls, every: int) -> int:
        if not SECOND <= every <= LONGEST_PERIOD:
            raise ValueError(f"every is {every} ms; a period is 1000 ms (1s) to {LONGEST_PERIOD} ms (a century)")
        return every

    @model_validator(mode="after")
    def _offset_in_period(self) -> Self:
        if self.offset >= self.every:
            raise ValueError(
                f"offset ({format_duration(self.offset)}) has to be less than every ({format_duration(self.every)})"
            )
        return self


def _list(value: Any) -> Any:
    return [] if value is None else value


_Intervals = Annotated[list[Interval], Field(max_length=1000)]
_Calendars = Annotated[list[Calendar], Field(max_length=1000)]
Intervals = Annotated[_Intervals, BeforeValidator(_list, json_schema_input_type=_Intervals | None)]
Calendars = Annotated[_Calendars, BeforeValidator(_list, json_schema_input_type=_Calendars | None)]


class Schedule(Model):
    """The union of all intervals and calendars, less ``skip``, from ``start_at`` to ``end_at`` (inclusive)."""

    intervals: Intervals = Field(default_factory=list)
    calendars: Calendars = Field(default_factory=list)
    skip: Calendars = Field(default_factory=list)
    """Run times that match one of these calendars are left out."""
    timezone: str = "UTC"
    """IANA name; calendars match its literal clock."""
    jitter: Duration = 0
    """Longest deterministic delay of a run, milliseconds; never past the next nominal time."""
    start_at: datetime | None = None
    """First instant that may fire. Without an offset it is read on the clock of ``timezone``."""
    end_at: datetime | None = None
    """Last instant that may fire, included."""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        zone(name)
        return name

    @field_validator("start_at", "end_at", mode="before")
    @classmethod
    def _read_instant(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{quoted(value)} is not a date and time such as 2026-03-01T09:00:00Z") from None
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime.combine(value, time.min)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.intervals and not self.calendars:
            raise ValueError(
                "the schedule is empty: give at least one of 'intervals' and 'calendars', "
                "or leave the schedule out for a job that runs on triggers only"
            )
        local = zone(self.timezone)
        for name in ("start_at", "end_at"):
            instant: datetime | None = getattr(self, name)
            if instant is not None:
                if instant.tzinfo is None:
                    instant = instant.replace(tzinfo=local)
                try:
                    instant = instant.astimezone(UTC)
                except OverflowError:
                    raise ValueError(f"{instant.isoformat()} is before the year 1 or after the year 9999") from None
                # Frozen for everybody else: instants leave this model in UTC.
                object.__setattr__(self, name, instant)
        if self.start_at is not None and self.start_at.year == MAXYEAR:
            raise ValueError(f"startAt ({self.start_at.isoformat()}) is too late for anything to run")
        if self.start_at is not None and self.end_at is not None and self.end_at < self.start_at:
            raise ValueError(f"endAt ({self.end_at.isoformat()}) is before startAt ({self.start_at.isoformat()})")
        return self


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises ``ValueError`` with the nearest known name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = did_you_mean(name, sorted(available_timezones()))
        raise ValueError(
            f"unknown time zone {quoted(name)}{near if 'mean' in near else '; use an IANA name'}"
        ) from None
