"""Trees side by side, 64 in a pack, so that one instruction makes a test in each. Pure.

A pack is rows of 64 tests, each a lane and a place (``service.forest.lanes``). A test whose outcome
is not one look at a rank, such as one of categories, has a place that nobody fails, and a *flip*: a
bit that turns its outcome round.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.kernels import Integers
from service.forest.lanes import Pieces, categories
from service.forest.trees import Bytes, Trees, Words
from service.forest.vectors import STEADY_ROW, TABLED, WIDE, WORD_ROW

_NEVER: Final = 255  # no rank is higher


class Packs(NamedTuple):
    """Rows of tests, and what is in them by piece."""

    table: Integers  # [packs, 2] its first row, its rows
    tests: Bytes  # [rows, bytes of a row]
    code: Integers  # [pieces] 64 x row + place in it


def _rows(count: Integers) -> Integers:
    """First row and rows of each pack, from the rows that its members need: [packs, 2]."""
    padded = np.zeros(-(-len(count) // WIDE) * WIDE, np.int64)
    padded[: len(count)] = count
    rows = padded.reshape(-1, WIDE).max(axis=1)
    return np.column_stack([np.cumsum(rows) - rows, rows])


def _laid(table: Integers, member: Integers, row: Integers, size: int) -> tuple[Bytes, Integers]:
    """Empty rows of ``size`` bytes, and where in them tests are."""
    tests = np.zeros((int(table[:, 1].sum()), size), np.uint8)
    tests[:, WIDE : 2 * WIDE] = _NEVER
    return tests, WIDE * (table[member // WIDE, 0] + row) + member % WIDE


def _asked(tests: Bytes, code: Integers, lane: Integers, place: Integers) -> None:
    """Write the tests that are a look at a rank."""
    ranked = (lane >= 0) & (lane < TABLED)
    row, at = np.divmod(code[ranked], WIDE)
    tests[row, at] = lane[ranked]
    tests[row, WIDE + at] = place[ranked]


def steady(
    spans: Integers, leaves: Integers, node: Integers, member: Integers, lane: Integers,
    place: Integers,
) -> Packs:  # fmt: skip
    """Pack trees of which only the one leaf that is reached is wanted.

    Args:
        spans: [all nodes, 3] from :func:`service.forest.walk.spans`.
        leaves: [trees] of each, at most 256.
        node: [nodes] those of these trees.
        member: [nodes] place of its tree.
        lane: [nodes]; -1: of none.
        place: [nodes] in its lane.
    """
    table = _rows(leaves - 1)
    tests, code = _laid(table, member, spans[node, 1] - 1, STEADY_ROW)
    _asked(tests, code, lane, place)
    row, at = np.divmod(code, WIDE)
    tests[row, 2 * WIDE + at] = spans[node, 0]
    return Packs(table, tests, code)


def words(pieces: Pieces, member: Integers, count: int, lane: Integers, place: Integers) -> Packs:
    """Pack words of which all leaves that are left over are wanted.

    Args:
        pieces: Of nodes.
        member: [pieces] number of its word.
        count: Number of words.
        lane: [pieces] of its node; -1: of none.
        place: [pieces] in its lane.
    """
    each = np.bincount(member, minlength=count)
    table = _rows(each)
    order = np.argsort(member, kind="stable")
    row = np.empty(len(member), np.int64)
    row[order] = np.arange(len(member)) - np.repeat(np.cumsum(each) - each, each)
    tests, code = _laid(table, member, row, WORD_ROW)
    _asked(tests, code, lane, place)
    keeps = tests.view(np.uint32)
    keeps[:, WIDE // 2 :] = 0xFFFFFFFF
    row, at = np.divmod(code, WIDE)
    keeps[row, WIDE // 2 + at] = pieces.failed
    keeps[row, WIDE // 2 + WIDE + at] = pieces.passed
    return Packs(table, tests, code)


class Flips(NamedTuple):
    """Which outcomes are turned round, for all rows of all packs."""

    usual: npt.NDArray[np.uint64]  # [rows] to begin with
    codes: Words  # lists of 64 x row + place
    ends: npt.NDArray[np.int32]  # the end of each list; the first begins at 0
    lanes: npt.NDArray[np.int32]  # [lanes beyond the table] its first list: one a rank, from 1
    sets: npt.NDArray[np.int32]  # [columns, 4] column, first slot, codes, list of slot 0
    slots: npt.NDArray[np.uint16]  # of categories


def flips(
    trees: Trees, node: Integers, code: Integers, lane: Integers, place: Integers,
    position: Integers, rows: int,
) -> Flips:  # fmt: skip
    """List the outcomes that each category, and each rank beyond the table, turns round.

    Args:
        trees: The model.
        node: [pieces] of all packs.
        code: [pieces] 64 x row + place, rows counted over all packs.
        lane: [pieces]; -1: a test of categories.
        place: [pieces] in its lane.
        position: [columns] place in the customer's vector.
        rows: Of all packs.
    """
    order = np.lexsort((code >> 6, code & (WIDE - 1)))  # neighbours of a list in different rows
    node, code, lane, place = node[order], code[order], lane[order], place[order]
    usual = np.zeros(rows, np.uint64)
    listed, ends, beyond = [np.zeros(0, np.int64)], [0], []
    sets, slots = [], [np.zeros(0, np.int64)]

    def list_(found: Integers) -> None:
        listed.append(found)
        ends.append(ends[-1] + len(found))

    for one in range(TABLED, int(lane.max(initial=-1)) + 1):
        mine = np.flatnonzero(lane == one)
        beyond.append(len(ends) - 1)
        for rank in range(int(place[mine].max()) + 1):
            list_(code[mine[place[mine] == rank]])
    column = np.where(lane < 0, trees.feature[node], -1)
    for one in sorted(set(column[column >= 0].tolist())):
        mine = np.flatnonzero(column == one)
        slot, fails = categories(trees, node[mine])
        mostly = fails.mean(axis=0) > 0.5
        bits = np.uint64(1) << (code[mine[mostly]] & (WIDE - 1)).astype(np.uint64)
        np.bitwise_or.at(usual, code[mine[mostly]] // WIDE, bits)
        sets.append((position[one], sum(map(len, slots)), len(slot), len(ends) - 1))
        slots.append(slot)
        for failed in fails:
            list_(code[mine[failed != mostly]])
    return Flips(
        usual,
        np.concatenate(listed).astype(np.uint32),
        np.array(ends, np.int32),
        np.array(beyond, np.int32),
        np.array(sets, np.int32).reshape(-1, 4),
        np.concatenate(slots).astype(np.uint16),
    )
