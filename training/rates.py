"""Compare the rates of a segment with those of everybody else. Pure.

A rate is a sum over a sum: how often something happened over how often it could have. A customer
has many decisions, which are alike, so all variances are sums over customers, not over decisions: a
linearised ("sandwich") estimate of the log of the ratio, whose interval is log-normal. Binder 1983,
On the variances of asymptotically normal estimators from complex surveys; Benjamini and Hochberg
1995, Controlling the false discovery rate.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers

Mask = npt.NDArray[np.bool_]

LEVEL: Final = 0.95
_REACH: Final = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_FEW: Final = 5
"""Happenings under which a rate is drawn towards what is possible, by half a happening."""


class Tally(NamedTuple):
    """What happened and what could have, decision by decision."""

    happened: Floats  # [rows]
    possible: Floats  # [rows]
    customers: Integers  # [rows] number of the customer, 0 to the number of customers less 1

    def of(self, rows: Mask) -> Tally:
        """The same for some rows."""
        return Tally(self.happened[rows], self.possible[rows], self.customers[rows])


class Side(NamedTuple):
    """One side of a comparison."""

    happened: float
    possible: float
    customers: int  # to whom it could have happened

    @property
    def rate(self) -> float:
        """How often it happened of how often it could; NaN where it never could."""
        return self.happened / self.possible if self.possible else math.nan


class Ratio(NamedTuple):
    """The rate of a segment over that of everybody else, with the ends of its interval."""

    segment: Side
    others: Side
    ratio: float
    low: float
    high: float
    p: float  # of a ratio of 1, two-sided; NaN where there is not enough data


class Explained(NamedTuple):
    """The share of a gap that goes away, with the ends of its interval; 1: all of it."""

    share: float
    low: float
    high: float


def side(tally: Tally) -> Side:
    """Add one side up."""
    could = tally.possible > 0
    return Side(
        float(tally.happened.sum()),
        float(tally.possible.sum()),
        len(np.unique(tally.customers[could])),
    )


def enough(one: Side, other: Side, customers: int, events: int) -> bool:
    """Whether there is enough to compare: people on both sides, and happenings to be expected.

    None at all on one side is enough where the other side's rate would have made for many.
    """
    if min(one.customers, other.customers) < customers:
        return False
    expected = other.rate * one.possible, one.rate * other.possible
    return max(one.happened, expected[0]) >= events and max(other.happened, expected[1]) >= events


def ratio(tally: Tally, members: Mask) -> Ratio:
    """Compare the rows of a segment with all others.

    Where very little happened on a side, the interval is that of Poisson counts with half a
    happening more, and ``p`` that of their score test, both times what clustering does.

    Args:
        tally: Of all rows.
        members: [rows] which of them belong to the segment. A customer may have rows on both sides.
    """
    one, other = side(tally.of(members)), side(tally.of(~members))
    if not (one.possible and other.possible and one.happened + other.happened):
        return Ratio(one, other, math.nan, math.nan, math.nan, math.nan)
    customers = int(tally.customers.max()) + 1
    rates = _drawn(one), _drawn(other)
    pulls = [
        _pull(tally, rows, rate, customers) / (rate * here.possible)
        for rows, rate, here in ((members, rates[0], one), (~members, rates[1], other))
    ]
    log, variance = math.log(rates[0] / rates[1]), _sum_of_squares(pulls[0] - pulls[1])
    distance = log
    if min(one.happened, other.happened) < _FEW:
        spread = _spread(one, other, pulls)
        few = spread * (1 / (one.happened + 0.5) + 1 / (other.happened + 0.5))
        variance = max(variance, few)
        pooled = (one.happened + other.happened) / (one.possible + other.possible)
        expected = spread * pooled * (1 / one.possible + 1 / other.possible)
        distance = (one.rate - other.rate) / math.sqrt(expected) * math.sqrt(variance)
    error = math.sqrt(variance)
    p = math.erfc(abs(distance) / error / math.sqrt(2)) if error else float(log == 0)
    shown = one.rate / other.rate if other.happened else math.inf
    return Ratio(
        one, other, shown, math.exp(log - _REACH * error), math.exp(log + _REACH * error), p
    )


def _drawn(one: Side) -> float:
    """The rate, with half a happening more where there are too few for a logarithm."""
    return (one.happened + 0.5 * (one.happened < _FEW)) / one.possible


def _pull(tally: Tally, rows: Mask, rate: float, customers: int) -> Floats:
    """How far each customer pulls a sum away from what the rate says: [customers]."""
    here = tally.of(rows)
    beyond = here.happened - rate * here.possible
    pulls: Floats = np.bincount(here.customers, beyond, customers).astype(np.float64)
    return pulls


def _spread(one: Side, other: Side, pulls: list[Floats]) -> float:
    """What clustering does to the variance of counts, at least 1.

    Seen on the side where more happened: with too few happenings there is no spread to see.
    """
    many = max(range(2), key=lambda i: (one, other)[i].happened)
    return max(1.0, _sum_of_squares(pulls[many]) * (one, other)[many].happened)


def _sum_of_squares(pulls: Floats) -> float:
    taking_part = int(np.count_nonzero(pulls))
    if taking_part < 2:
        return 0.0
    return float(pulls @ pulls) * taking_part / (taking_part - 1)


def explained(before: Tally, after: Tally, members: Mask) -> Explained | None:
    """Say how much of the difference of two rates goes away.

    Differences, since a rate of nothing has no logarithm. Both tallies are of the same decisions,
    so what they share cancels and the interval is narrow.

    Returns:
        None where there was no difference.
    """
    gaps, pulls = [], []
    customers = int(before.customers.max()) + 1
    for tally in (before, after):
        one, other = side(tally.of(members)), side(tally.of(~members))
        gaps.append(one.rate - other.rate)
        pulls.append(
            _pull(tally, members, one.rate, customers) / one.possible
            - _pull(tally, ~members, other.rate, customers) / other.possible
        )
    if not abs(gaps[0]) > 0:
        return None
    left = gaps[1] / gaps[0]
    error = math.sqrt(_sum_of_squares(pulls[1] - left * pulls[0])) / abs(gaps[0])
    return Explained(1 - left, 1 - left - _REACH * error, 1 - left + _REACH * error)


def mean(values: Floats, customers: Integers) -> tuple[float, float, float]:
    """A mean over decisions with the ends of its interval, clustered by customer."""
    if not len(values):
        return math.nan, math.nan, math.nan
    middle = float(values.mean())
    pulls = np.bincount(customers, values - middle) / len(values)
    error = math.sqrt(_sum_of_squares(pulls))
    return middle, middle - _REACH * error, middle + _REACH * error


def adjusted(p: Floats) -> Floats:
    """The q of each p: the false discovery rate at which it would be the last discovery."""
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return q
