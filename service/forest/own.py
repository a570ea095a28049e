"""Rows with pair features of their own: the trees that ask for one, made anew for each of them.

For these rows alone, and over these trees alone, every pair test is made on many rows at once.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout as at
from service.forest.memory import array, lowest, number
from service.forest.ranks import rank
from service.forest.walk import category

CHUNK: Final = 48
"""Rows that are worked on together."""

_ALL: Final = np.uint32(0xFFFFFFFF)
_1: Final = np.uint32(1)
_31: Final = np.uint32(31)
_FIVE: Final = np.uint64(5)


@numba.njit(cache=True)
def own(block: int, scratch: int, touched: Integers, pairs: Floats, begin: int,
         end: int) -> None:  # fmt: skip
    """Add up the trees with pair features for rows [begin, end) of those that were kept."""
    masks = array(block, at.MASKS, scratch, np.uint32)
    kept = array(block, at.KEPT, scratch, np.int64)
    row_masks = array(block, at.ROW_MASKS, scratch, np.uint32)
    ranks = array(block, at.ROW_RANKS, scratch, np.int32)
    totals = array(block, at.ROW_TOTALS, scratch, np.int64)
    found = array(block, at.FOUND, scratch, np.uint32)
    lanes = array(block, at.PAIR_LANES, block, np.int32)
    tops = array(block, at.PAIR_TOPS, block, np.float64)
    thresholds = array(block, at.PAIR_THRESHOLDS, block, np.float64)
    sets = array(block, at.PAIR_SETS, block, np.int32)
    slots = array(block, at.PAIR_SLOTS, block, np.uint16)
    word_of = array(block, at.PAIR_WORD, block, np.int32)
    by_action = array(block, at.BY_ACTION, block, np.uint32)
    hides = array(block, at.HIDES, block, np.uint8)
    leaves = array(block, at.LEAVES, block, np.int64)
    test_lane = array(block, at.TEST_LANE, block, np.uint16)
    test_rank = array(block, at.TEST_RANK, block, np.int32)
    test_mask = array(block, at.TEST_MASK, block, np.uint32)
    member_lane = array(block, at.MEMBER_LANE, block, np.uint16)
    member_chunk = array(block, at.MEMBER_CHUNK, block, np.int32)
    member_set = array(block, at.MEMBER_SET, block, np.uint32)
    member_mask = array(block, at.MEMBER_MASK, block, np.uint32)
    words, numerical = number(block, at.PAIR_WORDS), lanes.shape[0] // 5
    for r in range(end - begin):
        one = kept[begin + r]
        for i in range(numerical):
            ranks[i * CHUNK + r] = rank(
                pairs[one, lanes[5 * i]], lanes[5 * i + 1], lanes[5 * i + 2], lanes[5 * i + 3],
                lanes[5 * i + 4], tops, thresholds,
            )  # fmt: skip
        for i in range(sets.shape[0] // 3):
            code = category(pairs[one, sets[3 * i]])
            slot = 0
            if 0 <= code < sets[3 * i + 2]:
                slot = slots[sets[3 * i + 1] + code]
            ranks[(numerical + i) * CHUNK + r] = slot
        row = touched[one]
        twin, mine = np.int64(hides[row]), row * words
        for i in range(np.uint64(words)):
            word = word_of[np.uint64(8) * i + np.uint64(twin)]
            row_masks[i * np.uint64(CHUNK) + np.uint64(r)] = (
                masks[np.uint64(word)] & by_action[np.uint64(mine) + i]
            )
    totals[:] = 0
    for i in range(np.uint64(words)):
        record = i * np.uint64(8)
        mask = i * np.uint64(CHUNK)
        for j in range(np.uint64(word_of[record + 4]), np.uint64(word_of[record + 5])):
            lane = np.uint64(test_lane[j]) * np.uint64(CHUNK)
            limit, left = test_rank[j], test_mask[j]
            for r in range(np.uint64(CHUNK)):
                row_masks[mask + r] &= left if ranks[lane + r] > limit else _ALL
        for j in range(np.uint64(word_of[record + 6]), np.uint64(word_of[record + 7])):
            lane = np.uint64(member_lane[j]) * np.uint64(CHUNK)
            first, inside, left = member_chunk[j], member_set[j], member_mask[j]
            for r in range(np.uint64(CHUNK)):
                bit = np.uint32(ranks[lane + r] - first)
                fails = bit < 32 and (inside >> (bit & _31)) & _1 != 0
                row_masks[mask + r] &= left if fails else _ALL
        leaf = np.uint64(word_of[record]) << _FIVE
        total = np.uint64(word_of[record + 3] * CHUNK)
        several = word_of[record + 2]
        if several == 0:
            for r in range(np.uint64(end - begin)):
                totals[total + r] += leaves[leaf + lowest(row_masks[mask + r])]
            continue
        if several == 1:
            found[:] = 0
        for r in range(np.uint64(end - begin)):
            bits = row_masks[mask + r]
            if found[r] == 0 and bits != 0:
                totals[total + r] += leaves[leaf + lowest(bits)]
                found[r] = 1


@numba.njit(cache=True)
def keep(block: int, scratch: int, touched: Integers, pairs: Floats) -> int:
    """List the rows whose pair features are not the usual ones."""
    if number(block, at.PAIR_WORDS) == 0:
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
    return count


