"""What happens in a request: a customer's values become a score for every row of the catalogue.

A tree is words of 32 bits, a bit a leaf, from left to right. A value clears the leaves that it
keeps a row from: each test that is failed those of its left subtree, each that is passed those of
its right one. So no tree is walked, and hardly a branch depends on a value: what a customer's
values clear is the beginning and the end of sorted lists, streamed (after QuickScorer: Lucchese et
al., SIGIR 2015). The leaves that are left over add their value to the rows that can reach them.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout as at
from service.forest.lanes import BLOCK, NONE_RIGHT
from service.forest.memory import array, lowest, number
from service.forest.trees import NAN, ZERO, Bytes
from service.forest.walk import NEAR_ZERO, category

CHUNK: Final = 48
"""Rows with pair features of their own that are worked on together."""

_ALL: Final = np.uint32(0xFFFFFFFF)
_1: Final = np.uint32(1)
_5: Final = np.uint32(5)
_10: Final = np.uint32(10)
_31: Final = np.uint32(31)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_FIVE: Final = np.uint64(5)
_64: Final = np.uint64(64)


@numba.njit(cache=True, inline="always")
def _rank(x: float, flags: int, pieces: int, block: int, blocks: int, tops: Floats,
          thresholds: Floats) -> int:  # fmt: skip
    """How many of a lane's nodes a value fails: they are the first ones."""
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
        found = pieces if flags & NONE_RIGHT else 0
    return found


@numba.njit(cache=True, inline="always")
def _clear(masks: Any, codes: Any, begin: int, end: int) -> None:
    for i in range(np.uint64(begin), np.uint64(end)):
        code = codes[i]
        span = (_TWO << np.uint64(code & _31)) - _ONE
        masks[code >> _10] &= ~np.uint32(span << np.uint64((code >> _5) & _31))


@numba.njit(cache=True)
def _clear_lists(block: int, masks: Any, vector: Floats, low: int, high: int) -> None:
    sets = array(block, at.SETS, block, np.int32)
    slots = array(block, at.SLOTS, block, np.uint16)
    lists = array(block, at.LISTS, block, np.int32)
    codes = array(block, at.LEFT, block, np.uint32)
    for i in range(low, high):
        code = category(vector[sets[4 * i]])
        slot = 0
        if 0 <= code < sets[4 * i + 2]:
            slot = slots[sets[4 * i + 1] + code]
        which = sets[4 * i + 3] + slot
        _clear(masks, codes, lists[which], lists[which + 1])


@numba.njit(cache=True)
def _clear_lanes(block: int, masks: Any, ranks: Any, low: int, high: int) -> None:
    lanes = array(block, at.LANES, block, np.int32)
    left = array(block, at.LEFT, block, np.uint32)
    right = array(block, at.RIGHT, block, np.uint32)
    both = number(block, at.BOTH_SIDES)
    for i in range(low, high):
        begin = lanes[6 * i + 2]
        middle = begin + ranks[i]
        _clear(masks, left, begin, middle)
        if begin < both:
            _clear(masks, right, middle, begin + lanes[6 * i + 3])


