"""Where each tree of a forest goes, and what is asked of it. Pure.

*Steady* trees give every row of the catalogue the same: only the leaf that is reached counts. The
others are *words* of 32 bits, a bit a leaf, from left to right. A tree whose columns some rows do
not see has a *twin* for these rows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.kernels import Integers
from service.forest.reach import Flags
from service.forest.trees import Trees, Words
from service.forest.walk import spans

CUSTOMER, ACTION, PAIR = 0, 1, 2
"""Kinds of columns: the same in every row of a request, fixed for a row, of the two together."""

_LARGEST_STEADY: Final = 256  # leaves; a leaf of these is a byte


class Shape(NamedTuple):
    """Where the leaves of each tree are, and what is asked of it."""

    place: Integers  # [leaves] from left to right
    spans: Integers  # [nodes, 3]
    tree: Integers  # [nodes]
    before: Integers  # [trees + 1] its first word, in the order of the model
    words: Integers  # [trees] of 32 leaves
    word: Integers  # [trees] its first word in the block; -1: steady
    twin: Integers  # [trees] the same for rows that do not see hidden columns; -1: none
    steady: Integers  # [steady trees] these, the largest first
    member: Integers  # [trees] its place among the steady ones; -1: none of them
    paired: Flags  # [trees] asks for a pair feature
    total: int  # words of the block


def whole(trees: Trees, shape: Shape) -> Words:
    """The leaves that there are: [words of the model]."""
    leaves = np.diff(trees.leaf_at)
    inside = np.arange(shape.before[-1]) - np.repeat(shape.before[:-1], shape.words)
    bits = np.minimum(np.repeat(leaves, shape.words) - 32 * inside, 32)
    whole: Words = ((1 << bits) - 1).astype(np.uint32)
    return whole


def starts(sizes: npt.NDArray[Any]) -> Integers:
    """Where each of these begins, and where the last ends: [sizes + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def shape_of(trees: Trees, kinds: Integers, unseen: Flags) -> Shape:
    """Order the trees: steady ones by size, others by class, pair features and tests."""
    tree = np.repeat(np.arange(len(trees.of_class)), np.diff(trees.node_at))
    place, found = spans(trees)
    leaves = np.diff(trees.leaf_at)
    words = -(-leaves // 32)
    kind = kinds[trees.feature]

    def asking(nodes: Flags) -> Integers:
        return np.bincount(tree[nodes], minlength=len(words))

    felt, paired = asking(unseen[trees.feature]) > 0, asking(kind == PAIR) > 0
    same = ~felt & ~paired & (asking(kind == ACTION) == 0) & (leaves <= _LARGEST_STEADY)
    steady = np.flatnonzero(same)
    steady = steady[np.argsort(-leaves[steady], kind="stable")]
    member = np.full(len(words), -1)
    member[steady] = np.arange(len(steady))
    order = np.flatnonzero(~same)
    keys = (asking(kind == CUSTOMER)[order], paired[order], trees.of_class[order])
    order = order[np.lexsort(keys)]
    at = starts((words * (1 + felt))[order])
    word = np.full(len(words), -1)
    word[order] = at[:-1]
    twin = np.where(felt, word + words, -1)
    return Shape(
        place, found, tree, starts(words), words, word, twin, steady, member, paired, int(at[-1])
    )


def places(shape: Shape, chosen: Flags) -> tuple[Integers, Integers, Integers]:
    """Words of chosen trees in the order of the block: tree, word of the model, word of the block.

    Twins are not among them.
    """
    order = np.flatnonzero(chosen)
    order = order[np.argsort(shape.word[order])]
    words = shape.words[order]
    tree = np.repeat(order, words)
    inside = np.arange(len(tree)) - np.repeat(starts(words)[:-1], words)
    return tree, shape.before[tree] + inside, shape.word[tree] + inside
