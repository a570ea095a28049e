"""Model texts that no training would write, and rows to try them on."""

from __future__ import annotations

from typing import Final

import numpy as np
from hypothesis import strategies as st

from features.elementary import Floats

NEAR: Final = float(np.float32(1e-35))
NUMBERS: Final = (
    0.0, -0.0, 1e-35, -1e-35, NEAR, -NEAR, float(np.nextafter(NEAR, 1)), 5e-324, 1e-20,
    0.5, -0.5, 1.0, -1.0, 1.5, 2.0, 3.0, 7.9, 31.0, 32.0, 63.5, 100.0, -3.0, 1e300, -1e300,
    2147483647.0, 2147483648.0, -2147483648.0, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
THRESHOLDS: Final = tuple(x for x in NUMBERS if x == x)  # noqa: PLR0124  not NaN
WIDTH: Final = 6


def _tree(chance: np.random.Generator, leaves: int, categorical: bool, scale: float) -> list[str]:
    """A random tree: a random leaf is split until there are enough."""
    feature, threshold, decision = [], [], []
    left, right = list[int](), list[int]()
    sets, parent = list[list[int]](), dict[int, tuple[int, int]]()
    for node in range(leaves - 1):
        leaf = int(chance.integers(node + 1))
        above = parent.get(leaf)
        if above is not None:
            (left if above[1] == 0 else right)[above[0]] = node
        left.append(~leaf)
        right.append(~(node + 1))
        parent[leaf], parent[node + 1] = (node, 0), (node, 1)
        feature.append(int(chance.integers(WIDTH)))
        if categorical and chance.random() < 0.4:
            decision.append(1 | int(chance.integers(2)) << 1 | int(chance.integers(3)) << 2)
            threshold.append(str(len(sets)))
            words = int(chance.integers(1, 4))
            sets.append([int(x) for x in chance.integers(0, 2**32, words, dtype=np.uint64)])
        else:
            decision.append(int(chance.integers(2)) << 1 | int(chance.integers(3)) << 2)
            threshold.append(repr(float(chance.choice(THRESHOLDS))))
    ends = np.cumsum([0, *map(len, sets)]).tolist()
    members = [word for words in sets for word in words]
    values = np.where(
        chance.random(leaves) < 0.1, 0.0, chance.normal(size=leaves) * 10 ** chance.uniform(-3, 0)
    )

    def told(numbers: object) -> str:
        return " ".join(map(str, numbers))  # type: ignore[call-overload]

    return [
        f"num_leaves={leaves}", f"num_cat={len(sets)}", f"split_feature={told(feature)}",
        f"split_gain={told([1] * (leaves - 1))}", f"threshold={told(threshold)}",
        f"decision_type={told(decision)}", f"left_child={told(left)}",
        f"right_child={told(right)}", f"leaf_value={told((values * scale).tolist())}",
        f"leaf_weight={told([1] * leaves)}", f"leaf_count={told([1] * leaves)}",
        f"internal_value={told([0] * (leaves - 1))}",
        f"internal_weight={told([1] * (leaves - 1))}",
        f"internal_count={told([2] * (leaves - 1))}",
        *([f"cat_boundaries={told(ends)}", f"cat_threshold={told(members)}"] if sets else []),
        "is_linear=0", "shrinkage=1", "", "",
    ]  # fmt: skip


def text(seed: int, sizes: list[int], classes: int = 1, categorical: bool = True,
         scale: float = 1.0) -> str:  # fmt: skip
    """A model of ``WIDTH`` features with trees of the given numbers of leaves."""
    chance = np.random.default_rng(seed)
    trees = [
        "\n".join([f"Tree={i}", *_tree(chance, leaves, categorical, scale)])
        for i, leaves in enumerate(sizes)
    ]
    names = " ".join(f"f{i}" for i in range(WIDTH))
    infos = " ".join(["[-1:1]"] * WIDTH)
    head = [
        "tree", "version=v4", f"num_class={classes}", f"num_tree_per_iteration={classes}",
        "label_index=0", f"max_feature_idx={WIDTH - 1}",
        "objective=regression" if classes == 1 else f"objective=multiclass num_class:{classes}",
        f"feature_names={names}", f"feature_infos={infos}",
        "tree_sizes=" + " ".join(str(len(tree) + 1) for tree in trees), "", "",
    ]  # fmt: skip
    return "\n".join(head) + "\n".join(trees) + "\nend of trees\n\nparameters:\nend of parameters\n"


LEAVES = st.sampled_from([1, 2, 3, 5, 16, 31, 32, 33, 64, 65, 100, 130])


@st.composite
def texts(draw: st.DrawFn, classes: int | None = None) -> str:
    """Any model: 1 to 4 classes, trees of 1 to 130 leaves."""
    count = draw(st.integers(1, 4)) if classes is None else classes
    rounds = draw(st.integers(1, 4))
    sizes = draw(st.lists(LEAVES, min_size=count * rounds, max_size=count * rounds))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    return text(draw(st.integers(0, 2**32 - 1)), sizes, count, draw(st.booleans()), scale)


def rows(seed: int, count: int) -> Floats:
    """Rows of edge cases and ordinary numbers, [count, WIDTH]."""
    chance = np.random.default_rng(seed)
    found = chance.choice(NUMBERS, (count, WIDTH))
    plain = chance.random((count, WIDTH)) < 0.4
    found[plain] = chance.normal(0, 20, plain.sum())
    return found
