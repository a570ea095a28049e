"""When a worker that ended is started again, and when to give up. Pure."""

from __future__ import annotations

from typing import Final

MOST_BARREN: Final = 5
"""Ends in a row before it served, after which there is no hope."""

_STEADY_SECONDS: Final = 30.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class Restarts:
    """When one worker that ended is started again: at once, then later and later."""

    def __init__(self) -> None:
        self._quick = 0
        self._barren = 0

    def ended(self, served: float) -> float:
        """Take that it ended, and give the seconds to wait.

        Args:
            served: Seconds that it had served; 0: it never did.
        """
        self._barren = 0 if served > 0 else self._barren + 1
        self._quick = 1 if served >= _STEADY_SECONDS else self._quick + 1
        if self._quick == 1:
            return 0.0
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._quick - 2, 16))

    def hopeless(self, *, refused: bool, others: bool) -> bool:
        """Whether to give up: nobody else serves, and it can't start, or never came to serve."""
        return not others and (refused or self._barren >= MOST_BARREN)
