"""Durations as people write them in configuration: ``90s``, ``15m``, ``24h``, ``7d``. Pure."""

from __future__ import annotations

import re
from typing import Final

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
LONGEST: Final = 36_500 * DAY

_UNITS: Final = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_WRITTEN: Final = re.compile(r"(\d+)(ms|s|m|h|d|w)")


def milliseconds(written: str) -> int:
    """Turn ``"7d"`` into milliseconds.

    Raises:
        ValueError: It is not a positive whole number followed by ms, s, m, h, d or w, or is over
            a hundred years.
    """
    match = _WRITTEN.fullmatch(written)
    if match is None or int(match[1]) == 0:
        raise ValueError(
            f"{written!r} is no duration; write a positive whole number and a unit "
            f"({', '.join(_UNITS)}), such as '7d'"
        )
    ms = int(match[1]) * _UNITS[match[2]]
    if ms > LONGEST:
        raise ValueError(f"{written!r} is over a hundred years; write at most '36500d'")
    return ms


def spoken(ms: float) -> str:
    """Say a duration as a person would: ``"3 minutes"``, ``"2 days"``."""
    for size, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second")):
        count = int(ms // size)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "a moment"
