"""One row through every tree, the plain way: what a split means is written down here, once.

The rules are those of LightGBM 4: ``Tree::NumericalDecision`` and ``Tree::CategoricalDecision`` in
its ``tree.h``, and its predictor's habit of taking what is within 1e-35f of 0 for 0.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest.trees import CATEGORICAL, DEFAULT_LEFT, NAN, ZERO, ModelRefused, Trees

NEAR_ZERO: Final = float(np.float32(1e-35))
_LARGEST: Final = 2147483648.0
_AFTER: Final = 1 << 40


@numba.njit(cache=True)
def category(x: float) -> int:
    """Code that a number stands for, towards 0; -1 for none (NaN, -1 and less, 2^31 and more)."""
    if not (-1.0 < x < _LARGEST):
        return -1
    return int(x)


@numba.njit(cache=True)
def goes_right(trees: Trees, node: int, x: float) -> bool:
    """Whether a value fails the test of a node (counted over all trees) and goes right."""
    decision = trees.decision[node]
    if decision & CATEGORICAL:
        code = category(x)
        if code < 0 or code >> 5 >= trees.bits_words[node]:
            return True
        word = trees.bits[trees.bits_at[node] + (code >> 5)]
        return bool((word >> np.uint32(code & 31)) & 1 == 0)
    missing = decision >> 2
    if np.isnan(x):
        if missing == NAN:
            return bool(decision & DEFAULT_LEFT == 0)
        x = 0.0
    elif abs(x) <= NEAR_ZERO:
        x = 0.0
    if missing == ZERO and x == 0.0:
        return bool(decision & DEFAULT_LEFT == 0)
    return bool(x > trees.threshold[node])


@numba.njit(cache=True)
def _leaf(trees: Trees, tree: int, row: Floats) -> int:
    first = trees.node_at[tree]
    if trees.node_at[tree + 1] == first:
        return int(trees.leaf_at[tree])
    node = 0
    while node >= 0:
        at = first + node
        right = goes_right(trees, at, row[trees.feature[at]])
        node = trees.right[at] if right else trees.left[at]
    return int(trees.leaf_at[tree] + ~node)


@numba.njit(cache=True)
def _walk(trees: Trees, row: Floats, out: Integers) -> None:
    out[:] = 0
    for tree in range(trees.of_class.shape[0]):
        out[trees.of_class[tree]] += trees.units[_leaf(trees, tree, row)]


def row(trees: Trees, values: Floats) -> Floats:
    """Score one whole row.

    Args:
        trees: The model.
        values: [columns] contiguous.

    Returns:
        [classes] raw scores, bit for bit those that :class:`service.forest.Forest` gives.

    Raises:
        ValueError: The row has another width.
    """
    if values.shape != (trees.columns,):
        raise ValueError(f"a row has {trees.columns} columns, this one is {values.shape}")
    out = np.empty(trees.classes, np.int64)
    _walk(trees, np.ascontiguousarray(values, np.float64), out)
    return np.ldexp(out.astype(np.float64), -trees.shift)


@numba.njit(cache=True)
def _spans(trees: Trees, place: Integers, found: Integers) -> int:
    deepest = 1
    for tree in range(trees.of_class.shape[0]):
        deepest = max(deepest, trees.leaf_at[tree + 1] - trees.leaf_at[tree])
    stack = np.empty(3 * deepest + 4, np.int64)
    for tree in range(trees.of_class.shape[0]):
        begin, first = trees.node_at[tree], trees.leaf_at[tree]
        nodes = trees.node_at[tree + 1] - begin
        leaves = trees.leaf_at[tree + 1] - first
        stack[0] = 0 if nodes > 0 else -1
        height, seen = 1, 0
        while height > 0:
            height -= 1
            at = stack[height]
            if at >= 2 * _AFTER:
                found[begin + at - 2 * _AFTER, 2] = seen
            elif at >= _AFTER:
                found[begin + at - _AFTER, 1] = seen
            elif at >= 0:
                if at >= nodes or found[begin + at, 0] >= 0:
                    return tree
                found[begin + at, 0] = seen
                stack[height] = at + 2 * _AFTER
                stack[height + 1] = trees.right[begin + at]
                stack[height + 2] = at + _AFTER
                stack[height + 3] = trees.left[begin + at]
                height += 4
            else:
                if ~at >= leaves or place[first + ~at] >= 0:
                    return tree
                place[first + ~at] = seen
                seen += 1
        if seen != leaves:
            return tree
    return -1


def spans(trees: Trees) -> tuple[Integers, Integers]:
    """Number the leaves of each tree from left to right, and see that each is a tree.

    Returns:
        [leaves] place of each leaf in its tree; [nodes, 3] the first place in a node's left
        subtree, the first in its right one, and the one after its last.

    Raises:
        ModelRefused: Children form no binary tree.
    """
    place = np.full(len(trees.leaf), -1, np.int64)
    found = np.full((len(trees.feature), 3), -1, np.int64)
    bad = _spans(trees, place, found)
    if bad >= 0:
        raise ModelRefused(f"tree {bad}: its children do not form a binary tree")
    return place, found
