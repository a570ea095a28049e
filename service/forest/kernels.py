"""What happens in a request: a customer's values become a score for every row of the catalogue.

No tree is walked, and hardly a branch depends on a value. Values become ranks among the thresholds
of their column; then 64 trees at a time make their tests on what their customer's ranks are, node
after node, whether it is on the customer's path or not (after QuickScorer: Lucchese et al., SIGIR
2015). A tree that gives every row the same has one leaf left over then. The others are words of 32
bits, a bit a leaf: each test that is failed clears the leaves of its left subtree, each that is
passed those of its right one, and the leaves that are left over add their value to the rows that
can reach them.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout as at
from service.forest.memory import address, array, lowest, number
from service.forest.own import keep, own
from service.forest.ranks import ranked
from service.forest.vectors import STEADY_ROW, WIDE, WORD_ROW, added, exits, remains

_1: Final = np.uint32(1)
_ONE: Final = np.uint64(1)
_FIVE: Final = np.uint64(5)
_EIGHT: Final = np.uint64(8)


@numba.njit(cache=True)
def _steady(block: int, scratch: int) -> Any:
    """Add up the trees that give every row the same, by class; gives their rows of tests."""
    packs = array(block, at.STEADY, block, np.int32)
    classes = array(block, at.STEADY_CLASS, block, np.uint16)
    leaves = array(block, at.STEADY_LEAVES, block, np.int64)
    reached = array(block, at.EXITS, scratch, np.uint8)
    totals = array(block, at.STEADY_TOTALS, scratch, np.int64)
    tests, table = address(block, at.STEADY_TESTS, block), address(block, at.TABLE, scratch)
    flips, found = address(block, at.FLIPS, scratch), address(block, at.EXITS, scratch)
    totals[:] = 0
    rows = np.int64(0)
    for pack in range(packs.shape[0] // 4):
        first, count = np.int64(packs[4 * pack]), np.int64(packs[4 * pack + 1])
        exits(tests + STEADY_ROW * first, count, table, flips + 8 * first, found)
        rows = first + count
        leaf, width = np.uint64(packs[4 * pack + 2]), np.uint64(packs[4 * pack + 3])
        for i in range(np.uint64(WIDE)):
            one = classes[np.uint64(pack * WIDE) + i]
            totals[one] += leaves[leaf + i * width + np.uint64(reached[i])]
    return rows


@numba.njit(cache=True)
def customer(block: int, scratch: int, vector: Floats) -> None:
    """Make every test on the customer's values: steady trees are added up, words cleared."""
    ranked(block, scratch, at.CUSTOMER, vector)
    before = _steady(block, scratch)
    packs = array(block, at.PACKS, block, np.int32)
    masks = array(block, at.MASKS, scratch, np.uint32)
    masks[:] = array(block, at.WHOLE, block, np.uint32)
    tests, table = address(block, at.TESTS, block), address(block, at.TABLE, scratch)
    flips = address(block, at.FLIPS, scratch) + 8 * before
    cleared = address(block, at.MASKS, scratch)
    for pack in range(packs.shape[0] // 2):
        first, count = np.int64(packs[2 * pack]), np.int64(packs[2 * pack + 1])
        where = cleared + 4 * WIDE * pack
        remains(tests + WORD_ROW * first, count, table, flips + 8 * first, where)


@numba.njit(cache=True)
def _hits(block: int, scratch: int, begin: int, end: int) -> Any:
    """List the leaves that are left over in some words, as what they add to which rows.

    Of each tree one is taken as read, that of most rows if it is the next: it counts for every row,
    and the others count as the difference. Those that have a set of rows are listed from the
    beginning, those with a list of rows from the end. Returns how many of each, and what counts for
    every row.
    """
    masks = array(block, at.MASKS, scratch, np.uint32)
    hit_at = array(block, at.HIT_AT, scratch, np.uint32)
    hit_value = array(block, at.HIT_VALUE, scratch, np.int64)
    alive = array(block, at.ALIVE, block, np.uint32)
    few = array(block, at.FEW, block, np.uint32)
    most = array(block, at.MOST, block, np.uint32)
    start = array(block, at.START, block, np.uint8)
    records = array(block, at.RECORDS, block, np.int64)
    each = np.uint64(number(block, at.SETS_EACH) + 1)
    count, fews, last = np.uint64(0), np.uint64(0), np.uint64(hit_at.shape[0] - 1)
    base, first, waiting = np.int64(0), np.int64(0), False
    for i in range(np.uint64(begin), np.uint64(end)):
        bits = masks[i] & alive[i]
        if start[i] == 1:
            waiting = True
        elif start[i] == 2:
            first, waiting = np.int64(0), False
        if waiting and bits != 0:
            usual = bits & most[i]
            place = lowest(usual if usual != 0 else bits)
            first = records[((i << _FIVE) + place) * each]
            base += first
            waiting = False
            bits ^= np.uint32(_ONE << place)
        while bits != 0:
            place = lowest(bits)
            bits &= np.uint32(bits - _1)
            record = ((i << _FIVE) + place) * each
            value = records[record] - first
            hit_at[count] = hit_at[last - fews] = record + _ONE
            hit_value[count] = hit_value[last - fews] = value
            listed = np.uint64((few[i] >> np.uint32(place)) & _1)
            fews += listed
            count += _ONE - listed
    return np.int64(count), np.int64(fews), base


@numba.njit(cache=True)
def catalogue(block: int, scratch: int) -> None:
    """Add up the trees for every row, with the pair features of a customer without events."""
    totals = array(block, at.TOTALS, scratch, np.int64)
    bases = array(block, at.BASES, scratch, np.int64)
    spans = array(block, at.SPANS, block, np.int32)
    lists = array(block, at.RECORDS, block, np.uint16)
    hit_at = array(block, at.HIT_AT, scratch, np.uint32)
    hit_value = array(block, at.HIT_VALUE, scratch, np.int64)
    last = np.uint64(hit_at.shape[0] - 1)
    records, sums = address(block, at.RECORDS, block), address(block, at.TOTALS, scratch)
    hits, values = address(block, at.HIT_AT, scratch), address(block, at.HIT_VALUE, scratch)
    each = number(block, at.SETS_EACH)
    wide = WIDE * each + 8
    for one in range(2 * number(block, at.CLASSES)):
        count, fews, bases[one] = _hits(block, scratch, spans[one], spans[one + 1])
        for part in range(each):
            where = sums + 8 * (one * wide + WIDE * part)
            added(hits, values, count, records + 8 * part, where)
        total = totals[one * wide :][:wide]
        for i in range(np.uint64(fews)):
            begin = np.uint64(4) * np.uint64(hit_at[last - i])
            value = hit_value[last - i]
            for eight in range(begin + _ONE, begin + _ONE + np.uint64(lists[begin]), _EIGHT):
                for j in range(_EIGHT):
                    total[lists[eight + j]] += value


@numba.njit(cache=True)
def _same(block: int, scratch: int) -> None:
    """Answer where all trees are steady."""
    steady = array(block, at.STEADY_TOTALS, scratch, np.int64)
    scale = array(block, at.SCALE, block, np.float64)
    out = array(block, at.ANSWER, scratch, np.float64)
    classes = number(block, at.CLASSES)
    for row in range(number(block, at.ROWS)):
        for one in range(classes):
            out[row * classes + one] = steady[one] * scale[one]


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
    if number(block, at.WORDS) == 0:
        _same(block, scratch)
        return True
    catalogue(block, scratch)
    totals = array(block, at.TOTALS, scratch, np.int64)
    bases = array(block, at.BASES, scratch, np.int64)
    steady = array(block, at.STEADY_TOTALS, scratch, np.int64)
    scale = array(block, at.SCALE, block, np.float64)
    out = array(block, at.ANSWER, scratch, np.float64)
    rows, classes = number(block, at.ROWS), number(block, at.CLASSES)
    wide = WIDE * number(block, at.SETS_EACH) + 8
    kept = array(block, at.KEPT, scratch, np.int64)
    row_totals = array(block, at.ROW_TOTALS, scratch, np.int64)
    for i in range(keep(block, scratch, touched, pairs)):
        row = touched[kept[i]]
        own(block, scratch, row, pairs[kept[i]])
        for one in range(classes):
            totals[(2 * one + 1) * wide + row] = row_totals[one] - bases[2 * one + 1]
    for one in range(classes):
        base = steady[one] + bases[2 * one] + bases[2 * one + 1]
        for row in range(rows):
            total = base + totals[2 * one * wide + row] + totals[(2 * one + 1) * wide + row]
            out[row * classes + one] = total * scale[one]
    return True
