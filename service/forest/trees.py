"""Trees as flat arrays, the shape in which everything here takes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
NONE, ZERO, NAN = 0, 1, 2
"""Missing types: what a split takes for "no value". NONE: nothing, NaN counts as 0."""


class ModelRefused(ValueError):
    """A model text that cannot be scored here; the message names what and where."""


class Trees(NamedTuple):
    """Trees of one or more classes; nodes and leaves of all trees one after the other.

    A child >= 0 is a node of the same tree, counted from its root; a child < 0 is leaf ``~child``.
    """

    classes: int
    columns: int  # of a row
    of_class: Integers  # [trees]
    node_at: Integers  # [trees + 1] first node
    leaf_at: Integers  # [trees + 1] first leaf
    feature: Integers  # [nodes] column
    threshold: Floats  # [nodes] left when x <= threshold
    decision: Bytes  # [nodes] CATEGORICAL | DEFAULT_LEFT | missing type << 2
    left: Integers  # [nodes]
    right: Integers  # [nodes]
    bits_at: Integers  # [nodes] first word of a categorical split's set
    bits_words: Integers  # [nodes] its number of words
    bits: Words  # sets of categories that go left
    leaf: Floats  # [leaves] as written
    units: Integers  # [leaves] leaf x 2^shift of its class, rounded
    shift: Integers  # [classes]
    node_count: Floats  # [nodes] rows that came by in training
    leaf_count: Floats  # [leaves]


def together(forests: Sequence[Trees]) -> Trees:
    """Put several forests over the same columns into one, which has the classes of all in order.

    Raises:
        ValueError: There is none, or they differ in their columns.
    """
    if len({trees.columns for trees in forests}) != 1:
        raise ValueError("forests that are scored together need the same columns")

    def joined(name: str, shifts: Sequence[int]) -> npt.NDArray[np.int64]:
        parts = zip(forests, shifts, strict=True)
        return np.concatenate([getattr(trees, name) + shift for trees, shift in parts])

    def ends(name: str, shifts: Sequence[int]) -> npt.NDArray[np.int64]:
        parts = zip(forests, shifts, strict=True)
        inner = [getattr(trees, name)[:-1] + shift for trees, shift in parts]
        return np.concatenate([*inner, [shifts[-1] + getattr(forests[-1], name)[-1]]])

    def before(sizes: Sequence[int]) -> list[int]:
        return [0, *np.cumsum(sizes).tolist()][:-1]

    none = [0] * len(forests)
    plain = {
        name: joined(name, none)
        for name in Trees._fields
        if name not in ("classes", "columns", "of_class", "node_at", "leaf_at", "bits_at")
    }
    return Trees(
        classes=sum(trees.classes for trees in forests),
        columns=forests[0].columns,
        of_class=joined("of_class", before([trees.classes for trees in forests])),
        node_at=ends("node_at", before([len(trees.feature) for trees in forests])),
        leaf_at=ends("leaf_at", before([len(trees.leaf) for trees in forests])),
        bits_at=joined("bits_at", before([len(trees.bits) for trees in forests])),
        **plain,  # type: ignore[arg-type]
    )
