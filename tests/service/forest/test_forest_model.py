"""What a model text may say, and what is refused with its place and a way out."""

from __future__ import annotations

import subprocess
import sys

import lightgbm
import numpy as np
import pytest

from service import forest
from service.forest import ModelRefused
from tests.service.forest.texts import text

GOOD = text(3, [5, 1, 33])


def test_leaves_and_thresholds_are_read_to_the_last_bit() -> None:
    booster = lightgbm.Booster(model_str=GOOD)
    trees = forest.parse(GOOD)
    for tree in range(3):
        begin, end = trees.leaf_at[tree : tree + 2]
        for leaf in range(end - begin):
            assert trees.leaf[begin + leaf] == booster.get_leaf_output(tree, leaf)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tree\n", "forest\n", "does not begin with 'tree'"),
        ("version=v4", "version=v3", "'v3'; 'v4' is supported"),
        ("label_index=0", "label_index=0\naverage_output", "average_output"),
        ("is_linear=0", "is_linear=1", "tree 0: linear_tree is not supported"),
        ("num_leaves=5", "num_leaves=6", "tree 0: split_feature holds 4 numbers in place of 5"),
        ("num_leaves=5", "num_leaves=x", "tree 0: num_leaves is not a whole number"),
        ("max_feature_idx=5", "max_feature_idx=0", "is not among the 1 features"),
        ("end of trees", "", "cut off"),
        ("Tree=2\n", "\n", "3 trees announced"),
    ],
)
def test_what_cannot_be_scored_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelRefused, match=message):
        forest.parse(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("key", "index", "value", "message"),
    [
        ("leaf_value", 1, "nan", "leaf_value holds a number that is not finite"),
        ("leaf_value", 1, "inf", "leaf_value holds a number that is not finite"),
        ("leaf_value", 1, "1e308x", "leaf_value holds something that is no number"),
        ("threshold", 0, "nan", "threshold holds NaN"),
        ("decision_type", 0, "12", "decision_type is not known"),
        ("decision_type", 0, "-1", "decision_type is not known"),
        ("left_child", 0, "0", "its children do not form a binary tree"),
        ("left_child", 0, "99", "left_child or right_child is beyond the tree"),
        ("right_child", 0, "-99", "left_child or right_child is beyond the tree"),
        ("right_child", 3, "-1", "its children do not form a binary tree"),
        ("split_feature", 0, "6", "split_feature is not among"),
    ],
)
def test_numbers_that_make_no_tree_are_refused(
    key: str, index: int, value: str, message: str
) -> None:
    plain = text(3, [5], categorical=False)
    lines = plain.split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{key}="))
    numbers = lines[at].removeprefix(f"{key}=").split(" ")
    numbers[index] = value
    lines[at] = f"{key}=" + " ".join(numbers)
    with pytest.raises(ModelRefused, match=message):
        forest.parse("\n".join(lines))


def test_linear_trees_as_lightgbm_writes_them_are_refused() -> None:
    chance = np.random.default_rng(1)
    told = chance.normal(size=(200, 2))
    parameters = {"linear_tree": True, "verbose": -1, "num_leaves": 4, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(told, told.sum(axis=1)), 2)
    with pytest.raises(ModelRefused, match="linear_tree"):
        forest.parse(booster.model_to_string())


def test_a_choice_of_columns_must_name_one_for_each_feature() -> None:
    with pytest.raises(ModelRefused, match="6 features, and 2 columns"):
        forest.parse(GOOD, np.array([0, 1]))


def test_lightgbm_is_not_imported() -> None:
    code = "import sys, service.forest; sys.exit('lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
