"""Nodes by the value that they test, so that one look at it tells all that fail. Pure.

A *lane* is the numerical nodes on one column that agree about missing values, by threshold: a
value fails the first so many of them. Categories have a list each. A node that touches several
words is cut into pieces, one a word.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest.reach import Flags
from service.forest.trees import DEFAULT_LEFT, NONE, Trees
from service.forest.walk import goes_right

BLOCK: Final = 16
"""Thresholds that are compared at once; the last of each block is compared first."""
NONE_RIGHT: Final = 4
"""A lane's flag above its missing type: no value goes right."""
_WIDEST: Final = 1 << 16

Codes = npt.NDArray[np.uint32]


class Pieces(NamedTuple):
    """Nodes cut at the words of their trees; of a side that is not in the word, bits are 0."""

    node: Integers
    word: Integers  # of its tree
    left_low: Integers  # lowest bit of the left subtree in this word
    left_bits: Integers
    right_low: Integers
    right_bits: Integers


def cut(spans: Integers, nodes: Integers, both: Flags) -> Pieces:
    """Cut nodes into pieces.

    Args:
        spans: [all nodes, 3] from :func:`service.forest.walk.spans`.
        nodes: Which.
        both: [all nodes] whether the right subtree is wanted too.
    """
    begin, middle = spans[nodes, 0], spans[nodes, 1]
    end = np.where(both[nodes], spans[nodes, 2], middle)
    count = ((end - 1) >> 5) - (begin >> 5) + 1
    of = np.repeat(np.arange(len(nodes)), count)
    before = np.cumsum(count) - count
    word = (begin >> 5)[of] + np.arange(len(of)) - before[of]
    found = []
    for low, high in ((begin, middle), (middle, end)):
        first = np.maximum(low[of] - 32 * word, 0)
        bits = np.maximum(np.minimum(high[of] - 32 * word, 32) - first, 0)
        found += [np.where(bits > 0, first, 0), bits]
    return Pieces(nodes[of], word, *found)


def coded(pieces: Pieces, at: Integers, nobody: int) -> tuple[Codes, Codes]:
    """Write what pieces clear, where their node is failed and where it is passed, in 32 bits.

    Args:
        pieces: From :func:`cut`.
        at: [all nodes] first word of their tree.
        nobody: Word to clear where there is nothing to clear.
    """
    word = at[pieces.node] + pieces.word
    codes = []
    for low, bits in ((pieces.left_low, pieces.left_bits), (pieces.right_low, pieces.right_bits)):
        there = np.where(bits > 0, word, nobody)
        codes.append((there << 10 | low << 5 | np.maximum(bits, 1) - 1).astype(np.uint32))
    return codes[0], codes[1]


def kept(pieces: Pieces) -> Codes:
    """What a failed node leaves of a word."""
    gone = ((1 << pieces.left_bits) - 1) << pieces.left_low
    return (~gone & 0xFFFFFFFF).astype(np.uint32)


class Lanes(NamedTuple):
    """Pieces of numerical nodes, sorted."""

    table: npt.NDArray[np.int32]  # [lanes, 6] column, flags, first, pieces, first block, blocks
    order: Integers  # [pieces]
    lane: Integers  # [pieces], in that order
    place: Integers  # [pieces] in its lane: a value fails it if it fails more than that many
    thresholds: Floats  # in blocks, padded with infinity


def numerical(trees: Trees, nodes: Integers, group: Integers) -> Lanes:
    """Sort pieces (their nodes) into lanes, lanes by their group."""
    decision = trees.decision[nodes].astype(np.int64)
    missing = decision >> 2
    right = np.where((missing != NONE) & (decision & DEFAULT_LEFT == 0), NONE_RIGHT, 0)
    keys = np.column_stack([group, trees.feature[nodes], missing | right])
    lanes, lane = np.unique(keys, axis=0, return_inverse=True)
    lane = lane.reshape(-1)
    order = np.lexsort((trees.threshold[nodes], lane))
    lane = lane[order]
    pieces = np.bincount(lane, minlength=len(lanes))
    first = np.cumsum(pieces) - pieces
    blocks = -(-pieces // BLOCK)
    block = np.cumsum(blocks) - blocks
    place = np.arange(len(nodes)) - first[lane]
    thresholds = np.full(BLOCK * int(blocks.sum()), np.inf)
    thresholds[BLOCK * block[lane] + place] = trees.threshold[nodes][order]
    table = np.column_stack([lanes[:, 1], lanes[:, 2], first, pieces, block, blocks])
    return Lanes(table.astype(np.int32), order, lane, place, thresholds)


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
