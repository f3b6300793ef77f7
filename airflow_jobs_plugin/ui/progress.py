"""How far a run is, how fast, and when it will have ended: worked out anew for each look at it, from two moments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from airflow_jobs_plugin.control.runs import RunView
from airflow_jobs_plugin.ui.charts import in_words

ACTIVE = ("PENDING", "PAUSING", "PAUSED")
#: Over how many seconds the rate is that of late.
WINDOW = 30.0
#: Shorter ones say nothing.
LEAST = 1.5


@dataclass(frozen=True)
class Mark:
    """How many items had ended at some time before. The page carries it from one look to the next."""

    at: float
    ended: int

    @classmethod
    def read(cls, text: str | None) -> Mark | None:
        """As ``written`` wrote it; None for anything else."""
        at, _, ended = (text or "").partition("-")
        try:
            found = cls(float(at), int(ended))
        except ValueError:
            return None
        # Anybody may write an address; what is no time of late is no mark.
        return found if 0 <= time.time() - found.at < 3600 and found.ended >= 0 else None

    def written(self) -> str:
        """For an address."""
        return f"{self.at:.1f}-{self.ended}"


@dataclass(frozen=True)
class Progress:
    """A run at one moment."""

    active: bool
    ended: int
    percent: int | None
    rate: float | None
    """Items that ended per second: of late while it runs, and over all once it has ended."""
    end_at: datetime | None
    """About when it will have ended, as things go."""
    elapsed: timedelta | None
    announcement: str
    """For those who hear the page: changes with every tenth and with the status, not with every look."""
    mark: Mark
    seen: str
    """Changes with the counts."""

    @classmethod
    def of(cls, run: RunView, mark: Mark | None) -> Progress:
        """Of a run as it is now, with the mark of an earlier look."""
        counts = run.counts
        ended = counts.succeeded + counts.failed + counts.canceled
        active = run.status in ACTIVE
        now = time.time()
        percent = None if counts.total is None else 100 if not counts.total else ended * 100 // counts.total
        begun = run.start_time.timestamp() if run.start_time else None
        rate: float | None = None
        if active:
            if mark is None or mark.ended > ended:
                mark = Mark(now, ended)
            if begun is not None and now - mark.at >= LEAST:
                rate = (ended - mark.ended) / (now - mark.at)
            if now - mark.at > WINDOW:
                mark = Mark(now, ended)
        else:
            mark = Mark(now, ended)
            over = (run.end_time or run.updated_at).timestamp()
            rate = ended / (over - begun) if begun is not None and over > begun and ended else None
        left = (counts.total or 0) - ended
        end_at = None
        if active and run.status == "PENDING" and rate and left:
            end_at = datetime.fromtimestamp(now + left / rate, UTC)
        return cls(
            active,
            ended,
            percent,
            rate,
            end_at,
            _elapsed(run, now),
            _announced(run, percent),
            mark,
            urlencode({"s": run.status, "c": "-".join(str(count) for count in counts.__dict__.values())}),
        )


def _elapsed(run: RunView, now: float) -> timedelta | None:
    if run.start_time is None:
        return None
    end = run.end_time.timestamp() if run.end_time else now
    return timedelta(seconds=max(0.0, end - run.start_time.timestamp()))


def _announced(run: RunView, percent: int | None) -> str:
    if run.status not in ACTIVE:
        return f"The run has ended: {run.status.lower()}. {in_words(run.counts)}."
    if run.status != "PENDING":
        return f"The run is {run.status.lower()}."
    return "The run is being planned." if percent is None else f"{percent // 10 * 10} percent of the items have ended."
