"""Compile trees against the rows of a catalogue into one block of bytes. Pure.

``docs/decisions/0006-a-forest-for-one-catalogue.md`` says how a score is found and why this way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout
from service.forest.classes import MOST, Flags, alike, grouped, reached
from service.forest.trees import CATEGORICAL, DEFAULT_LEFT, NONE, Bytes, Trees
from service.forest.walk import goes_right, spans

CUSTOMER, ACTION, PAIR = 0, 1, 2
"""Kinds of columns: the same in every row of a request, fixed for a row, of the two together."""

BLOCK: Final = 16  # thresholds that are compared at once
CHUNK: Final = 48  # rows with pair features of their own that are worked on together
RIGHT: Final = 4  # of a lane's flags, above its missing type: no value goes right
_WORDS: Final = 1 << 22
_WIDEST: Final = 1 << 16


class Shape(NamedTuple):
    """Where the leaves of each tree are."""

    place: Integers  # [leaves] from left to right
    first: Integers  # [nodes] places of its left subtree
    last: Integers
    tree: Integers  # [nodes]
    words: Integers  # [trees] of 32 leaves
    word: Integers  # [trees] first one
    hidden: Integers  # [trees] first one of its twin for rows that see less; -1: none


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
    kind = kinds[trees.feature]
    tree = np.repeat(np.arange(len(trees.of_class)), np.diff(trees.node_at))
    place, first, last = spans(trees)
    words = -(-np.diff(trees.leaf_at) // 32)
    before = _starts(words)
    felt, paired = _any(tree, unseen[trees.feature], words), _any(tree, kind == PAIR, words)
    values = np.ascontiguousarray(rows.T, np.float64)
    by_action = np.full((before[-1], count), 0xFFFFFFFF, np.uint32)
    reached(trees, first, last, before, kind == ACTION, values, by_action)
    by_row = by_action.copy()
    reached(trees, first, last, before, kind == PAIR, values, by_row)
    of_row, classes, example = alike(by_row, hides, before[:-1], before[1:], felt)
    steady = (classes == 1) & ~paired
    units = _units(of_row, classes, ~steady)
    family = 2 * trees.of_class[units.tree] + paired[units.tree]
    groups = grouped(units.of_row, units.count, family)
    by_group = np.lexsort((groups.of_unit, family))
    order = np.concatenate(
        [np.flatnonzero(steady)[np.argsort(trees.of_class[steady], kind="stable")],
         units.tree[by_group]]
    )  # fmt: skip
    order = order[np.sort(np.unique(order, return_index=True)[1])]
    word = np.empty(len(words), np.int64)
    word[order] = _starts(words[order])[:-1]
    hidden = np.full(len(words), -1, np.int64)
    twins = order[felt[order]]
    hidden[twins] = before[-1] + _starts(words[twins])[:-1]
    total = int(before[-1] + words[twins].sum() + 1)
    if total >= _WORDS:
        raise ValueError(f"a forest of {total} x 32 leaves is too large; use fewer or smaller trees")
    shape = Shape(place, first, last, tree, words, word, hidden)
    usual = np.ascontiguousarray(rows[:, kinds == PAIR], np.float64)
    sections: dict[int, npt.NDArray[Any]] = {}
    sections |= _customer(trees, shape, kind, unseen, kinds)
    sections |= _leaves(trees, shape, twins, total)
    made = _Entries(trees, shape, by_row, hides, felt, total - 1)
    sections |= made.constant(order[steady[order]])
    sections |= made.groups(units, groups.of_unit, groups.combination, groups.count, by_group,
                            family, example)  # fmt: skip
    sections |= _pairs(trees, shape, kind, kinds, order[paired[order]], by_action, before, hides,
                       felt)  # fmt: skip
    sections[layout.USUAL] = usual
    pair_words = len(sections[layout.PAIR_WORD])
    pair_lanes = len(sections[layout.PAIR_LANES]) + len(sections[layout.PAIR_SETS])
    lanes = len(sections[layout.LANES])
    numbers = {
        layout.ROWS: count,
        layout.CLASSES: trees.classes,
        layout.WORDS: total,
        layout.VECTOR: int((kinds == CUSTOMER).sum()),
        layout.PAIRS: usual.shape[1],
        layout.PLAIN_LANES: int((~unseen[_columns_of(sections[layout.LANES], kinds)]).sum()),
        layout.PLAIN_SETS: int((~unseen[_columns_of(sections[layout.SETS], kinds)]).sum()),
        layout.PAIR_WORDS: pair_words,
        layout.CHUNK: CHUNK,
        layout.TREES: len(words),
    }
    scratch = {
        layout.MASKS: 4 * total,
        layout.RANKS: 4 * lanes,
        layout.VALUES: 8 * int(sections[layout.GROUPS][:, 1].max(initial=1)),
        layout.SUMS: 8 * MOST,
        layout.TOTALS: 8 * trees.classes * (2 * count + 1),
        layout.REACHED: 4 * len(sections[layout.REACH_WORD]),
        layout.ROW_MASKS: 4 * CHUNK * pair_words,
        layout.ROW_RANKS: 4 * CHUNK * pair_lanes,
        layout.ROW_TOTALS: 8 * CHUNK * trees.classes,
        layout.KEPT: 8 * count,
        layout.FOUND: 4 * CHUNK,
    }
    return layout.write(numbers, sections, scratch)


def _starts(sizes: npt.NDArray[Any]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _any(tree: Integers, chosen: Flags, words: Integers) -> Flags:
    found: Flags = np.bincount(tree[chosen], minlength=len(words)) > 0
    return found


def _columns_of(lanes: npt.NDArray[Any], kinds: Integers) -> Integers:
    found: Integers = np.flatnonzero(kinds == CUSTOMER)[lanes[:, 0]]
    return found


class Units(NamedTuple):
    """Trees, or parts of those with more classes than a byte can tell."""

    tree: Integers
    low: Integers  # [units] first class of the tree that is its own
    own: Integers  # [units] number of them; where there are others, one more stands for these
    count: Integers
    of_row: Bytes  # [units, rows]


def _units(of_row: Integers, classes: Integers, chosen: Flags) -> Units:
    found: list[tuple[int, int, int, int]] = []
    for tree in np.flatnonzero(chosen).tolist():
        total = int(classes[tree])
        if total <= MOST:
            found.append((tree, 0, total, total))
            continue
        for low in range(0, total, MOST - 1):
            own = min(MOST - 1, total - low)
            found.append((tree, low, own, own + 1))
    tree, low, own, count = np.array(found, np.int64).reshape(-1, 4).T
    inside = of_row[tree] - low[:, None]
    inside = np.where((inside < 0) | (inside >= own[:, None]), own[:, None], inside)
    return Units(tree, low, own, count, inside.astype(np.uint8))


def _leaves(trees: Trees, shape: Shape, twins: Integers, total: int) -> dict[int, Any]:
    table = np.zeros(32 * total, np.int64)
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    table[32 * shape.word[tree] + shape.place] = trees.units
    twin = np.isin(tree, twins)
    table[32 * shape.hidden[tree[twin]] + shape.place[twin]] = trees.units[twin]
    length = np.ones(total, np.uint16)
    length[shape.word] = np.minimum(shape.words, _WIDEST - 1)
    length[shape.hidden[twins]] = np.minimum(shape.words[twins], _WIDEST - 1)
    return {
        layout.LEAVES: table,
        layout.LENGTH: length,
        layout.SCALE: np.ldexp(1.0, -trees.shift),
    }


def _cut(shape: Shape, nodes: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """The words that nodes clear: node, word of its tree, lowest bit and number of bits."""
    pieces = (shape.last[nodes] - 1 >> 5) - (shape.first[nodes] >> 5) + 1
    of = np.repeat(nodes, pieces)
    offset = np.arange(len(of)) - np.repeat(_starts(pieces)[:-1], pieces)
    word = (shape.first[of] >> 5) + offset
    low = np.maximum(shape.first[of] - 32 * word, 0)
    high = np.minimum(shape.last[of] - 32 * word, 32)
    return of, word, low, high - low


def _coded(word: Integers, low: Integers, bits: Integers) -> npt.NDArray[np.uint32]:
    return (word << 10 | low << 5 | bits - 1).astype(np.uint32)


def _cleared(low: Integers, bits: Integers) -> npt.NDArray[np.uint32]:
    """What the bits leave of a word."""
    return (~(((1 << bits) - 1) << low) & 0xFFFFFFFF).astype(np.uint32)


def _lanes(
    trees: Trees, of: Integers, above: Integers
) -> tuple[npt.NDArray[np.int32], Integers, Integers, Floats, Integers]:
    """Sort pieces of numerical nodes into lanes that a value is compared with at once.

    Returns:
        [lanes, 6] column, flags, first piece, pieces, first block, blocks; [pieces] order;
        [pieces] place in its lane, in that order; thresholds in blocks; column of each lane.
    """
    decision = trees.decision[of].astype(np.int64)
    missing = decision >> 2
    right = np.where((missing != NONE) & (decision & DEFAULT_LEFT == 0), RIGHT, 0)
    keys = np.column_stack([above, trees.feature[of], missing | right])
    lanes, lane = np.unique(keys, axis=0, return_inverse=True)
    lane = lane.reshape(-1)
    order = np.lexsort((trees.threshold[of], lane))
    pieces = np.bincount(lane, minlength=len(lanes))
    at = _starts(pieces)
    blocks = -(-pieces // BLOCK)
    block_at = _starts(blocks)
    place = np.arange(len(of)) - at[lane[order]]
    padded = np.full(BLOCK * block_at[-1], np.inf)
    padded[BLOCK * block_at[lane[order]] + place] = trees.threshold[of][order]
    table = np.column_stack([lanes[:, 1], lanes[:, 2], at[:-1], pieces, block_at[:-1], blocks])
    return table.astype(np.int32), order, place, padded, lane[order]


@numba.njit(cache=True)
def _right_for(trees: Trees, nodes: Integers, x: float) -> Flags:
    out = np.empty(nodes.shape[0], np.bool_)
    for i in range(nodes.shape[0]):
        out[i] = goes_right(trees, nodes[i], x)
    return out


def _slots(trees: Trees, of: Integers) -> tuple[Integers, Flags]:
    """Tell apart the categories that any of these splits names.

    Returns:
        [codes] slot of each code, 0 for those that no split names; [slots, pieces] who clears.
    """
    widest = int(trees.bits_words[of].max(initial=0))
    named = np.zeros((len(of), 32 * widest), np.bool_)
    for i, node in enumerate(of.tolist()):
        begin = trees.bits_at[node]
        words = trees.bits[begin : begin + trees.bits_words[node]]
        bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
        named[i, : len(bits)] = bits
    known = np.flatnonzero(named.any(axis=0))
    slot = np.zeros(int(known.max(initial=-1)) + 1, np.int64)
    slot[known] = np.arange(1, len(known) + 1)
    if len(known) >= _WIDEST:
        raise ValueError(f"a column with {len(known)} categories in its splits is too wide")
    clears = np.ones((len(known) + 1, len(of)), np.bool_)
    clears[1:] = ~named[:, known].T
    return slot, clears


def _customer(
    trees: Trees, shape: Shape, kind: Integers, unseen: Flags, kinds: Integers
) -> dict[int, Any]:
    categorical = (trees.decision & CATEGORICAL) > 0
    of, word, low, bits = _cut(shape, np.flatnonzero((kind == CUSTOMER) & ~categorical))
    lanes, order, _, padded, _ = _lanes(trees, of, unseen[trees.feature[of]].astype(np.int64))
    codes = [_coded(shape.word[shape.tree[of]] + word, low, bits)[order]]
    position = np.cumsum(kinds == CUSTOMER) - 1
    lanes[:, 0] = position[lanes[:, 0]]
    sets, slots, lists = [], [np.zeros(0, np.int64)], [len(of)]
    of, word, low, bits = _cut(shape, np.flatnonzero((kind == CUSTOMER) & categorical))
    code = _coded(shape.word[shape.tree[of]] + word, low, bits)
    column = trees.feature[of]
    for one in sorted(set(column.tolist()), key=lambda column: (unseen[column], column)):
        chosen = np.flatnonzero(column == one)
        slot, clears = _slots(trees, of[chosen])
        slots_at = sum(len(part) for part in slots)
        sets.append((position[one], slots_at, len(slot), len(lists) - 1))
        slots.append(slot)
        codes.append(code[chosen[np.nonzero(clears)[1]]])
        lists += (lists[-1] + np.cumsum(clears.sum(axis=1))).tolist()
    asked = np.flatnonzero((shape.hidden[shape.tree] >= 0) & unseen[trees.feature])
    of, word, low, bits = _cut(shape, asked[_right_for(trees, asked, np.nan)])
    twin = np.flatnonzero(shape.hidden >= 0)
    offset = np.concatenate([np.arange(n) for n in [0, *shape.words[twin].tolist()]])
    pairs = [np.repeat(at[twin], shape.words[twin]) + offset for at in (shape.word, shape.hidden)]
    return {
        layout.LANES: lanes,
        layout.TOPS: padded[BLOCK - 1 :: BLOCK],
        layout.THRESHOLDS: padded,
        layout.NODES: np.concatenate(codes),
        layout.SETS: np.array(sets, np.int32).reshape(-1, 4),
        layout.SLOTS: np.concatenate(slots).astype(np.uint16),
        layout.LISTS: np.array(lists, np.int32),
        layout.COPIES: np.column_stack(pairs).astype(np.uint32),
        layout.HIDDEN: _coded(shape.hidden[shape.tree[of]] + word, low, bits),
    }


class _Entries:
    """Classes of trees as pairs of a word and the leaves that are left of it."""

    def __init__(
        self,
        trees: Trees,
        shape: Shape,
        masks: npt.NDArray[np.uint32],
        hides: Flags,
        felt: Flags,
        zero: int,
    ) -> None:
        self._trees, self._shape, self._masks = trees, shape, masks
        self._hides, self._felt, self._zero = hides, felt, zero
        self._before = _starts(shape.words)
        self._word: list[npt.NDArray[Any]] = []
        self._mask: list[npt.NDArray[Any]] = []

    def _add(self, tree: int, rows: Integers) -> None:
        at, words = self._before[tree], self._shape.words[tree]
        twin = self._felt[tree] & self._hides[rows]
        self._word.append(np.where(twin, self._shape.hidden[tree], self._shape.word[tree]))
        self._mask.append(self._masks[at : at + words][:, rows].T.reshape(-1))

    def _sizes(self) -> tuple[int, int]:
        return sum(map(len, self._word)), sum(map(len, self._mask))

    def constant(self, order: Integers) -> dict[int, Any]:
        """Trees that give every row the same, by class."""
        for tree in order.tolist():
            self._add(tree, np.zeros(1, np.int64))
        ends = _starts(np.bincount(self._trees.of_class[order], minlength=self._trees.classes))
        single = [bool((self._shape.words[self._trees.of_class == one] == 1).all())
                  for one in range(self._trees.classes)]  # fmt: skip
        masks = _starts(self._shape.words[order])[ends[:-1]]
        return {
            layout.CONSTANT: np.column_stack([ends[:-1], ends[1:], masks, single]).astype(np.int32)
        }

    def groups(
        self,
        units: Units,
        of_unit: Integers,
        combination: Bytes,
        count: Integers,
        by_group: Integers,
        family: Integers,
        example: Integers,
    ) -> dict[int, Any]:
        """Groups of units, their classes and combinations."""
        records, tables, of_row = [], [], []
        ends = np.flatnonzero(np.diff(of_unit[by_group], append=-1)) + 1
        table_at = 0
        for begin, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
            members = by_group[begin:end]
            group = int(of_unit[members[0]])
            entry_at, mask_at = self._sizes()
            table = np.zeros((len(members), int(count[group])), np.uint16)
            for i, unit in enumerate(members.tolist()):
                tree, low, own = (int(part[unit]) for part in units[:3])
                offset = self._sizes()[0] - entry_at
                table[i, combination[group]] = offset + units.of_row[unit].astype(np.int64)
                self._add(tree, example[tree, low : low + own])
                if units.count[unit] > own:
                    self._word.append(np.array([self._zero]))
                    self._mask.append(np.array([1]))
            single = bool((self._shape.words[units.tree[members]] == 1).all())
            entries = self._sizes()[0] - entry_at
            records.append((entry_at, entries, mask_at, single, len(members), count[group],
                            table_at, family[members[0]] >> 1, family[members[0]] & 1, 0))  # fmt: skip
            if len(members) > 1:
                tables.append(table.reshape(-1))
                table_at += table.size
            of_row.append(combination[group])
        none = np.zeros(0, np.uint16)
        return {
            layout.GROUPS: np.array(records, np.int32).reshape(-1, 10),
            layout.TABLE: np.concatenate([none, *tables]),
            layout.COMBINATION: np.array(of_row, np.uint8),
            layout.ENTRY_WORD: np.concatenate([none, *self._word]).astype(np.uint32),
            layout.ENTRY_MASK: np.concatenate([none, *self._mask]).astype(np.uint32),
        }


def _pairs(
    trees: Trees,
    shape: Shape,
    kind: Integers,
    kinds: Integers,
    order: Integers,
    by_action: npt.NDArray[np.uint32],
    before: Integers,
    hides: Flags,
    felt: Flags,
) -> dict[int, Any]:
    """Everything about trees with pair features, for rows that have their own values of them."""
    order = order[np.argsort(trees.of_class[order], kind="stable")]
    words = shape.words[order]
    tree = np.repeat(order, words)
    inside = np.arange(len(tree)) - np.repeat(_starts(words)[:-1], words)
    at = before[tree] + inside
    of_row, count, example = alike(by_action, hides, at, at + 1, felt[tree])
    reach_at = _starts(count)
    some = np.concatenate([[0], *(example[i, :n] for i, n in enumerate(count.tolist()))])[1:]
    some = some.astype(np.int64)
    of_word = np.repeat(np.arange(len(at)), count)
    twin = felt[tree[of_word]] & hides[some]
    reach_word = np.where(twin, shape.hidden[tree[of_word]], shape.word[tree[of_word]])
    number = np.zeros(len(shape.words), np.int64)
    number[order] = _starts(words)[:-1]
    categorical = (trees.decision & CATEGORICAL) > 0
    position = np.cumsum(kinds == PAIR) - 1
    of, word, low, bits = _cut(shape, np.flatnonzero((kind == PAIR) & ~categorical))
    lanes, by_lane, rank, padded, lane = _lanes(trees, of, np.zeros(len(of), np.int64))
    lanes[:, 0] = position[lanes[:, 0]]
    home = number[shape.tree[of]] + word
    tests = np.argsort(home[by_lane], kind="stable")
    test_ends = _starts(np.bincount(home, minlength=len(at)))
    of, word, low_set, bits_set = _cut(shape, np.flatnonzero((kind == PAIR) & categorical))
    sets, slots, members = [], [np.zeros(0, np.int64)], [np.zeros((0, 5), np.int64)]
    home_set = number[shape.tree[of]] + word
    for i, column in enumerate(sorted(set(trees.feature[of].tolist()))):
        chosen = np.flatnonzero(trees.feature[of] == column)
        slot, clears = _slots(trees, of[chosen])
        sets.append((position[column], sum(len(part) for part in slots), len(slot)))
        slots.append(slot)
        left = _cleared(low_set[chosen], bits_set[chosen]).astype(np.int64)
        for chunk in range(0, len(clears), 32):
            part = clears[chunk : chunk + 32].T.astype(np.int64)
            packed = (part << np.arange(part.shape[1])).sum(axis=1)
            same = np.full(len(chosen), 0)
            rows = [home_set[chosen], same + len(lanes) + i, same + chunk, packed, left]
            members.append(np.column_stack(rows)[packed != 0])
    member = np.concatenate(members)
    member = member[np.argsort(member[:, 0], kind="stable")]
    member_ends = _starts(np.bincount(member[:, 0], minlength=len(at)))
    which = np.where(words[np.searchsorted(_starts(words), np.arange(len(at)), "right") - 1] == 1,
                     0, np.where(inside == 0, 1, 2))  # fmt: skip
    records = [shape.word[tree] + inside, which, trees.of_class[tree], test_ends[:-1],
               test_ends[1:], member_ends[:-1], member_ends[1:], reach_at[:-1]]  # fmt: skip
    return {
        layout.PAIR_WORD: np.column_stack(records).astype(np.int32),
        layout.REACH_WORD: (reach_word + inside[of_word]).astype(np.uint32),
        layout.REACH_MASK: by_action[at[of_word], some],
        layout.REACH: np.ascontiguousarray(of_row.T).astype(np.uint16),
        layout.TEST_LANE: lane[tests].astype(np.uint16),
        layout.TEST_RANK: rank[tests].astype(np.int32),
        layout.TEST_MASK: _cleared(low, bits)[by_lane][tests],
        layout.MEMBER_LANE: member[:, 1].astype(np.uint16),
        layout.MEMBER_CHUNK: member[:, 2].astype(np.int32),
        layout.MEMBER_SET: member[:, 3].astype(np.uint32),
        layout.MEMBER_MASK: member[:, 4].astype(np.uint32),
        layout.PAIR_LANES: lanes,
        layout.PAIR_TOPS: padded[BLOCK - 1 :: BLOCK],
        layout.PAIR_THRESHOLDS: padded,
        layout.PAIR_SETS: np.array(sets, np.int32).reshape(-1, 3),
        layout.PAIR_SLOTS: np.concatenate(slots).astype(np.uint16),
    }
