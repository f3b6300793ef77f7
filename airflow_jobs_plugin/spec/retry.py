"""The retry policy of a job or an item, and its arithmetic."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from airflow_jobs_plugin.spec.base import Integer, Model
from airflow_jobs_plugin.spec.durations import Duration, format_duration

#: Most attempts that a policy may ask for.
MAX_ATTEMPTS = 1000
#: A computed wait never exceeds this: later dates would leave what databases can store.
LONGEST_WAIT = timedelta(days=3653)

Attempts = Annotated[Integer, Field(ge=1, le=MAX_ATTEMPTS)]
Coefficient = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class RetryPolicy(Model):
    """How often an item is attempted and how long it waits in between.

    The wait after failed attempt i (counted from 0) is
    ``min(initial_interval * backoff_coefficient ** i, maximum_interval)``: exact, without jitter.
    Without a policy: 3 attempts, no delay.
    """

    maximum_attempts: Attempts = 3
    """Every attempt counts, the first one included. 1 to 1000, default 3."""
    initial_interval: Duration = 0
    """Wait after the first failed attempt, milliseconds. Default 0."""
    maximum_interval: Duration | None = None
    """Upper bound of a wait, milliseconds; None: unlimited. Not below ``initial_interval``."""
    backoff_coefficient: Coefficient = 1.0
    """Factor from one wait to the next, at least 1. Default 1."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.maximum_interval is not None and self.maximum_interval < self.initial_interval:
            raise ValueError(
                f"maximumInterval ({format_duration(self.maximum_interval)}) is below "
                f"initialInterval ({format_duration(self.initial_interval)}); raise the one or lower the other"
            )
        return self

    def wait_after(self, attempt: int) -> timedelta:
        """The wait after failed attempt ``attempt`` (0 is the first one), to the microsecond."""
        try:
            wait = self.initial_interval * self.backoff_coefficient**attempt
        except OverflowError:
            wait = float("inf") if self.initial_interval else 0.0
        if self.maximum_interval is not None:
            wait = min(wait, self.maximum_interval)
        longest = LONGEST_WAIT / timedelta(milliseconds=1)
        return LONGEST_WAIT if wait >= longest else timedelta(milliseconds=wait)


class RetryOverride(Model):
    """An item's own policy: the fields it sets replace the job's, one by one."""

    maximum_attempts: Attempts | None = None
    initial_interval: Duration | None = None
    maximum_interval: Duration | None = None
    backoff_coefficient: Coefficient | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """The effective policy. Raises ``ValidationError`` where the two contradict each other."""
        if not self.model_fields_set:
            return policy
        own = {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}
        merged = policy.model_copy(update=own)
        # Each value has been checked already; whether they agree has not.
        if merged.maximum_interval is not None and merged.maximum_interval < merged.initial_interval:
            RetryPolicy.model_validate(merged.model_dump())
        return merged


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait that a ``Retry-After`` header (seconds or an HTTP date) asks for; None if it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
