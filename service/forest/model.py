"""Read the text of a LightGBM model into flat arrays, without LightGBM. Pure.

The text is what ``Booster.model_to_string()`` writes and bundles hold. What this scoring cannot
reproduce is refused here, so that nothing later has to ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest.trees import CATEGORICAL, NAN, ModelRefused, Trees, Words
from service.forest.walk import spans

_VERSION: Final = "v4"
_BITS: Final = 61
"""Sums of fixed-point leaves stay below 2 to the 61, whichever leaves a row falls into."""
_WIDEST_SHIFT: Final = 1_000


def parse(text: str, columns: Integers | None = None, width: int | None = None) -> Trees:
    """Read a model.

    Args:
        text: As ``Booster.model_to_string()`` writes it.
        columns: [the model's features] which columns of a row they are; None: the same.
        width: Columns of a row; None: as many as the model has features.

    Raises:
        ModelRefused: The text is none, is of another version, or describes what is not supported:
            linear leaves, averaged output, numbers that are not finite, something that is no tree.
    """
    lines = iter(text.splitlines())
    head = _head(lines)
    if head.get("version") != _VERSION:
        raise ModelRefused(
            f"model text: version {head.get('version')!r}; {_VERSION!r} is supported, "
            "write it with LightGBM 4"
        )
    if "average_output" in head:
        raise ModelRefused(
            "model text: average_output (boosting=rf) is not supported; train with boosting=gbdt"
        )
    features = _integer(head, "max_feature_idx", "head") + 1
    classes = _integer(head, "num_tree_per_iteration", "head")
    if classes < 1 or features < 1:
        raise ModelRefused("model text: num_tree_per_iteration or max_feature_idx is not positive")
    blocks = list(_blocks(lines))
    declared = len(head.get("tree_sizes", "").split())
    if declared != len(blocks):
        raise ModelRefused(f"model text: {declared} trees announced, {len(blocks)} found")
    trees = _laid_out([_tree(block, features) for block in blocks], classes, features)
    spans(trees)
    if columns is None:
        return trees
    if len(columns) != features:
        raise ModelRefused(f"model text: {features} features, and {len(columns)} columns chosen")
    chosen = np.asarray(columns, np.int64)
    width = int(chosen.max(initial=-1)) + 1 if width is None else width
    return trees._replace(feature=chosen[trees.feature], columns=width)


def _head(lines: Iterator[str]) -> dict[str, str]:
    if next(lines, "").strip() != "tree":
        raise ModelRefused("model text: does not begin with 'tree'; LightGBM wrote another thing")
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        if key == "tree_sizes":
            found[key] = value
            break
        if line.strip():
            found[key.strip()] = value
    return found


def _blocks(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    block: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=")
        if key in ("Tree", "end of trees"):
            if block:
                yield block
            if key != "Tree":
                return
            block = {}
        if key.strip():
            block[key.strip()] = value
    raise ModelRefused("model text: ends before 'end of trees'; it is cut off")


class _Tree(NamedTuple):
    feature: Integers
    threshold: Floats
    decision: Integers
    left: Integers
    right: Integers
    bits_at: Integers
    bits_words: Integers
    bits: Words
    leaf: Floats
    node_count: Floats
    leaf_count: Floats


def _tree(block: Mapping[str, str], features: int) -> _Tree:
    where = f"tree {block.get('Tree', '?')}"
    if block.get("is_linear", "0").strip() != "0":
        raise ModelRefused(f"{where}: linear_tree is not supported; train with linear_tree=false")
    leaves = _integer(block, "num_leaves", where)
    if leaves < 1:
        raise ModelRefused(f"{where}: num_leaves is {leaves}")
    nodes = leaves - 1
    feature = _integers(block, "split_feature", nodes, where)
    threshold = _floats(block, "threshold", nodes, where)
    decision = _integers(block, "decision_type", nodes, where)
    leaf = _floats(block, "leaf_value", leaves, where)
    if not np.isfinite(leaf).all():
        raise ModelRefused(f"{where}: leaf_value holds a number that is not finite")
    if np.isnan(threshold).any():
        raise ModelRefused(f"{where}: threshold holds NaN")
    if ((feature < 0) | (feature >= features)).any():
        raise ModelRefused(f"{where}: split_feature is not among the {features} features")
    if ((decision < 0) | (decision >> 2 > NAN)).any():
        raise ModelRefused(f"{where}: decision_type is not known")
    left = _integers(block, "left_child", nodes, where)
    right = _integers(block, "right_child", nodes, where)
    if any(((side < -leaves) | (side >= nodes)).any() for side in (left, right)):
        raise ModelRefused(f"{where}: left_child or right_child is beyond the tree")
    sets = _integer(block, "num_cat", where)
    ends = _integers(block, "cat_boundaries", sets + 1, where) if sets else np.zeros(1, np.int64)
    if ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ModelRefused(f"{where}: cat_boundaries do not ascend from 0")
    words = _integers(block, "cat_threshold", int(ends[-1]), where) if sets else ends[:0]
    if ((words < 0) | (words >= 2**32)).any():
        raise ModelRefused(f"{where}: cat_threshold is not made of 32-bit words")
    categorical = (decision & CATEGORICAL) > 0
    at = np.where(categorical, threshold, 0.0).astype(np.int64)
    if categorical.any() and ((at < 0) | (at >= sets) | (at != threshold))[categorical].any():
        raise ModelRefused(f"{where}: a categorical split names no set of num_cat={sets}")
    empty = np.zeros(nodes, np.int64)
    return _Tree(
        feature,
        threshold,
        decision,
        left,
        right,
        np.where(categorical, ends[at], 0) if sets else empty,
        np.where(categorical, np.diff(ends)[np.minimum(at, sets - 1)], 0) if sets else empty,
        words.astype(np.uint32),
        leaf,
        _floats(block, "internal_count", nodes, where),
        _floats(block, "leaf_count", leaves, where),
    )


def _laid_out(trees: Sequence[_Tree], classes: int, features: int) -> Trees:
    def all_of(name: str, kind: type) -> npt.NDArray[np.generic]:
        return np.concatenate([np.zeros(0), *(getattr(tree, name) for tree in trees)]).astype(kind)

    def ends(sizes: Sequence[int]) -> Integers:
        return np.array([0, *np.cumsum(sizes)], np.int64)

    of_class = np.arange(len(trees), dtype=np.int64) % classes
    leaf_at = ends([len(tree.leaf) for tree in trees])
    leaf = np.concatenate([np.zeros(0), *(tree.leaf for tree in trees)])
    largest = np.array([np.abs(tree.leaf).max() for tree in trees], np.float64)
    total = np.bincount(of_class, largest, minlength=classes)
    if not np.isfinite(total).all():
        raise ModelRefused("model text: the leaves add up to more than a number can hold")
    shift = np.minimum(_BITS - np.frexp(total)[1].astype(np.int64), _WIDEST_SHIFT)
    of_leaf = np.repeat(of_class, np.diff(leaf_at))
    words_before = np.repeat(
        ends([len(tree.bits) for tree in trees])[:-1], [len(tree.feature) for tree in trees]
    )
    return Trees(
        classes=classes,
        columns=features,
        of_class=of_class,
        node_at=ends([len(tree.feature) for tree in trees]),
        leaf_at=leaf_at,
        feature=all_of("feature", np.int64),  # type: ignore[arg-type]
        threshold=all_of("threshold", np.float64),  # type: ignore[arg-type]
        decision=all_of("decision", np.uint8),  # type: ignore[arg-type]
        left=all_of("left", np.int64),  # type: ignore[arg-type]
        right=all_of("right", np.int64),  # type: ignore[arg-type]
        bits_at=all_of("bits_at", np.int64) + words_before,  # type: ignore[operator]
        bits_words=all_of("bits_words", np.int64),  # type: ignore[arg-type]
        bits=np.concatenate([np.zeros(0, np.uint32), *(tree.bits for tree in trees)]),
        leaf=leaf,
        units=np.rint(np.ldexp(leaf, shift[of_leaf])).astype(np.int64),
        shift=shift,
        node_count=all_of("node_count", np.float64),  # type: ignore[arg-type]
        leaf_count=all_of("leaf_count", np.float64),  # type: ignore[arg-type]
    )


def _integer(block: Mapping[str, str], key: str, where: str) -> int:
    try:
        return int(block[key])
    except (KeyError, ValueError) as error:
        raise ModelRefused(f"{where}: {key} is not a whole number") from error


def _integers(block: Mapping[str, str], key: str, count: int, where: str) -> Integers:
    try:
        found = np.array([int(one) for one in block.get(key, "").split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise ModelRefused(f"{where}: {key} holds something that is no whole number") from error
    _as_many(len(found), key, count, where)
    return found


def _floats(block: Mapping[str, str], key: str, count: int, where: str) -> Floats:
    try:
        found = np.array([float(one) for one in block.get(key, "").split()], np.float64)
    except ValueError as error:
        raise ModelRefused(f"{where}: {key} holds something that is no number") from error
    _as_many(len(found), key, count, where)
    return found


def _as_many(found: int, key: str, count: int, where: str) -> None:
    if found != count:
        raise ModelRefused(f"{where}: {key} holds {found} numbers in place of {count}")
