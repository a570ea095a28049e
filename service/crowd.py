"""Whether decisions come so thick that one gains by waiting for others. No loop, no I/O.

Two things have to be so: several are under way at a time, and the process has hardly a moment to
spare. One caller who asks again and again keeps it as busy, and would wait for nobody; where time
is left, whoever waits is answered later and nothing is gained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 0.05
"""How long is looked at before it is said how it is: some dozens of decisions of a busy server."""

BUSY: Final = 0.9
"""Share of one core that a busy process takes, its threads included. At half of what it can do it
takes two thirds to three quarters, and hardly ever so much by chance."""

SEVERAL: Final = 4
"""Decisions under way at a time that make it worth a try: before any waits, gRPC hands out no more
of however many there are."""

ENOUGH: Final = 5
"""Decisions under way at a time, while they wait for others, that make it worth while."""

REST_SECONDS: Final = 0.2
"""How long nobody waits after a try that was not."""


class Crowd:
    """Counts the decisions that are under way.

    Args:
        clock: Monotonic seconds.
        spent: Seconds of CPU that the process has taken.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._spent = spent
        self.inside = 0
        """How many are under way."""
        self._most = 0  # in this window
        self._since = self._until = self._rests_until = clock()
        self._spent_before = spent()
        self.size = 0
        """How many were under way at a time in the window before, where it gains to wait for as
        many; 0: it does not."""

    def enter(self) -> None:
        """Count one more."""
        self.inside += 1
        if self.inside > self._most:  # noqa: PLR1730  max() is a call
            self._most = self.inside
        now = self._clock()
        if now >= self._until:
            self._look(now)

    def leave(self) -> None:
        """Count one less."""
        self.inside -= 1

    def _look(self, now: float) -> None:
        """Say how it was, and begin another window."""
        spent = self._spent()
        busy = spent - self._spent_before >= BUSY * (now - self._since)
        if self.size and self._most < ENOUGH:
            self._rests_until = now + REST_SECONDS
        gains = busy and self._most >= SEVERAL and now >= self._rests_until
        self.size = self._most if gains else 0
        self._since, self._until = now, now + WINDOW_SECONDS
        self._spent_before, self._most = spent, self.inside
