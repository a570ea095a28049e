"""Compile trees against the rows of a catalogue into one block of bytes. Pure.

``docs/decisions/0007-a-forest-for-one-catalogue.md`` says how a score is found and why this way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest import lanes, layout
from service.forest.kernels import CHUNK
from service.forest.reach import Flags, reached, rows_of_leaves
from service.forest.trees import CATEGORICAL, Bytes, Trees, Words
from service.forest.walk import spans

CUSTOMER, ACTION, PAIR = 0, 1, 2
"""Kinds of columns: the same in every row of a request, fixed for a row, of the two together."""

_WORDS: Final = 1 << 22
_WIDEST: Final = 1 << 16


class Shape(NamedTuple):
    """Where the leaves of each tree are, and what is asked of it."""

    place: Integers  # [leaves] from left to right
    spans: Integers  # [nodes, 3]
    tree: Integers  # [nodes]
    before: Integers  # [trees + 1] its first word, in the order of the model
    words: Integers  # [trees] of 32 leaves
    word: Integers  # [trees] its first word, in the order of the block
    twin: Integers  # [trees] the same for rows that do not see hidden columns; -1: none
    steady: Flags  # [trees] gives every row of the catalogue the same
    paired: Flags  # [trees] asks for a pair feature
    total: int  # words of the block; the last one is nobody's


def compile(
    trees: Trees,
    rows: Floats,
    kinds: Integers,
    hidden_rows: Flags | None = None,
    hidden_columns: Integers | None = None,
) -> Bytes:
    """Compile a forest for the rows of one catalogue.

    Args:
        trees: Model or models.
        rows: [rows, columns] action features, and the pair features of a customer without events
            about the action; what customer columns hold does not matter.
        kinds: [columns] CUSTOMER, ACTION or PAIR.
        hidden_rows: [rows] True where ``hidden_columns`` are always NaN.
        hidden_columns: Customer columns.

    Returns:
        A block for :class:`service.forest.Forest`.

    Raises:
        ValueError: Shapes do not fit, or the forest is too large to be addressed.
    """
    count, columns = rows.shape
    if columns != trees.columns or kinds.shape != (columns,):
        raise ValueError(
            f"rows have {columns} columns, kinds {len(kinds)}, the forest {trees.columns}"
        )
    if not 0 < count < _WIDEST:
        raise ValueError(f"a catalogue has 1 to {_WIDEST - 1} rows, this one {count}")
    hides = np.zeros(count, np.bool_) if hidden_rows is None else np.asarray(hidden_rows, np.bool_)
    unseen = np.zeros(columns, np.bool_)
    if hidden_columns is not None and hides.any():
        unseen[hidden_columns] = True
    if (unseen & (kinds != CUSTOMER)).any():
        raise ValueError("only columns of the customer can be hidden")
    shape = _shape(trees, kinds, unseen)
    kind = kinds[trees.feature]
    values = np.ascontiguousarray(rows.T, np.float64)
    by_action = np.repeat(_whole(trees, shape)[:, None], count, axis=1)
    reached(trees, shape.spans, shape.before, kind == ACTION, values, by_action)
    by_row = by_action.copy()
    reached(trees, shape.spans, shape.before, kind == PAIR, values, by_row)
    usual = np.ascontiguousarray(rows[:, kinds == PAIR], np.float64)
    sections = {
        **_customer(trees, shape, kinds, unseen),
        **_read(trees, shape, by_row, hides),
        **_pairs(trees, shape, kinds, by_action),
        layout.HIDES: hides.astype(np.uint8),
        layout.USUAL: usual,
    }
    hiding = {
        which: int(unseen[kinds == CUSTOMER][sections[which][:, 0]].sum())
        for which in (layout.LANES, layout.SETS)
    }
    pair_words = len(sections[layout.PAIR_WORD])
    pair_lanes = len(sections[layout.PAIR_LANES]) + len(sections[layout.PAIR_SETS])
    each = -(-count // 64)
    leaves = 32 * len(sections[layout.ALIVE]) + 8
    numbers = {
        layout.ROWS: count,
        layout.CLASSES: trees.classes,
        layout.WORDS: shape.total,
        layout.VECTOR: int((kinds == CUSTOMER).sum()),
        layout.PAIRS: usual.shape[1],
        layout.HIDING_LANES: hiding[layout.LANES],
        layout.HIDING_SETS: hiding[layout.SETS],
        layout.BOTH_SIDES: len(sections[layout.RIGHT]),
        layout.ACTIVE: shape.total - len(sections[layout.ALIVE]) - 1,
        layout.PAIR_WORDS: pair_words,
        layout.SETS_EACH: each,
        layout.TREES: len(shape.words),
    }
    scratch = {
        layout.MASKS: (shape.total, 4),
        layout.RANKS: (len(sections[layout.LANES]), 4),
        layout.HIT_AT: (leaves, 4),
        layout.HIT_VALUE: (leaves, 8),
        layout.TOTALS: (trees.classes * 2 * 64 * each, 8),
        layout.BASES: (trees.classes * 2, 8),
        layout.ROW_MASKS: (CHUNK * pair_words, 4),
        layout.ROW_RANKS: (CHUNK * pair_lanes, 4),
        layout.ROW_TOTALS: (CHUNK * trees.classes, 8),
        layout.KEPT: (count, 8),
        layout.FOUND: (CHUNK, 4),
        layout.ANSWER: (count * trees.classes, 8),
    }
    return layout.write(numbers, sections, scratch)


def _whole(trees: Trees, shape: Shape) -> Words:
    """The leaves that there are: [words of the model]."""
    leaves = np.diff(trees.leaf_at)
    inside = np.arange(shape.before[-1]) - np.repeat(shape.before[:-1], shape.words)
    bits = np.minimum(np.repeat(leaves, shape.words) - 32 * inside, 32)
    whole: Words = ((1 << bits) - 1).astype(np.uint32)
    return whole


def _starts(sizes: npt.NDArray[Any]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _shape(trees: Trees, kinds: Integers, unseen: Flags) -> Shape:
    """Order the trees: steady ones, others, those with pair features; within them by class."""
    tree = np.repeat(np.arange(len(trees.of_class)), np.diff(trees.node_at))
    place, found = spans(trees)
    words = -(-np.diff(trees.leaf_at) // 32)
    kind = kinds[trees.feature]

    def any_of(nodes: Flags) -> Flags:
        return np.asarray(np.bincount(tree[nodes], minlength=len(words)) > 0)

    felt, paired = any_of(unseen[trees.feature]), any_of(kind == PAIR)
    steady = ~felt & ~paired & ~any_of(kind == ACTION)
    family = np.where(steady, 0, 1 + paired)
    order = np.lexsort((trees.of_class, family))
    each = words * (1 + felt)
    at = _starts(each[order])
    word = np.empty(len(words), np.int64)
    word[order] = at[:-1]
    total = int(at[-1]) + 1
    if total >= _WORDS:
        raise ValueError(f"a forest of {total} x 32 leaves is too large; use fewer trees")
    return Shape(
        place, found, tree, _starts(words), words, word, np.where(felt, word + words, -1),
        steady, paired, total,
    )  # fmt: skip


def _places(shape: Shape, chosen: Flags) -> tuple[Integers, Integers, Integers]:
    """Words of chosen trees in the order of the block: tree, word of the model, word of the block.

    Twins are not among them.
    """
    order = np.flatnonzero(chosen)
    order = order[np.argsort(shape.word[order])]
    words = shape.words[order]
    tree = np.repeat(order, words)
    inside = np.arange(len(tree)) - np.repeat(_starts(words)[:-1], words)
    return tree, shape.before[tree] + inside, shape.word[tree] + inside


def _customer(
    trees: Trees, shape: Shape, kinds: Integers, unseen: Flags
) -> dict[int, npt.NDArray[Any]]:
    """What each value of a customer clears."""
    categorical = (trees.decision & CATEGORICAL) > 0
    customers = kinds[trees.feature] == CUSTOMER
    hides = unseen[trees.feature]
    at = shape.word[shape.tree]
    both = ~shape.steady[shape.tree]
    nobody = shape.total - 1
    position = np.cumsum(kinds == CUSTOMER) - 1
    pieces = lanes.cut(shape.spans, np.flatnonzero(customers & ~categorical), both)
    group = np.where(hides, 0, np.where(both, 1, 2))[pieces.node]
    sorted_ = lanes.numerical(trees, pieces.node, group)
    left, right = lanes.coded(pieces, at, nobody)
    left, right = left[sorted_.order], right[sorted_.order]
    sorted_.table[:, 0] = position[sorted_.table[:, 0]]
    two_sided = int((group < 2).sum())
    pieces = lanes.cut(shape.spans, np.flatnonzero(customers & categorical), both)
    members, away = lanes.coded(pieces, at, nobody)
    column = trees.feature[pieces.node]
    sets, slots, codes, ends = [], [np.zeros(0, np.int64)], [left], [len(left)]
    for one in sorted(set(column.tolist()), key=lambda column: (not unseen[column], column)):
        chosen = np.flatnonzero(column == one)
        slot, fails = lanes.categories(trees, pieces.node[chosen])
        sets.append((position[one], sum(map(len, slots)), len(slot), len(ends) - 1))
        slots.append(slot)
        for failed in fails:
            cleared = np.where(failed, members[chosen], away[chosen])
            codes.append(cleared[cleared >> 10 != nobody])
            ends.append(ends[-1] + len(codes[-1]))
    asked = np.flatnonzero((shape.twin[shape.tree] >= 0) & hides)
    pieces = lanes.cut(shape.spans, asked, both)
    members, away = lanes.coded(pieces, shape.twin[shape.tree], nobody)
    unknown = np.where(lanes.right_for(trees, pieces.node, np.nan), members, away)
    twin = np.flatnonzero(shape.twin >= 0)
    inside = np.concatenate([np.arange(n) for n in [0, *shape.words[twin].tolist()]])
    copies = [np.repeat(at[twin], shape.words[twin]) + inside for at in (shape.word, shape.twin)]
    return {
        layout.LANES: sorted_.table,
        layout.TOPS: sorted_.thresholds[lanes.BLOCK - 1 :: lanes.BLOCK],
        layout.THRESHOLDS: sorted_.thresholds,
        layout.LEFT: np.concatenate(codes),
        layout.RIGHT: right[:two_sided],
        layout.SETS: np.array(sets, np.int32).reshape(-1, 4),
        layout.SLOTS: np.concatenate(slots).astype(np.uint16),
        layout.LISTS: np.array(ends, np.int32),
        layout.COPIES: np.column_stack(copies).astype(np.uint32),
        layout.HIDDEN: unknown,
    }


def _read(trees: Trees, shape: Shape, by_row: Words, hides: Flags) -> dict[int, npt.NDArray[Any]]:
    """Leaves, and which rows each adds to."""
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    leaves = np.zeros(32 * shape.total, np.int64)
    leaves[32 * shape.word[tree] + shape.place] = trees.units
    twin = shape.twin[tree] >= 0
    leaves[32 * shape.twin[tree[twin]] + shape.place[twin]] = trees.units[twin]
    # one entry a word of the block, nobody's left out: its tree, its word in the model, its rows
    owner = np.zeros(shape.total - 1, np.int64)
    source = np.zeros(shape.total - 1, np.int64)
    start = np.zeros(shape.total - 1, np.uint8)
    takes = np.ones((shape.total - 1, len(hides)), np.bool_)
    of, model, word = _places(shape, np.ones(len(shape.words), np.bool_))
    owner[word], source[word] = of, model
    start[shape.word] = 1
    felt = shape.twin[of] >= 0
    away = word[felt] + shape.words[of[felt]]
    owner[away], source[away] = of[felt], model[felt]
    takes[word[felt]], takes[away] = ~hides, hides
    start[shape.word[shape.twin >= 0]] = 2
    start[shape.twin[shape.twin >= 0]] = 2
    family = 2 * trees.of_class + shape.paired
    steady = int((shape.steady[owner]).sum())
    spread = 1 + -(-len(hides) // 64)
    records = np.zeros((32 * (len(owner) - steady) + 1, spread), np.uint64)
    alive = np.zeros(len(owner) - steady, np.uint32)
    rows_of_leaves(by_row, source[steady:], takes[steady:], records, alive)
    records[:-1, 0] = leaves[32 * steady : 32 * (shape.total - 1)].view(np.uint64)
    ends = []
    for which, active in ((family[owner] // 2, False), (family[owner], True)):
        chosen = which[steady:] if active else which[:steady]
        for one in range(trees.classes * (1 + active)):
            mine = np.flatnonzero(chosen == one) + (steady if active else 0)
            ends.append((mine[0], mine[-1] + 1) if len(mine) else (0, 0))
    return {
        layout.LEAVES: leaves,
        layout.SCALE: np.ldexp(1.0, -trees.shift),
        layout.STEADY: np.array(ends[: trees.classes], np.int32),
        layout.SPANS: np.array(ends[trees.classes :], np.int32),
        layout.START: start,
        layout.ALIVE: alive,
        layout.RECORDS: records,
    }


def _pairs(
    trees: Trees, shape: Shape, kinds: Integers, by_action: Words
) -> dict[int, npt.NDArray[Any]]:
    """Everything about trees with pair features, for rows that have their own values of them."""
    tree, model, word = _places(shape, shape.paired)
    number = np.zeros(shape.total, np.int64)
    number[word] = np.arange(len(word))
    at = number[shape.word[shape.tree]]
    categorical = (trees.decision & CATEGORICAL) > 0
    paired = kinds[trees.feature] == PAIR
    one_sided = np.zeros(len(trees.feature), np.bool_)
    position = np.cumsum(kinds == PAIR) - 1
    pieces = lanes.cut(shape.spans, np.flatnonzero(paired & ~categorical), one_sided)
    sorted_ = lanes.numerical(trees, pieces.node, np.zeros(len(pieces.node), np.int64))
    sorted_.table[:, 0] = position[sorted_.table[:, 0]]
    home = (at[pieces.node] + pieces.word)[sorted_.order]
    left = lanes.kept(pieces)[sorted_.order]
    tests = np.argsort(home, kind="stable")
    test_ends = _starts(np.bincount(home, minlength=len(word)))
    pieces = lanes.cut(shape.spans, np.flatnonzero(paired & categorical), one_sided)
    column = trees.feature[pieces.node]
    sets, slots, members = [], [np.zeros(0, np.int64)], [np.zeros((0, 5), np.int64)]
    for i, one in enumerate(sorted(set(column.tolist()))):
        chosen = np.flatnonzero(column == one)
        slot, fails = lanes.categories(trees, pieces.node[chosen])
        sets.append((position[one], sum(map(len, slots)), len(slot)))
        slots.append(slot)
        where = at[pieces.node[chosen]] + pieces.word[chosen]
        mask = lanes.kept(pieces)[chosen].astype(np.int64)
        lane = np.full(len(chosen), len(sorted_.table) + i)
        for chunk in range(0, len(fails), 32):
            part = fails[chunk : chunk + 32].T.astype(np.int64)
            packed = (part << np.arange(part.shape[1])).sum(axis=1)
            made = [where, lane, np.full(len(chosen), chunk), packed, mask]
            members.append(np.column_stack(made)[packed != 0])
    member = np.concatenate(members)
    member = member[np.argsort(member[:, 0], kind="stable")]
    member_ends = _starts(np.bincount(member[:, 0], minlength=len(word)))
    inside = word - shape.word[tree]
    several = np.where(shape.words[tree] == 1, 0, np.where(inside == 0, 1, 2))
    twin = np.where(shape.twin[tree] >= 0, shape.twin[tree] + inside, word)
    records = [word, twin, several, trees.of_class[tree], test_ends[:-1], test_ends[1:],
               member_ends[:-1], member_ends[1:]]  # fmt: skip
    return {
        layout.PAIR_WORD: np.column_stack(records).astype(np.int32),
        layout.BY_ACTION: np.ascontiguousarray(by_action[model].T),
        layout.TEST_LANE: sorted_.lane[tests].astype(np.uint16),
        layout.TEST_RANK: sorted_.place[tests].astype(np.int32),
        layout.TEST_MASK: left[tests],
        layout.MEMBER_LANE: member[:, 1].astype(np.uint16),
        layout.MEMBER_CHUNK: member[:, 2].astype(np.int32),
        layout.MEMBER_SET: member[:, 3].astype(np.uint32),
        layout.MEMBER_MASK: member[:, 4].astype(np.uint32),
        layout.PAIR_LANES: sorted_.table,
        layout.PAIR_TOPS: sorted_.thresholds[lanes.BLOCK - 1 :: lanes.BLOCK],
        layout.PAIR_THRESHOLDS: sorted_.thresholds,
        layout.PAIR_SETS: np.array(sets, np.int32).reshape(-1, 3),
        layout.PAIR_SLOTS: np.concatenate(slots).astype(np.uint16),
    }
