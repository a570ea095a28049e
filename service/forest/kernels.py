"""What happens in a request: a customer's values become a score for every row of the catalogue.

A tree is words of 32 bits, a bit a leaf, from left to right. Each node that a row fails clears the
leaves of its left subtree; the lowest bit that is left is the row's leaf (QuickScorer: Lucchese et
al., SIGIR 2015). So nothing is walked, and no branch depends on a value: what a customer's values
clear is the beginning of a sorted list, streamed.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout as at
from service.forest.compile import BLOCK, RIGHT
from service.forest.layout import number, section
from service.forest.trees import NAN, ZERO, Bytes
from service.forest.walk import NEAR_ZERO, category

_ALL: Final = np.uint32(0xFFFFFFFF)
_1: Final = np.uint32(1)
_5: Final = np.uint32(5)
_10: Final = np.uint32(10)
_31: Final = np.uint32(31)
_2: Final = np.uint64(2)
_ONE: Final = np.uint64(1)


@intrinsic  # type: ignore[untyped-decorator]
def _lowest(_typing: Any, word: Any) -> Any:
    """Place of the lowest bit of a uint32 that is not 0: one instruction, as numba has none."""

    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found = builder.cttz(arguments[0], context.get_constant(types.boolean, True))
        return builder.zext(found, context.get_value_type(types.uint64))

    return types.uint64(word), build


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
        found = pieces if flags & RIGHT else 0
    return found


@numba.njit(cache=True, inline="always")
def _clear(masks: Any, nodes: Any, begin: int, end: int) -> None:
    for i in range(np.uint64(begin), np.uint64(end)):
        node = nodes[i]
        span = (_2 << np.uint64(node & _31)) - _ONE
        gone = np.uint32(span << np.uint64((node >> _5) & _31))
        masks[node >> _10] &= ~gone


@numba.njit(cache=True)
def _clear_lists(block: Bytes, masks: Any, nodes: Any, vector: Floats, low: int, high: int) -> None:
    sets = section(block, at.SETS, block).view(np.int32)
    slots = section(block, at.SLOTS, block).view(np.uint16)
    lists = section(block, at.LISTS, block).view(np.int32)
    for i in range(low, high):
        code = category(vector[sets[4 * i]])
        slot = 0
        if 0 <= code < sets[4 * i + 2]:
            slot = slots[sets[4 * i + 1] + code]
        which = sets[4 * i + 3] + slot
        _clear(masks, nodes, lists[which], lists[which + 1])


@numba.njit(cache=True)
def customer(block: Bytes, scratch: Bytes, vector: Floats) -> None:
    """Clear what the customer's values clear in every tree, and in the twins of those that hide."""
    masks = section(block, at.MASKS, scratch).view(np.uint32)
    ranks = section(block, at.RANKS, scratch).view(np.int32)
    lanes = section(block, at.LANES, block).view(np.int32)
    tops = section(block, at.TOPS, block).view(np.float64)
    thresholds = section(block, at.THRESHOLDS, block).view(np.float64)
    nodes = section(block, at.NODES, block).view(np.uint32)
    count = ranks.shape[0]
    for i in range(count):
        x = vector[lanes[6 * i]]
        ranks[i] = _rank(x, lanes[6 * i + 1], lanes[6 * i + 3], lanes[6 * i + 4], lanes[6 * i + 5],
                         tops, thresholds)  # fmt: skip
    masks[:] = _ALL
    plain, plain_sets = number(block, at.PLAIN_LANES), number(block, at.PLAIN_SETS)
    sets = section(block, at.SETS, block).shape[0] // 16
    for i in range(plain):
        _clear(masks, nodes, lanes[6 * i + 2], lanes[6 * i + 2] + ranks[i])
    _clear_lists(block, masks, nodes, vector, 0, plain_sets)
    copies = section(block, at.COPIES, block).view(np.uint32)
    if copies.shape[0] == 0:
        return
    for i in range(copies.shape[0] // 2):
        masks[copies[2 * i + 1]] = masks[copies[2 * i]]
    for i in range(plain, count):
        _clear(masks, nodes, lanes[6 * i + 2], lanes[6 * i + 2] + ranks[i])
    _clear_lists(block, masks, nodes, vector, plain_sets, sets)
    hidden = section(block, at.HIDDEN, block).view(np.uint32)
    _clear(masks, hidden, 0, hidden.shape[0])


@numba.njit(cache=True)
def _values(block: Bytes, masks: Any, begin: int, end: int, mask: int, single: int,
            out: Integers) -> None:  # fmt: skip
    """Find the leaf of each class of some trees."""
    leaves = section(block, at.LEAVES, block).view(np.int64)
    words = section(block, at.ENTRY_WORD, block).view(np.uint32)
    left = section(block, at.ENTRY_MASK, block).view(np.uint32)
    if single:
        for i in range(np.uint64(end - begin)):
            word = words[np.uint64(begin) + i]
            bits = masks[word] & left[np.uint64(mask) + i]
            out[i] = leaves[(np.uint64(word) << np.uint64(5)) + _lowest(bits)]
        return
    length = section(block, at.LENGTH, block).view(np.uint16)
    for i in range(end - begin):
        word = words[begin + i]
        many = length[word]
        for j in range(many):
            bits = np.uint32(masks[word + j] & left[mask + j])
            if bits != 0:
                out[i] = leaves[32 * (np.int64(word) + j) + np.int64(_lowest(bits))]
                break
        mask += many


@numba.njit(cache=True)
def catalogue(block: Bytes, scratch: Bytes) -> None:
    """Add up the trees for every row, with the pair features of a customer without events."""
    masks = section(block, at.MASKS, scratch).view(np.uint32)
    values = section(block, at.VALUES, scratch).view(np.int64)
    sums = section(block, at.SUMS, scratch).view(np.int64)
    totals = section(block, at.TOTALS, scratch).view(np.int64)
    constant = section(block, at.CONSTANT, block).view(np.int32)
    groups = section(block, at.GROUPS, block).view(np.int32)
    table = section(block, at.TABLE, block).view(np.uint16)
    combination = section(block, at.COMBINATION, block)
    leaves = section(block, at.LEAVES, block).view(np.int64)
    words = section(block, at.ENTRY_WORD, block).view(np.uint32)
    left = section(block, at.ENTRY_MASK, block).view(np.uint32)
    rows, classes = number(block, at.ROWS), number(block, at.CLASSES)
    totals[:] = 0
    for one in range(classes):
        begin, end, mask = constant[4 * one], constant[4 * one + 1], constant[4 * one + 2]
        total = 0
        if constant[4 * one + 3]:
            for i in range(np.uint64(end - begin)):
                word = words[np.uint64(begin) + i]
                bits = masks[word] & left[np.uint64(mask) + i]
                total += leaves[(np.uint64(word) << np.uint64(5)) + _lowest(bits)]
        else:
            single = section(block, at.SUMS, scratch).view(np.int64)
            length = section(block, at.LENGTH, block).view(np.uint16)
            for i in range(begin, end):
                _values(block, masks, i, i + 1, mask, 0, single)
                total += single[0]
                mask += length[words[i]]
        totals[2 * classes * rows + one] = total
    for group in range(groups.shape[0] // 10):
        record = groups[10 * group : 10 * group + 10]
        begin, entries, members, combinations = record[0], record[1], record[4], record[5]
        _values(block, masks, begin, begin + entries, record[2], record[3], values)
        added = values
        if members > 1:
            added = sums
            index = table[record[6] : record[6] + members * combinations]
            for i in range(combinations):
                sums[i] = values[index[i]]
            for member in range(1, members):
                own = index[member * combinations : (member + 1) * combinations]
                for i in range(combinations):
                    sums[i] += values[own[i]]
        begin = (2 * record[7] + record[8]) * rows
        total_of = totals[begin : begin + rows]
        which = combination[group * rows : (group + 1) * rows]
        for row in range(rows):
            total_of[row] += added[which[row]]


@numba.njit(cache=True)
def _own(block: Bytes, scratch: Bytes, touched: Integers, pairs: Floats, begin: int,
         end: int) -> None:  # fmt: skip
    """Add up the trees with pair features for rows [begin, end) of those that were kept."""
    masks = section(block, at.MASKS, scratch).view(np.uint32)
    kept = section(block, at.KEPT, scratch).view(np.int64)
    reached = section(block, at.REACHED, scratch).view(np.uint32)
    row_masks = section(block, at.ROW_MASKS, scratch).view(np.uint32)
    ranks = section(block, at.ROW_RANKS, scratch).view(np.int32)
    totals = section(block, at.ROW_TOTALS, scratch).view(np.int64)
    found = section(block, at.FOUND, scratch).view(np.uint32)
    lanes = section(block, at.PAIR_LANES, block).view(np.int32)
    tops = section(block, at.PAIR_TOPS, block).view(np.float64)
    thresholds = section(block, at.PAIR_THRESHOLDS, block).view(np.float64)
    sets = section(block, at.PAIR_SETS, block).view(np.int32)
    slots = section(block, at.PAIR_SLOTS, block).view(np.uint16)
    word_of = section(block, at.PAIR_WORD, block).view(np.int32)
    reach = section(block, at.REACH, block).view(np.uint16)
    leaves = section(block, at.LEAVES, block).view(np.int64)
    test_lane = section(block, at.TEST_LANE, block).view(np.uint16)
    test_rank = section(block, at.TEST_RANK, block).view(np.int32)
    test_mask = section(block, at.TEST_MASK, block).view(np.uint32)
    member_lane = section(block, at.MEMBER_LANE, block).view(np.uint16)
    member_chunk = section(block, at.MEMBER_CHUNK, block).view(np.int32)
    member_set = section(block, at.MEMBER_SET, block).view(np.uint32)
    member_mask = section(block, at.MEMBER_MASK, block).view(np.uint32)
    chunk, words = number(block, at.CHUNK), number(block, at.PAIR_WORDS)
    numerical, wide = lanes.shape[0] // 6, (end - begin + 15) // 16 * 16
    for r in range(end - begin):
        own = kept[begin + r]
        for i in range(numerical):
            ranks[i * chunk + r] = _rank(
                pairs[own, lanes[6 * i]], lanes[6 * i + 1], lanes[6 * i + 3], lanes[6 * i + 4],
                lanes[6 * i + 5], tops, thresholds,
            )  # fmt: skip
        for i in range(sets.shape[0] // 3):
            code = category(pairs[own, sets[3 * i]])
            slot = 0
            if 0 <= code < sets[3 * i + 2]:
                slot = slots[sets[3 * i + 1] + code]
            ranks[(numerical + i) * chunk + r] = slot
        reach_of = reach[touched[own] * words : (touched[own] + 1) * words]
        for i in range(words):
            row_masks[i * chunk + r] = reached[word_of[8 * i + 7] + reach_of[i]]
    for r in range(end - begin, wide):
        for i in range(words):
            row_masks[i * chunk + r] = _ALL
    totals[:] = 0
    for i in range(words):
        record = word_of[8 * i : 8 * i + 8]
        mask = row_masks[i * chunk : i * chunk + wide]
        for j in range(record[3], record[4]):
            of, limit, left = test_lane[j] * chunk, test_rank[j], test_mask[j]
            rank = ranks[of : of + wide]
            for r in range(wide):
                mask[r] &= left if rank[r] > limit else _ALL
        for j in range(record[5], record[6]):
            of, first = member_lane[j] * chunk, member_chunk[j]
            rank = ranks[of : of + wide]
            inside, left = member_set[j], member_mask[j]
            for r in range(wide):
                slot = np.uint32(rank[r] - first)
                if slot < 32 and (inside >> slot) & _1:
                    mask[r] &= left
        table = leaves[32 * record[0] : 32 * record[0] + 32]
        total = totals[record[2] * chunk : record[2] * chunk + wide]
        if record[1] == 0:
            for r in range(wide):
                total[r] += table[_lowest(mask[r])]
            continue
        if record[1] == 1:
            found[:] = 0
        for r in range(wide):
            if found[r] == 0 and mask[r] != 0:
                total[r] += table[_lowest(mask[r])]
                found[r] = 1


@numba.njit(cache=True)
def score(
    block: Bytes, scratch: Bytes, vector: Floats, touched: Integers, pairs: Floats, out: Floats
) -> None:
    """Score every row of the catalogue.

    Args:
        block: A compiled forest.
        scratch: Its scratch block; overwritten.
        vector: [customer columns].
        touched: [n] rows with pair features of their own, each at most once.
        pairs: [n, pair columns].
        out: [rows, classes], overwritten.
    """
    customer(block, scratch, vector)
    catalogue(block, scratch)
    totals = section(block, at.TOTALS, scratch).view(np.int64)
    scale = section(block, at.SCALE, block).view(np.float64)
    rows, classes, width = number(block, at.ROWS), number(block, at.CLASSES), pairs.shape[1]
    kept = section(block, at.KEPT, scratch).view(np.int64)
    count = 0
    if number(block, at.PAIR_WORDS) > 0:
        usual = section(block, at.USUAL, block).view(np.float64)
        for i in range(touched.shape[0]):
            same = True
            for j in range(width):
                x, y = pairs[i, j], usual[touched[i] * width + j]
                same = same and (x == y or (np.isnan(x) and np.isnan(y)))
            if not same:
                kept[count] = i
                count += 1
    if count > 0:
        chunk = number(block, at.CHUNK)
        masks = section(block, at.MASKS, scratch).view(np.uint32)
        reached = section(block, at.REACHED, scratch).view(np.uint32)
        words = section(block, at.REACH_WORD, block).view(np.uint32)
        left = section(block, at.REACH_MASK, block).view(np.uint32)
        for i in range(words.shape[0]):
            reached[i] = masks[words[i]] & left[i]
        row_totals = section(block, at.ROW_TOTALS, scratch).view(np.int64)
        for begin in range(0, count, chunk):
            end = min(begin + chunk, count)
            _own(block, scratch, touched, pairs, begin, end)
            for one in range(classes):
                with_pairs = (2 * one + 1) * rows
                for r in range(end - begin):
                    row = touched[kept[begin + r]]
                    totals[with_pairs + row] = row_totals[one * chunk + r]
    for one in range(classes):
        base = totals[2 * classes * rows + one]
        for row in range(rows):
            total = base + totals[2 * one * rows + row] + totals[(2 * one + 1) * rows + row]
            out[row, one] = total * scale[one]
