"""Rows with pair features of their own: the trees that ask for one, made anew for each of them."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout as at
from service.forest.memory import address, array, lowest, number
from service.forest.ranks import ranked
from service.forest.vectors import WIDE, WORD_ROW, remains

_FIVE: Final = np.uint64(5)


@numba.njit(cache=True)
def keep(block: int, scratch: int, touched: Integers, pairs: Floats) -> int:
    """List the rows whose pair features are not the usual ones, and gather what they need.

    That is the leaves left over of trees with pair features, for rows that see all columns and for
    those that do not.
    """
    words = np.uint64(number(block, at.PAIR_WORDS))
    if words == 0:
        return 0
    kept = array(block, at.KEPT, scratch, np.int64)
    usual = array(block, at.USUAL, block, np.float64)
    width = pairs.shape[1]
    count = 0
    for i in range(touched.shape[0]):
        same = True
        for j in range(width):
            x, y = pairs[i, j], usual[touched[i] * width + j]
            same = same and (x == y or (np.isnan(x) and np.isnan(y)))
        if not same:
            kept[count] = i
            count += 1
    masks = array(block, at.MASKS, scratch, np.uint32)
    word_of = array(block, at.PAIR_WORD, block, np.uint32)
    left = array(block, at.PAIR_MASKS, scratch, np.uint32)
    for i in range(np.uint64(2) * words):
        left[i] = masks[word_of[i]]
    return count


@numba.njit(cache=True)
def own(block: int, scratch: int, row: int, values: Any) -> None:
    """Add up the trees with pair features for one row, by class.

    Args:
        block: Address of a compiled forest.
        scratch: Address of its scratch block, after :func:`keep`; its ROW_TOTALS are overwritten.
        row: Of the catalogue.
        values: [pair columns].
    """
    hides = array(block, at.HIDES, block, np.uint8)
    left = array(block, at.PAIR_MASKS, scratch, np.uint32)
    by_action = array(block, at.BY_ACTION, block, np.uint32)
    masks = array(block, at.ROW_MASKS, scratch, np.uint32)
    packs = array(block, at.PAIR_PACKS, block, np.int32)
    start = array(block, at.PAIR_START, block, np.uint8)
    spans = array(block, at.PAIR_SPANS, block, np.int32)
    leaves = array(block, at.PAIR_LEAVES, block, np.int64)
    totals = array(block, at.ROW_TOTALS, scratch, np.int64)
    words = np.uint64(number(block, at.PAIR_WORDS))
    ranked(block, scratch, at.PAIR, values)
    mine, seen = np.uint64(row) * words, np.uint64(hides[row]) * words
    for i in range(words):
        masks[i] = left[seen + i] & by_action[mine + i]
    tests, table = address(block, at.PAIR_TESTS, block), address(block, at.TABLE, scratch)
    flips, cleared = address(block, at.FLIPS, scratch), address(block, at.ROW_MASKS, scratch)
    for pack in range(packs.shape[0] // 2):
        first, count = np.int64(packs[2 * pack]), np.int64(packs[2 * pack + 1])
        where = cleared + 4 * WIDE * pack
        remains(tests + WORD_ROW * first, count, table, flips + 8 * first, where)
    for one in range(totals.shape[0]):
        total, waiting = np.int64(0), False
        for i in range(np.uint64(spans[2 * one]), np.uint64(spans[2 * one + 1])):
            bits = masks[i]
            if bits == 0:  # never; without a way out LLVM gathers by eights, which is slower
                break
            total += leaves[(i << _FIVE) + lowest(bits)]
        for i in range(np.uint64(spans[2 * one + 1]), np.uint64(spans[2 * one + 2])):
            waiting = waiting or start[i] != 0
            bits = masks[i]
            if waiting and bits != 0:
                total += leaves[(i << _FIVE) + lowest(bits)]
                waiting = False
        totals[one] = total
