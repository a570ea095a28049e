"""The caller's deadline, split over the steps of a decision. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

ANSWER_SECONDS: Final = 0.002
"""Kept back for building and sending the answer."""

READ_SHARE: Final = 0.6
"""Of what is left when the read starts; scoring needs the rest."""

_UNLUCKY: Final = 1.5
"""Times what a step usually takes, for bad luck."""


class Budget:
    """How long a decision may still take.

    Args:
        seconds: Until the caller's deadline.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the answer has to leave; negative when it is late."""
        return self._end - self._clock() - ANSWER_SECONDS

    @property
    def read(self) -> float:
        """Seconds that reading the store may take from now."""
        return max(0.0, self.left * READ_SHARE)


class Cost:
    """What a step takes, as a moving average that remembers slow runs longer than fast ones."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def note(self, seconds: float) -> None:
        """Take in one measurement."""
        weight = 0.2 if seconds > self._seconds else 0.02
        self._seconds += weight * (seconds - self._seconds)

    def fits(self, budget: Budget) -> bool:
        """Whether the step would be done in time, with half as much again for bad luck."""
        return budget.left > _UNLUCKY * self._seconds

    def spare(self, budget: Budget) -> float:
        """Seconds that are left beside the step, were it as unlucky; negative where it is late."""
        return budget.left - _UNLUCKY * self._seconds
