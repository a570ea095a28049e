"""The numbers that rank actions, of one and of many. Pure.

:mod:`service.arbitration` says how they follow from one another.
"""

from __future__ import annotations

from typing import NamedTuple

from features.elementary import Floats
from features.kernels import Integers


class Factors(NamedTuple):
    """The numbers that rank an action."""

    acceptance_probability: float
    value: float
    context_weight: float
    lever: float
    priority: float
    model: float | None = None
    evidence: float | None = None
    capacity: float = 0.0
    uplift: tuple[float, float, float] | None = None  # mean, low, high


class Ranked(NamedTuple):
    """Some rows of the catalogue with their numbers, best first."""

    rows: Integers
    acceptance: Floats
    value: Floats
    capacity: Floats
    context_weight: Floats
    lever: Floats
    priority: Floats
    model: Floats | None = None
    evidence: Floats | None = None
    uplift: Floats | None = None

    def factors(self, place: int) -> Factors:
        """The numbers of one of them."""
        uplift = None if self.uplift is None else tuple(self.uplift[place].tolist())
        return Factors(
            float(self.acceptance[place]),
            float(self.value[place]),
            float(self.context_weight[place]),
            float(self.lever[place]),
            float(self.priority[place]),
            None if self.model is None else float(self.model[place]),
            None if self.evidence is None else float(self.evidence[place]),
            float(self.capacity[place]),
            None if uplift is None or uplift[0] != uplift[0] else uplift,
        )