@numba.njit(cache=True)
def customer(block: int, scratch: int, vector: Floats) -> None:
    """Clear what the customer's values clear in every tree, and in the twins of those that hide."""
    masks = array(block, at.MASKS, scratch, np.uint32)
    ranks = array(block, at.RANKS, scratch, np.int32)
    lanes = array(block, at.LANES, block, np.int32)
    tops = array(block, at.TOPS, block, np.float64)
    thresholds = array(block, at.THRESHOLDS, block, np.float64)
    for i in range(ranks.shape[0]):
        x = vector[lanes[6 * i]]
        ranks[i] = _rank(x, lanes[6 * i + 1], lanes[6 * i + 3], lanes[6 * i + 4], lanes[6 * i + 5],
                         tops, thresholds)  # fmt: skip
    masks[:] = _ALL
    hiding, hiding_sets = number(block, at.HIDING_LANES), number(block, at.HIDING_SETS)
    sets = array(block, at.SETS, block, np.int32).shape[0] // 4
    _clear_lanes(block, masks, ranks, hiding, ranks.shape[0])
    _clear_lists(block, masks, vector, hiding_sets, sets)
    copies = array(block, at.COPIES, block, np.uint32)
    if copies.shape[0] == 0:
        return
    for i in range(copies.shape[0] // 2):
        masks[copies[2 * i + 1]] = masks[copies[2 * i]]
    _clear_lanes(block, masks, ranks, 0, hiding)
    _clear_lists(block, masks, vector, 0, hiding_sets)
    hidden = array(block, at.HIDDEN, block, np.uint32)
    _clear(masks, hidden, 0, hidden.shape[0])


@numba.njit(cache=True)
def _steady(masks: Any, leaves: Integers, start: Bytes, begin: int, end: int) -> Any:
    """Add up trees that give every row the same."""
    total = np.int64(0)
    waiting = False
    for word in range(np.uint64(begin), np.uint64(end)):
        waiting = waiting or start[word] != 0
        bits = masks[word]
        if waiting and bits != 0:
            total += leaves[(word << _FIVE) + lowest(bits)]
            waiting = False
    return total


@numba.njit(cache=True)
def _hits(block: int, scratch: int, begin: int, end: int) -> Any:
    """List the leaves that are left over in some words, as what they add to which rows.

    Of each tree the first one is taken as read: it counts for every row, and the others count as
    the difference. Returns how many were listed, and what counts for every row.
    """
    masks = array(block, at.MASKS, scratch, np.uint32)
    hit_at = array(block, at.HIT_AT, scratch, np.uint32)
    hit_value = array(block, at.HIT_VALUE, scratch, np.int64)
    alive = array(block, at.ALIVE, block, np.uint32)
    start = array(block, at.START, block, np.uint8)
    records = array(block, at.RECORDS, block, np.int64)
    active = number(block, at.ACTIVE)
    each = np.uint64(number(block, at.SETS_EACH) + 1)
    count = np.uint64(0)
    base, first, waiting = np.int64(0), np.int64(0), False
    for i in range(np.uint64(begin), np.uint64(end)):
        inside = i - np.uint64(active)
        bits = masks[i] & alive[inside]
        if start[i] == 1:
            waiting = True
        elif start[i] == 2:
            first, waiting = np.int64(0), False
        if waiting and bits != 0:
            first = records[((inside << _FIVE) + lowest(bits)) * each]
            base += first
            waiting = False
            bits &= np.uint32(bits - _1)
        while bits != 0:
            record = ((inside << _FIVE) + lowest(bits)) * each
            bits &= np.uint32(bits - _1)
            hit_at[count] = record + _ONE
            hit_value[count] = records[record] - first
            count += _ONE
    nothing = np.uint32(records.shape[0]) - np.uint32(each)
    for i in range(np.uint64(3)):  # they are taken by fours
        hit_at[count + i] = nothing + _1
        hit_value[count + i] = 0
    return np.int64(count), base


@numba.njit(cache=True)
def catalogue(block: int, scratch: int) -> None:
    """Add up the trees for every row, with the pair features of a customer without events."""
    masks = array(block, at.MASKS, scratch, np.uint32)
    totals = array(block, at.TOTALS, scratch, np.int64)
    bases = array(block, at.BASES, scratch, np.int64)
    hit_at = array(block, at.HIT_AT, scratch, np.uint32)
    hit_value = array(block, at.HIT_VALUE, scratch, np.int64)
    steady = array(block, at.STEADY, block, np.int32)
    spans = array(block, at.SPANS, block, np.int32)
    leaves = array(block, at.LEAVES, block, np.int64)
    start = array(block, at.START, block, np.uint8)
    records = array(block, at.RECORDS, block, np.uint64)
    each = number(block, at.SETS_EACH)
    for one in range(2 * number(block, at.CLASSES)):
        count, base = _hits(block, scratch, spans[2 * one], spans[2 * one + 1])
        if one & 1 == 0:
            base += _steady(masks, leaves, start, steady[one], steady[one + 1])
        bases[one] = base
        for part in range(np.uint64(each)):
            total = totals[(np.uint64(one * each) + part) * _64 :][:64]
            total[:] = 0
            for four in range(np.uint64(count + 3) // np.uint64(4)):
                i = four * np.uint64(4)
                at0 = np.uint64(hit_at[i]) + part
                at1 = np.uint64(hit_at[i + np.uint64(1)]) + part
                at2 = np.uint64(hit_at[i + np.uint64(2)]) + part
                at3 = np.uint64(hit_at[i + np.uint64(3)]) + part
                set0, set1, set2, set3 = records[at0], records[at1], records[at2], records[at3]
                value0, value1 = hit_value[i], hit_value[i + np.uint64(1)]
                value2, value3 = hit_value[i + np.uint64(2)], hit_value[i + np.uint64(3)]
                for row in range(_64):
                    added = value0 if (set0 >> row) & _ONE else np.int64(0)
                    added += value1 if (set1 >> row) & _ONE else np.int64(0)
                    added += value2 if (set2 >> row) & _ONE else np.int64(0)
                    added += value3 if (set3 >> row) & _ONE else np.int64(0)
                    total[row] += added


@numba.njit(cache=True)
def _own(block: int, scratch: int, touched: Integers, pairs: Floats, begin: int,
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
    words, numerical = number(block, at.PAIR_WORDS), lanes.shape[0] // 6
    for r in range(end - begin):
        own = kept[begin + r]
        for i in range(numerical):
            ranks[i * CHUNK + r] = _rank(
                pairs[own, lanes[6 * i]], lanes[6 * i + 1], lanes[6 * i + 3], lanes[6 * i + 4],
                lanes[6 * i + 5], tops, thresholds,
            )  # fmt: skip
        for i in range(sets.shape[0] // 3):
            code = category(pairs[own, sets[3 * i]])
            slot = 0
            if 0 <= code < sets[3 * i + 2]:
                slot = slots[sets[3 * i + 1] + code]
            ranks[(numerical + i) * CHUNK + r] = slot
        row = touched[own]
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
            rank = np.uint64(test_lane[j]) * np.uint64(CHUNK)
            limit, left = test_rank[j], test_mask[j]
            for r in range(np.uint64(CHUNK)):
                row_masks[mask + r] &= left if ranks[rank + r] > limit else _ALL
        for j in range(np.uint64(word_of[record + 6]), np.uint64(word_of[record + 7])):
            rank = np.uint64(member_lane[j]) * np.uint64(CHUNK)
            first, inside, left = member_chunk[j], member_set[j], member_mask[j]
            for r in range(np.uint64(CHUNK)):
                bit = np.uint32(ranks[rank + r] - first)
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
def _keep(block: int, scratch: int, touched: Integers, pairs: Floats) -> int:
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


@numba.njit(cache=True)
def score(block: int, scratch: int, vector: Floats, touched: Integers, pairs: Floats) -> bool:
    """Score every row of the catalogue; False: a touched row is not one of it.

    Args:
        block: Address of a compiled forest.
        scratch: Address of its scratch block; its ANSWER becomes [rows, classes].
        vector: [customer columns].
        touched: [n] rows with pair features of their own, each at most once.
        pairs: [n, pair columns].
    """
    for i in range(touched.shape[0]):
        if not 0 <= touched[i] < number(block, at.ROWS):
            return False
    customer(block, scratch, vector)
    catalogue(block, scratch)
    totals = array(block, at.TOTALS, scratch, np.int64)
    bases = array(block, at.BASES, scratch, np.int64)
    scale = array(block, at.SCALE, block, np.float64)
    out = array(block, at.ANSWER, scratch, np.float64)
    rows, classes = number(block, at.ROWS), number(block, at.CLASSES)
    wide = 64 * number(block, at.SETS_EACH)
    kept = array(block, at.KEPT, scratch, np.int64)
    row_totals = array(block, at.ROW_TOTALS, scratch, np.int64)
    count = _keep(block, scratch, touched, pairs)
    for begin in range(0, count, CHUNK):
        end = min(begin + CHUNK, count)
        _own(block, scratch, touched, pairs, begin, end)
        for one in range(classes):
            for r in range(end - begin):
                row = touched[kept[begin + r]]
                totals[(2 * one + 1) * wide + row] = (
                    row_totals[one * CHUNK + r] - bases[2 * one + 1]
                )
    for one in range(classes):
        base = bases[2 * one] + bases[2 * one + 1]
        for row in range(rows):
            total = base + totals[2 * one * wide + row] + totals[(2 * one + 1) * wide + row]
            out[row * classes + one] = total * scale[one]
    return True
