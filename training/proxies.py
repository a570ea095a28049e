"""How well something tells the members of a segment from everybody else. Pure.

A rule that never names a protected attribute can still sort by it. For numbers, the area under the
ROC curve (0.5 tells nothing; told as at least 0.5, since the direction is no matter); for all else
Cramer's V, corrected for chance (Bergsma 2013, A bias-correction for Cramer's V).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from features.elementary import Floats
from features.profile import Value
from training.rates import Mask

MeasureName = Literal["auc", "cramers_v"]
PROXY: Final[dict[MeasureName, float]] = {"auc": 0.7, "cramers_v": 0.3}
"""From here on something is called a proxy."""

_NUMBERS: Final = 5
"""Numbers with no more different values than this are taken as categories."""


class Association(NamedTuple):
    """How closely something goes with membership."""

    measure: MeasureName
    strength: float  # NaN where it cannot be said

    @property
    def proxy(self) -> bool:
        """Whether it is close enough to stand for the segment."""
        return self.strength >= PROXY[self.measure]

    @property
    def scaled(self) -> float:
        """From 0 (tells nothing) to 1 (tells all), whichever measure it is."""
        told = self.strength if self.measure == "cramers_v" else 2 * self.strength - 1
        return 0.0 if math.isnan(told) else told


def associated(values: Sequence[Value | None], members: Mask) -> Association:
    """Measure the association of values with membership; None is a value of its own kind."""
    numbers = [v for v in values if isinstance(v, float | int) and not isinstance(v, bool)]
    if len(numbers) == sum(v is not None for v in values) and len(set(numbers)) > _NUMBERS:
        told = np.array([np.nan if v is None else float(v) for v in values])
        return Association("auc", area(told, members))
    return Association("cramers_v", cramers_v([str(v) for v in values], members))


def area(values: Floats, members: Mask) -> float:
    """Chance that a member and another come in one order, NaN left out: 0.5 to 1."""
    known = ~np.isnan(values)
    values, members = values[known], members[known]
    inside = int(members.sum())
    outside = len(members) - inside
    if not inside or not outside:
        return math.nan
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    below = (ranks[members].sum() - inside * (inside + 1) / 2) / (inside * outside)
    return float(max(below, 1 - below))


def cramers_v(values: Sequence[str], members: Mask) -> float:
    """Cramer's V of categories and membership, 0 to 1."""
    names, codes = np.unique(np.array(values, object).astype(str), return_inverse=True)
    n = len(codes)
    if len(names) < 2 or not 0 < members.sum() < n:
        return math.nan if n < 2 else 0.0
    table = np.array(
        [np.bincount(codes[rows], minlength=len(names)) for rows in (members, ~members)]
    )
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi - (len(names) - 1) / (n - 1))
    columns = len(names) - (len(names) - 1) ** 2 / (n - 1)
    rows = 2 - 1 / (n - 1)
    return math.sqrt(corrected / max(1e-12, min(columns - 1, rows - 1)))
