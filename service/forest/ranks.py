"""The rank of a value among the thresholds of a lane. Pure."""

from __future__ import annotations

import numba
import numpy as np

from features.elementary import Floats
from service.forest.lanes import BLOCK, NONE_RIGHT
from service.forest.trees import NAN, ZERO
from service.forest.walk import NEAR_ZERO


@numba.njit(cache=True, inline="always")
def rank(x: float, flags: int, longest: int, block: int, blocks: int, tops: Floats,
          thresholds: Floats) -> int:  # fmt: skip
    """How many thresholds of a lane are below a value."""
    missing = flags & 3
    none = np.isnan(x)
    if none and missing != NAN:
        x = 0.0
    if abs(x) <= NEAR_ZERO:
        x = 0.0
    full = 0
    for i in range(blocks - 1):
        full += tops[block + i] < x
    found = BLOCK * full
    begin = BLOCK * (block + full)
    for i in range(BLOCK):
        found += thresholds[begin + i] < x
    if (missing == NAN and none) or (missing == ZERO and x == 0.0):
        found = longest if flags & NONE_RIGHT else 0
    return found


