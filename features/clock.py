"""The local time of a moment; a time zone is asked once for each quarter of an hour. Pure.

Offsets from UTC change so seldom that the one at both ends of a quarter is the one all through it.
Where the ends differ the zone is asked each time: not every change is on the hour.
"""

from __future__ import annotations

import datetime
from typing import Final
from zoneinfo import ZoneInfo

from features.duration import DAY, MINUTE

_QUARTER: Final = 15 * MINUTE
_REMEMBERED: Final = 1_000  # quarters of an hour
_THURSDAY: Final = 3  # 1970-01-01


class Clock:
    """Tells the local time of one zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._known: dict[int, int | None] = {}

    def __call__(self, now: int) -> tuple[int, int, int]:
        """The hour, the minute of the day and the weekday (0 on Monday) at a moment.

        Args:
            now: Milliseconds since 1970-01-01 UTC.
        """
        quarter = now // _QUARTER
        try:
            offset = self._known[quarter]
        except KeyError:
            offset = self._offset(quarter)
        if offset is None:
            offset = self._ask(now)
        local = now + offset
        minute = local % DAY // MINUTE
        return minute // 60, minute, (local // DAY + _THURSDAY) % 7

    def _offset(self, quarter: int) -> int | None:
        """The offset all through a quarter, in milliseconds; None: it changes."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        first = self._ask(quarter * _QUARTER)
        last = self._ask(quarter * _QUARTER + _QUARTER - 1)
        found = self._known[quarter] = first if first == last else None
        return found

    def _ask(self, now: int) -> int:
        offset = datetime.datetime.fromtimestamp(now / 1000, self._zone).utcoffset()
        assert offset is not None  # noqa: S101  every zone has one
        return offset // datetime.timedelta(milliseconds=1)
