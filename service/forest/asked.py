"""What values decide: the tests on a customer's, and on those of a pair. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from features.kernels import Integers
from service.forest import lanes, layout, packs
from service.forest.reach import Flags
from service.forest.shape import CUSTOMER, PAIR, Shape, places, starts
from service.forest.trees import CATEGORICAL, Trees, Words
from service.forest.vectors import BLOCK, WIDE

Sections = dict[int, npt.NDArray[Any]]

_ALL = 0xFFFFFFFF


def customer(trees: Trees, shape: Shape, kinds: Integers, unseen: Flags) -> Sections:
    """Write the tests on a customer's values: of steady trees and of all words."""
    asked = kinds[trees.feature] == CUSTOMER
    by_lane = _lanes(trees, kinds, CUSTOMER)
    lane, place = by_lane.lane, by_lane.place
    steady = np.flatnonzero(shape.member[shape.tree] >= 0)
    of = shape.member[shape.tree[steady]]
    leaves = np.diff(trees.leaf_at)[shape.steady]
    single = packs.steady(shape.spans, leaves, steady, of, lane[steady], place[steady])

    active, felt = asked & (shape.member[shape.tree] < 0), shape.twin[shape.tree] >= 0
    homes = ((shape.word, active), (shape.twin, active & felt & ~unseen[trees.feature]))
    cuts = [lanes.cut(shape.spans, np.flatnonzero(chosen)) for _, chosen in homes]
    pieces = lanes.Pieces(*map(np.concatenate, zip(*cuts, strict=True)))
    first = [at[shape.tree[cut.node]] for (at, _), cut in zip(homes, cuts, strict=True)]
    home = np.concatenate(first) + pieces.word
    several = packs.words(pieces, home, shape.total, lane[pieces.node], place[pieces.node])
    whole = np.zeros(WIDE * len(several.table), np.uint32)
    whole[: shape.total] = _ALL
    hidden = lanes.cut(shape.spans, np.flatnonzero(felt & unseen[trees.feature]))
    right = lanes.right_for(trees, hidden.node, np.nan)
    away = shape.twin[shape.tree[hidden.node]] + hidden.word
    np.bitwise_and.at(whole, away, np.where(right, hidden.failed, hidden.passed))

    rows = len(single.tests)
    node = np.concatenate([steady, pieces.node])
    code = np.concatenate([single.code, several.code + WIDE * rows])
    position = np.cumsum(kinds == CUSTOMER) - 1
    flips = packs.flips(
        trees, node, code, lane[node], place[node], position, rows + len(several.tests)
    )
    return {
        **_values(layout.CUSTOMER, by_lane, flips),
        **_steady(trees, shape, single),
        layout.PACKS: several.table.astype(np.int32),
        layout.TESTS: several.tests,
        layout.WHOLE: whole,
    }


def pairs(trees: Trees, shape: Shape, kinds: Integers, by_action: Words) -> Sections:
    """Write the tests on the values of a pair, of the trees alone that make one.

    Args:
        trees: The model.
        shape: Of it.
        kinds: [columns].
        by_action: [words of the model, rows] leaves in reach after the tests on actions.
    """
    tree, model, word = places(shape, shape.paired)
    several = shape.words[tree] > 1
    order = np.lexsort((several, trees.of_class[tree]))
    tree, model, word, several = tree[order], model[order], word[order], several[order]
    at = np.zeros(len(shape.words), np.int64)  # the first word of each tree, in this order
    at[tree[::-1]] = np.arange(len(tree))[::-1]
    by_lane = _lanes(trees, kinds, PAIR)
    pieces = lanes.cut(shape.spans, np.flatnonzero(kinds[trees.feature] == PAIR))
    home = at[shape.tree[pieces.node]] + pieces.word
    lane, place = by_lane.lane[pieces.node], by_lane.place[pieces.node]
    packed = packs.words(pieces, home, len(word), lane, place)
    position = np.cumsum(kinds == PAIR) - 1
    flips = packs.flips(trees, pieces.node, packed.code, lane, place, position, len(packed.tests))
    inside = word - shape.word[tree]
    twin = np.where(shape.twin[tree] >= 0, shape.twin[tree] + inside, word)
    leaves = np.zeros(32 * len(word), np.int64)
    of = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    mine = np.flatnonzero(shape.paired[of])
    leaves[32 * at[of[mine]] + shape.place[mine]] = trees.units[mine]
    ends = np.searchsorted(2 * trees.of_class[tree] + several, np.arange(2 * trees.classes + 1))
    return {
        **_values(layout.PAIR, by_lane, flips),
        layout.PAIR_WORD: np.array([word, twin], np.uint32),
        layout.PAIR_PACKS: packed.table.astype(np.int32),
        layout.PAIR_TESTS: packed.tests,
        layout.PAIR_START: (inside == 0).astype(np.uint8),
        layout.PAIR_SPANS: ends.astype(np.int32),
        layout.PAIR_LEAVES: leaves,
        layout.BY_ACTION: np.ascontiguousarray(by_action[model].T),
    }


def _lanes(trees: Trees, kinds: Integers, kind: int) -> lanes.Lanes:
    """Lanes of the columns of one kind, with lane and place for all nodes; -1: of none."""
    chosen = np.flatnonzero((kinds[trees.feature] == kind) & (trees.decision & CATEGORICAL == 0))
    found = lanes.numerical(trees, chosen)
    found.table[:, 0] = (np.cumsum(kinds == kind) - 1)[found.table[:, 0]]
    lane, place = np.full((2, len(trees.feature)), -1)
    lane[chosen], place[chosen] = found.lane, found.place
    return found._replace(lane=lane, place=place)


def _values(of: int, by_lane: lanes.Lanes, flips: packs.Flips) -> Sections:
    """What turns values into the outcomes of tests; ``of``: whose."""
    return {
        of + layout.LANES: by_lane.table,
        of + layout.TOPS: by_lane.thresholds[BLOCK - 1 :: BLOCK],
        of + layout.THRESHOLDS: by_lane.thresholds,
        of + layout.USUAL_FLIPS: flips.usual,
        of + layout.CODES: flips.codes,
        of + layout.LISTS: flips.ends,
        of + layout.BEYOND: flips.lanes,
        of + layout.SETS: flips.sets,
        of + layout.SLOTS: flips.slots,
    }


def _steady(trees: Trees, shape: Shape, single: packs.Packs) -> Sections:
    """Steady trees: their tests, their leaves one tree after the other, and their classes."""
    width = single.table[:, 1] + 1
    begin = WIDE * (starts(width)[:-1])
    leaves = np.zeros(WIDE * int(width.sum()), np.int64)
    member = shape.member[np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))]
    mine = np.flatnonzero(member >= 0)
    pack, inside = np.divmod(member[mine], WIDE)
    leaves[begin[pack] + inside * width[pack] + shape.place[mine]] = trees.units[mine]
    classes = np.zeros(WIDE * len(width), np.uint16)
    classes[: len(shape.steady)] = trees.of_class[shape.steady]
    return {
        layout.STEADY: np.column_stack([single.table, begin, width]).astype(np.int32),
        layout.STEADY_TESTS: single.tests,
        layout.STEADY_CLASS: classes,
        layout.STEADY_LEAVES: leaves,
    }
