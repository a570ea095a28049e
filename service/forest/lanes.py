"""Nodes by the value that they test, so that one look at it tells all that fail. Pure.

A *lane* is the numerical nodes on one column that agree about missing values. A value's *rank* in
it is the number of its thresholds below the value: it fails the nodes whose threshold is among
those. Categories have a list each. A node that touches several words is cut into pieces, one for
each.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest.reach import Flags
from service.forest.trees import DEFAULT_LEFT, NONE, Trees, Words
from service.forest.vectors import BLOCK
from service.forest.walk import goes_right

NONE_RIGHT: Final = 4
"""A lane's flag above its missing type: no value goes right."""
LONGEST: Final = 255
"""Thresholds of a lane: a rank is a byte."""
_WIDEST: Final = 1 << 16


class Pieces(NamedTuple):
    """Nodes cut at the words of their trees, and what they leave of them."""

    node: Integers
    word: Integers  # of its tree
    failed: Words  # what is left of the word where the node is failed: not its left subtree
    passed: Words  # not its right subtree


def cut(spans: Integers, nodes: Integers) -> Pieces:
    """Cut nodes into pieces.

    Args:
        spans: [all nodes, 3] from :func:`service.forest.walk.spans`.
        nodes: Which.
    """
    begin, middle, end = spans[nodes].T
    count = ((end - 1) >> 5) - (begin >> 5) + 1
    of = np.repeat(np.arange(len(nodes)), count)
    before = np.cumsum(count) - count
    word = (begin >> 5)[of] + np.arange(len(of)) - before[of]
    left = []
    for low, high in ((begin, middle), (middle, end)):
        first = np.clip(low[of] - 32 * word, 0, 32)
        after = np.clip(high[of] - 32 * word, 0, 32)
        gone = (1 << after) - (1 << first)
        left.append((~gone & 0xFFFFFFFF).astype(np.uint32))
    return Pieces(nodes[of], word, *left)


class Lanes(NamedTuple):
    """Numerical nodes by lane; the lanes with the most nodes come first."""

    table: npt.NDArray[np.int32]  # [lanes, 5] column, flags, thresholds, first block, blocks
    lane: Integers  # [nodes]
    place: Integers  # [nodes] failed by what has a higher rank
    thresholds: Floats  # in blocks of BLOCK, padded with infinity


def numerical(trees: Trees, nodes: Integers) -> Lanes:
    """Sort nodes into lanes of at most ``LONGEST`` thresholds."""
    decision = trees.decision[nodes].astype(np.int64)
    missing = decision >> 2
    right = np.where((missing != NONE) & (decision & DEFAULT_LEFT == 0), NONE_RIGHT, 0)
    keys = np.column_stack([trees.feature[nodes], missing | right])
    _, lane = np.unique(keys, axis=0, return_inverse=True)
    _, place = np.unique(
        np.column_stack([lane.reshape(-1), trees.threshold[nodes]]), axis=0, return_inverse=True
    )
    place = place.reshape(-1)
    first = np.full(int(lane.max(initial=-1)) + 1, len(nodes))
    np.minimum.at(first, lane.reshape(-1), place)
    part, place = np.divmod(place - first[lane.reshape(-1)], LONGEST)
    keys = np.column_stack([keys, part])
    lanes, lane, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    lanes, lane = lanes[order], np.argsort(order)[lane.reshape(-1)]
    longest = np.zeros(len(lanes), np.int64)
    np.maximum.at(longest, lane, place + 1)
    blocks = -(-longest // BLOCK)
    block = np.cumsum(blocks) - blocks
    thresholds = np.full(BLOCK * int(blocks.sum()), np.inf)
    thresholds[BLOCK * block[lane] + place] = trees.threshold[nodes]
    table = np.column_stack([lanes[:, :2], longest, block, blocks])
    return Lanes(table.astype(np.int32), lane, place, thresholds)


def categories(trees: Trees, nodes: Integers) -> tuple[Integers, Flags]:
    """Tell apart the categories that any of these splits names.

    Returns:
        [codes] slot of each code, 0 for those that no split names; [slots, nodes] who fails.

    Raises:
        ValueError: There are too many.
    """
    widest = int(trees.bits_words[nodes].max(initial=0))
    named = np.zeros((len(nodes), 32 * widest), np.bool_)
    for i, node in enumerate(nodes.tolist()):
        begin = trees.bits_at[node]
        words: npt.NDArray[Any] = trees.bits[begin : begin + trees.bits_words[node]]
        bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
        named[i, : len(bits)] = bits
    known = np.flatnonzero(named.any(axis=0))
    if len(known) >= _WIDEST:
        raise ValueError(f"a column with {len(known)} categories in its splits is too wide")
    slot = np.zeros(int(known.max(initial=-1)) + 1, np.int64)
    slot[known] = np.arange(1, len(known) + 1)
    fails = np.ones((len(known) + 1, len(nodes)), np.bool_)
    fails[1:] = ~named[:, known].T
    return slot, fails


@numba.njit(cache=True)
def right_for(trees: Trees, nodes: Integers, x: float) -> Flags:
    """Which of these nodes a value fails."""
    out = np.empty(nodes.shape[0], np.bool_)
    for i in range(nodes.shape[0]):
        out[i] = goes_right(trees, nodes[i], x)
    return out
