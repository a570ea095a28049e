"""Values become ranks among the thresholds of their column, for tests to look up.

The rank is all that a test has to know of a value, and fits a byte.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from features.elementary import Floats
from service.forest import layout as at
from service.forest.lanes import NONE_RIGHT
from service.forest.memory import address, array
from service.forest.trees import NAN, ZERO
from service.forest.vectors import BLOCK, TABLED, below
from service.forest.walk import NEAR_ZERO, category

_6: Final = np.uint32(6)
_63: Final = np.uint32(63)
_ONE: Final = np.uint64(1)


@numba.njit(cache=True, inline="always")
def _rank(x: float, flags: int, longest: int, block: int, blocks: int, tops: Floats,
          thresholds: int) -> int:  # fmt: skip
    """How many thresholds of a lane are below a value; the last of each block is asked first."""
    missing = flags & 3
    none = np.isnan(x)
    if none and missing != NAN:
        x = 0.0
    if abs(x) <= NEAR_ZERO:
        x = 0.0
    full = 0
    for i in range(blocks - 1):
        full += tops[block + i] < x
    found: int = BLOCK * full + below(thresholds + 8 * BLOCK * (block + full), x)
    if (missing == NAN and none) or (missing == ZERO and x == 0.0):
        found = longest if flags & NONE_RIGHT else 0
    return found


@numba.njit(cache=True, inline="always")
def _flip(flips: Any, codes: Any, begin: int, end: int) -> None:
    for i in range(np.uint64(begin), np.uint64(end)):
        code = codes[i]
        flips[code >> _6] ^= _ONE << np.uint64(code & _63)


@numba.njit(cache=True)
def ranked(block: int, scratch: int, of: int, values: Any) -> None:
    """Fill the table of ranks, and the flips: outcomes of tests that it does not say.

    Args:
        block: Address of a compiled forest.
        scratch: Address of its scratch block; its TABLE and FLIPS are overwritten.
        of: ``layout.CUSTOMER`` or ``layout.PAIR``: whose tests.
        values: [columns of these].
    """
    table = array(block, at.TABLE, scratch, np.uint8)
    flips = array(block, at.FLIPS, scratch, np.uint64)
    usual = array(block, of + at.USUAL_FLIPS, block, np.uint64)
    lanes = array(block, of + at.LANES, block, np.int32)
    tops = array(block, of + at.TOPS, block, np.float64)
    thresholds = address(block, of + at.THRESHOLDS, block)
    lists = array(block, of + at.LISTS, block, np.int32)
    codes = array(block, of + at.CODES, block, np.uint32)
    beyond = array(block, of + at.BEYOND, block, np.int32)
    sets = array(block, of + at.SETS, block, np.int32)
    slots = array(block, of + at.SLOTS, block, np.uint16)
    for i in range(usual.shape[0]):
        flips[i] = usual[i]
    for i in range(lanes.shape[0] // 5):
        found = _rank(values[lanes[5 * i]], lanes[5 * i + 1], lanes[5 * i + 2], lanes[5 * i + 3],
                      lanes[5 * i + 4], tops, thresholds)  # fmt: skip
        if i < TABLED:
            table[i] = found
        else:
            first = beyond[i - TABLED]
            _flip(flips, codes, lists[first], lists[first + found])
    for i in range(sets.shape[0] // 4):
        code = category(values[sets[4 * i]])
        slot = 0
        if 0 <= code < sets[4 * i + 2]:
            slot = slots[sets[4 * i + 1] + code]
        which = sets[4 * i + 3] + slot
        _flip(flips, codes, lists[which], lists[which + 1])
