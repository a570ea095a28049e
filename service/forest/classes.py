"""What the actions of a catalogue do to each tree, worked out once. Pure.

A tree sees few actions apart: two whose action features (and pair features, where there is no
event) pass the same tests are one *class* for it. Classes of several trees that go together are
*combinations*; an action then adds one number a group of trees in place of one a tree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest.trees import Bytes, Trees, Words
from service.forest.walk import goes_right

MOST: Final = 256
"""Combinations of a group, so that an action's is a byte."""
_MOST_UNITS: Final = 64

Flags = npt.NDArray[np.bool_]


@numba.njit(cache=True)
def reached(
    trees: Trees,
    first: Integers,
    last: Integers,
    word_at: Integers,
    chosen: Flags,
    values: Floats,
    out: Words,
) -> None:
    """AND into ``out`` the leaves that rows can still reach after the chosen nodes.

    Args:
        trees: The model.
        first: [nodes] from :func:`service.forest.walk.spans`.
        last: [nodes] from the same.
        word_at: [trees] row of ``out`` that holds a tree's first 32 leaves.
        chosen: [nodes] which to apply.
        values: [columns, rows].
        out: [words, rows].
    """
    for tree in range(trees.of_class.shape[0]):
        for node in range(trees.node_at[tree], trees.node_at[tree + 1]):
            if not chosen[node]:
                continue
            column = trees.feature[node]
            begin, end = first[node], last[node]
            for row in range(values.shape[1]):
                if not goes_right(trees, node, values[column, row]):
                    continue
                for word in range(begin >> 5, (end - 1 >> 5) + 1):
                    low = max(begin - 32 * word, 0)
                    high = min(end - 32 * word, 32)
                    gone = ((np.uint64(1) << np.uint64(high - low)) - np.uint64(1)) << np.uint64(low)
                    out[word_at[tree] + word, row] &= np.uint32(~gone & np.uint64(0xFFFFFFFF))


@numba.njit(cache=True)
def alike(
    masks: Words, hidden: Flags, begin: Integers, end: Integers, felt: Flags
) -> tuple[Integers, Integers, Integers]:
    """Tell the classes of each tree (or of each word).

    Args:
        masks: [words, rows] leaves that a row can reach.
        hidden: [rows] that do not see the hidden columns.
        begin: [trees] first word.
        end: [trees] one after the last.
        felt: [trees] that ask for a hidden column.

    Returns:
        [trees, rows] class of each row; [trees] number of classes; [trees, rows] a row of each.
    """
    rows = masks.shape[1]
    of_row = np.zeros((begin.shape[0], rows), np.int64)
    count = np.zeros(begin.shape[0], np.int64)
    example = np.zeros((begin.shape[0], rows), np.int64)
    for tree in range(begin.shape[0]):
        for row in range(rows):
            found = -1
            for one in range(count[tree]):
                other = example[tree, one]
                same = not felt[tree] or hidden[row] == hidden[other]
                for word in range(begin[tree], end[tree]):
                    same = same and masks[word, row] == masks[word, other]
                if same:
                    found = one
                    break
            if found < 0:
                found = count[tree]
                example[tree, found] = row
                count[tree] += 1
            of_row[tree, row] = found
    return of_row, count, example


class Groups(NamedTuple):
    """Units (trees, or parts of a tree with very many classes) that are added up together."""

    of_unit: Integers  # [units]
    combination: Bytes  # [groups, rows]
    count: Integers  # [groups] combinations


@numba.njit(cache=True)
def _grouped(
    of_row: Bytes, count: Integers, family: Integers, group: Integers, ids: Bytes, size: Integers
) -> int:
    units, rows = of_row.shape
    stamp = np.full(MOST * MOST, -1, np.int64)
    number = np.zeros(MOST * MOST, np.int64)
    members = np.zeros(units, np.int64)
    of_family = np.zeros(units, np.int64)
    groups, turn = 0, 0
    for unit in range(units):
        best, least = -1, rows
        for one in range(groups):
            if of_family[one] != family[unit] or members[one] == _MOST_UNITS:
                continue
            before = size[one] * members[one] if members[one] > 1 else 0
            most = min((least - 1 + before) // (members[one] + 1), MOST)
            turn += 1
            seen = 0
            for row in range(rows):
                key = ids[one, row] * MOST + of_row[unit, row]
                if stamp[key] != turn:
                    stamp[key] = turn
                    seen += 1
                    if seen > most:
                        break
            if seen <= most:
                best, least = one, seen * (members[one] + 1) - before
        if best < 0:
            group[unit] = groups
            ids[groups] = of_row[unit]
            size[groups] = count[unit]
            members[groups] = 1
            of_family[groups] = family[unit]
            groups += 1
            continue
        turn += 1
        seen = 0
        for row in range(rows):
            key = ids[best, row] * MOST + of_row[unit, row]
            if stamp[key] != turn:
                stamp[key] = turn
                number[key] = seen
                seen += 1
            ids[best, row] = number[key]
        group[unit] = best
        size[best] = seen
        members[best] += 1
    return groups


def grouped(of_row: Bytes, count: Integers, family: Integers) -> Groups:
    """Choose which units to add up together, so that rows and combinations cost least.

    A group of m units and n combinations costs n x m additions, and one a row; a unit joins the
    group where that rises least, and begins its own where that is cheaper still.

    Args:
        of_row: [units, rows] class of each row.
        count: [units] classes.
        family: [units] only units of one family go together.
    """
    units, rows = of_row.shape
    order = np.argsort(-count, kind="stable")
    group = np.zeros(units, np.int64)
    ids = np.zeros((units, rows), np.uint8)
    size = np.zeros(units, np.int64)
    groups = _grouped(of_row[order], count[order], family[order], group, ids, size)
    of_unit = np.empty(units, np.int64)
    of_unit[order] = group
    return Groups(of_unit, ids[:groups], size[:groups])
