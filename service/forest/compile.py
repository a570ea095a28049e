"""Compile trees against the rows of a catalogue into one block of bytes. Pure.

``docs/decisions/0007-a-forest-for-one-catalogue.md`` says how a score is found and why this way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest import lanes, layout, packs
from service.forest.own import CHUNK
from service.forest.reach import Flags, listed, reached, rows_of_leaves
from service.forest.trees import CATEGORICAL, Bytes, Trees, Words
from service.forest.vectors import TABLED, WIDE
from service.forest.walk import spans

CUSTOMER, ACTION, PAIR = 0, 1, 2
"""Kinds of columns: the same in every row of a request, fixed for a row, of the two together."""

_LARGEST: Final = 1 << 31
_LARGEST_STEADY: Final = 256  # a leaf of a steady tree is a byte
_WIDEST: Final = 1 << 16
_ALL: Final = 0xFFFFFFFF


class Shape(NamedTuple):
    """Where the leaves of each tree are, and what is asked of it."""

    place: Integers  # [leaves] from left to right
    spans: Integers  # [nodes, 3]
    tree: Integers  # [nodes]
    before: Integers  # [trees + 1] its first word, in the order of the model
    words: Integers  # [trees] of 32 leaves
    word: Integers  # [trees] its first word in the block; -1: steady
    twin: Integers  # [trees] the same for rows that do not see hidden columns; -1: none
    member: Integers  # [trees] its place among the steady ones; -1: none of them
    paired: Flags  # [trees] asks for a pair feature
    total: int  # words of the block


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
    pair_words = len(sections[layout.PAIR_WORD])
    pair_lanes = len(sections[layout.PAIR_LANES]) + len(sections[layout.PAIR_SETS])
    each = -(-count // WIDE)
    leaves = 32 * shape.total + 1
    numbers = {
        layout.ROWS: count,
        layout.CLASSES: trees.classes,
        layout.WORDS: shape.total,
        layout.VECTOR: int((kinds == CUSTOMER).sum()),
        layout.PAIRS: usual.shape[1],
        layout.PAIR_WORDS: pair_words,
        layout.SETS_EACH: each,
    }
    scratch = {
        layout.TABLE: (TABLED, 1),
        layout.FLIPS: (len(sections[layout.USUAL_FLIPS]), 8),
        layout.EXITS: (WIDE, 1),
        layout.STEADY_TOTALS: (trees.classes, 8),
        layout.MASKS: (len(sections[layout.WHOLE]), 4),
        layout.HIT_AT: (leaves, 4),
        layout.HIT_VALUE: (leaves, 8),
        layout.FEW_AT: (leaves, 4),
        layout.FEW_VALUE: (leaves, 8),
        layout.TOTALS: (trees.classes * 2 * (WIDE * each + 8), 8),
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
    """Order the trees: steady ones by size, others by pair features and class."""
    tree = np.repeat(np.arange(len(trees.of_class)), np.diff(trees.node_at))
    place, found = spans(trees)
    leaves = np.diff(trees.leaf_at)
    words = -(-leaves // 32)
    kind = kinds[trees.feature]

    def asking(nodes: Flags) -> Integers:
        return np.bincount(tree[nodes], minlength=len(words))

    felt, paired = asking(unseen[trees.feature]) > 0, asking(kind == PAIR) > 0
    steady = ~felt & ~paired & (asking(kind == ACTION) == 0) & (leaves <= _LARGEST_STEADY)
    member = np.full(len(words), -1)
    members = np.flatnonzero(steady)
    member[members[np.argsort(-leaves[members], kind="stable")]] = np.arange(len(members))
    order = np.flatnonzero(~steady)
    keys = (asking(kind == CUSTOMER)[order], trees.of_class[order], paired[order])
    order = order[np.lexsort(keys)]
    at = _starts((words * (1 + felt))[order])
    word = np.full(len(words), -1)
    word[order] = at[:-1]
    twin = np.where(felt, word + words, -1)
    return Shape(
        place, found, tree, _starts(words), words, word, twin, member, paired, int(at[-1])
    )


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
    """What each value of a customer decides."""
    customers = kinds[trees.feature] == CUSTOMER
    ranked = np.flatnonzero(customers & (trees.decision & CATEGORICAL == 0))
    sorted_ = lanes.numerical(trees, ranked)
    position = np.cumsum(kinds == CUSTOMER) - 1
    sorted_.table[:, 0] = position[sorted_.table[:, 0]]
    lane, place = np.full((2, len(trees.feature)), -1)
    lane[ranked], place[ranked] = sorted_.lane, sorted_.place

    steady = np.flatnonzero(shape.member[shape.tree] >= 0)
    members = np.argsort(shape.member)[(shape.member < 0).sum() :]
    leaves = np.diff(trees.leaf_at)[members]
    single = packs.steady(
        shape.spans, leaves, steady, shape.member[shape.tree[steady]], lane[steady], place[steady]
    )
    width = single.table[:, 1] + 1
    leaf_at = WIDE * (np.cumsum(width) - width)
    values = np.zeros(WIDE * int(width.sum()), np.int64)
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    mine = np.flatnonzero(shape.member[tree] >= 0)
    pack, inside = np.divmod(shape.member[tree[mine]], WIDE)
    values[leaf_at[pack] + inside * width[pack] + shape.place[mine]] = trees.units[mine]
    classes = np.zeros(WIDE * len(width), np.uint16)
    classes[: len(members)] = trees.of_class[members]

    active = customers & (shape.word[shape.tree] >= 0)
    pieces = lanes.cut(shape.spans, np.flatnonzero(active))
    copied = lanes.cut(
        shape.spans,
        np.flatnonzero(active & (shape.twin[shape.tree] >= 0) & ~unseen[trees.feature]),
    )
    both = lanes.Pieces(*map(np.concatenate, zip(pieces, copied, strict=True)))
    home = np.concatenate(
        [shape.word[shape.tree[pieces.node]], shape.twin[shape.tree[copied.node]]]
    )
    several = packs.words(
        both, home + both.word, shape.total, lane[both.node], place[both.node]
    )
    whole = np.zeros(WIDE * len(several.table), np.uint32)
    whole[: shape.total] = _ALL
    hidden = lanes.cut(
        shape.spans, np.flatnonzero((shape.twin[shape.tree] >= 0) & unseen[trees.feature])
    )
    right = lanes.right_for(trees, hidden.node, np.nan)
    np.bitwise_and.at(
        whole,
        shape.twin[shape.tree[hidden.node]] + hidden.word,
        np.where(right, hidden.failed, hidden.passed),
    )
    node = np.concatenate([steady, both.node])
    rows = len(single.tests)
    flips = packs.flips(
        trees,
        node,
        np.concatenate([single.code, several.code + WIDE * rows]),
        lane[node],
        place[node],
        position,
        rows + len(several.tests),
    )
    return {
        layout.LANES: sorted_.table,
        layout.TOPS: sorted_.thresholds[lanes.BLOCK - 1 :: lanes.BLOCK],
        layout.THRESHOLDS: sorted_.thresholds,
        layout.USUAL_FLIPS: flips.usual,
        layout.CODES: flips.codes,
        layout.LISTS: flips.ends,
        layout.BEYOND: flips.lanes,
        layout.SETS: flips.sets,
        layout.SLOTS: flips.slots,
        layout.STEADY: np.column_stack([single.table, leaf_at, width]).astype(np.int32),
        layout.STEADY_TESTS: single.tests,
        layout.STEADY_CLASS: classes,
        layout.STEADY_LEAVES: values,
        layout.PACKS: several.table.astype(np.int32),
        layout.TESTS: several.tests,
        layout.WHOLE: whole,
    }


def _read(trees: Trees, shape: Shape, by_row: Words, hides: Flags) -> dict[int, npt.NDArray[Any]]:
    """Leaves of words, and which rows each adds to."""
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    leaves = np.zeros(32 * shape.total, np.int64)
    for at in (shape.word[tree], shape.twin[tree]):
        there = at >= 0
        leaves[32 * at[there] + shape.place[there]] = trees.units[there]
    # one entry a word: its tree, its word in the model, its rows
    owner, source = np.zeros((2, shape.total), np.int64)
    start = np.zeros(shape.total, np.uint8)
    takes = np.ones((shape.total, len(hides)), np.bool_)
    of, model, word = _places(shape, shape.word >= 0)
    owner[word], source[word] = of, model
    start[shape.word[shape.word >= 0]] = 1
    felt = shape.twin[of] >= 0
    away = word[felt] + shape.words[of[felt]]
    owner[away], source[away] = of[felt], model[felt]
    takes[word[felt]], takes[away] = ~hides, hides
    start[shape.word[shape.twin >= 0]] = 2
    start[shape.twin[shape.twin >= 0]] = 2
    family = (2 * trees.of_class + shape.paired)[owner]
    records = np.zeros((32 * shape.total, 1 + -(-len(hides) // 64)), np.uint64)
    alive = np.zeros(shape.total, np.uint32)
    rows_of_leaves(by_row, source, takes, records, alive)
    few, most = listed(records, len(hides))
    records[:, 0] = leaves.view(np.uint64)
    ends = []
    for one in range(2 * trees.classes):
        mine = np.flatnonzero(family == one)
        ends.append((mine[0], mine[-1] + 1) if len(mine) else (0, 0))
    return {
        layout.LEAVES: leaves,
        layout.SCALE: np.ldexp(1.0, -trees.shift),
        layout.SPANS: np.array(ends, np.int32),
        layout.START: start,
        layout.ALIVE: alive,
        layout.FEW: few,
        layout.MOST: most,
        layout.RECORDS: records,
    }


def _failing(spans: Integers, nodes: Integers) -> lanes.Pieces:
    """Pieces of nodes that clear anything where the node is failed."""
    pieces = lanes.cut(spans, nodes)
    clears = pieces.failed != _ALL
    return lanes.Pieces(*(part[clears] for part in pieces))


def _pairs(
    trees: Trees, shape: Shape, kinds: Integers, by_action: Words
) -> dict[int, npt.NDArray[Any]]:
    """Everything about trees with pair features, for rows that have their own values of them."""
    tree, model, word = _places(shape, shape.paired)
    at = np.searchsorted(word, shape.word[shape.tree])  # of trees among these
    categorical = (trees.decision & CATEGORICAL) > 0
    paired = kinds[trees.feature] == PAIR
    position = np.cumsum(kinds == PAIR) - 1
    pieces = _failing(shape.spans, np.flatnonzero(paired & ~categorical))
    sorted_ = lanes.numerical(trees, pieces.node)
    sorted_.table[:, 0] = position[sorted_.table[:, 0]]
    home = at[pieces.node] + pieces.word
    tests = np.argsort(home, kind="stable")
    test_ends = _starts(np.bincount(home, minlength=len(word)))
    failing = pieces.failed[tests]
    pieces = _failing(shape.spans, np.flatnonzero(paired & categorical))
    column = trees.feature[pieces.node]
    sets, slots, members = [], [np.zeros(0, np.int64)], [np.zeros((0, 5), np.int64)]
    for i, one in enumerate(sorted(set(column.tolist()))):
        chosen = np.flatnonzero(column == one)
        slot, fails = lanes.categories(trees, pieces.node[chosen])
        sets.append((position[one], sum(map(len, slots)), len(slot)))
        slots.append(slot)
        where = at[pieces.node[chosen]] + pieces.word[chosen]
        mask = pieces.failed[chosen].astype(np.int64)
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
        layout.TEST_MASK: failing,
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
