"""UTC offsets of a time zone as spans of constant offset, so that clocks become plain arithmetic.

All instants are whole seconds since the Unix epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from airflow_jobs_plugin.spec.schedule import zone

DAY = 86_400
#: How much of the time line is looked at together. A span never reaches over the border of a page.
PAGE = 512 * DAY
#: Where offsets are looked up; what lies between two equal ones is taken to be equal. No zone has changed its offset
#: and back within six days since 1970 (Brazil in 2000, Gaza in some coming years); a test looks at all of them.
STEP = 4 * DAY
#: No zone is further from UTC than this, seconds.
FARTHEST = 26 * 3600
#: Between these any zone's clock shows a date that there is.
_FIRST = -62_135_596_800 + 2 * DAY
_LAST = 253_402_300_799 - 2 * DAY


class Offsets:
    """The spans of one zone, found as they are needed."""

    def __init__(self, info: ZoneInfo) -> None:
        self._info = info
        self._pages: dict[int, tuple[list[int], list[int]]] = {}

    def span(self, instant: int) -> tuple[int, int, int]:
        """``(start, end, offset)`` of the span with ``instant``: start ≤ instant < end, offset in seconds."""
        page = instant // PAGE
        known = self._pages.get(page)
        if known is None:
            known = self._pages[page] = self._look(page * PAGE)
        starts, offsets = known
        at = bisect_right(starts, instant) - 1
        end = starts[at + 1] if at + 1 < len(starts) else (page + 1) * PAGE
        return starts[at], end, offsets[at]

    def _look(self, begin: int) -> tuple[list[int], list[int]]:
        starts, offsets = [begin], [self._offset(begin)]
        for low in range(begin, begin + PAGE, STEP):
            high = low + STEP
            offset = self._offset(high)
            if offset != offsets[-1]:
                while high - low > 1:
                    middle = (low + high) // 2
                    if self._offset(middle) == offset:
                        high = middle
                    else:
                        low = middle
                if high < begin + PAGE:
                    starts.append(high)
                    offsets.append(offset)
        return starts, offsets

    def _offset(self, instant: int) -> int:
        # The first and the last day that there are have offsets of their neighbours': of their own they have none.
        instant = min(max(instant, _FIRST), _LAST)
        offset = datetime.fromtimestamp(instant, UTC).astimezone(self._info).utcoffset()
        return 0 if offset is None else offset.days * DAY + offset.seconds


class _Fixed(Offsets):
    """A zone that has always had one offset."""

    def __init__(self, offset: int) -> None:
        self._span = (-(10**12), 10**12, offset)

    def span(self, instant: int) -> tuple[int, int, int]:
        return self._span


@lru_cache(maxsize=256)
def offsets(name: str) -> Offsets:
    """The spans of an IANA zone. Raises ``ValueError`` for an unknown one."""
    if name in ("UTC", "Etc/UTC", "GMT", "Etc/GMT"):
        return _Fixed(0)
    return Offsets(zone(name))
