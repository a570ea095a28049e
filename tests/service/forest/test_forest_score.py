"""Scores against LightGBM itself, and every fast path against the plain one, bit for bit."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.elementary import Floats
from features.kernels import Integers
from service import forest
from service.forest import ACTION, CUSTOMER, PAIR, Forest, Trees
from tests.service.forest.texts import WIDTH, rows, text, texts

SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.lists(st.sampled_from([CUSTOMER, ACTION, PAIR]), min_size=WIDTH, max_size=WIDTH)


def reach(trees: Trees, row: Floats) -> Floats:
    """Sum of |leaf| over a row's own leaves, by class: what 1e-12 is a part of."""
    size = trees._replace(units=np.abs(trees.units))
    return forest.row(size, row)


@given(text=texts(), seed=SEEDS)
@example(text=text(1, [1]), seed=0)
@example(text=text(1, [130, 1, 33]), seed=0)
def test_a_row_scores_as_lightgbm_says(text: str, seed: int) -> None:
    trees, booster = forest.parse(text), lightgbm.Booster(model_str=text)
    given_rows = rows(seed, 40)
    wanted = np.reshape(booster.predict(given_rows, raw_score=True, num_threads=1), (40, -1))
    for row, theirs in zip(given_rows, wanted, strict=True):
        assert (abs(forest.row(trees, row) - theirs) <= 1e-12 * reach(trees, row) + 1e-300).all()


@pytest.mark.parametrize("zero_as_missing", [False, True])
@pytest.mark.parametrize("objective", ["binary", "multiclass"])
def test_a_trained_model_scores_as_lightgbm_says(zero_as_missing: bool, objective: str) -> None:
    chance = np.random.default_rng(3)
    told = chance.normal(size=(1_500, WIDTH))
    told[:, 1] = chance.integers(0, 70, 1_500)
    told[chance.random(told.shape) < 0.2] = np.nan
    told[chance.random(told.shape) < 0.2] = 0.0
    label = np.nansum(told, axis=1) + np.nan_to_num(told[:, 1]) % 5 > 3
    parameters = {
        "objective": objective, "num_leaves": 40, "verbose": -1, "min_data_in_leaf": 3,
        "zero_as_missing": zero_as_missing, "seed": 1, "num_threads": 1,
        **({"num_class": 3} if objective == "multiclass" else {}),
    }  # fmt: skip
    data = lightgbm.Dataset(told, label + 0, categorical_feature=[1])
    booster = lightgbm.train(parameters, data, 12)
    trees = forest.parse(booster.model_to_string())
    asked = np.concatenate([told[:150], rows(5, 150)])
    wanted = np.reshape(booster.predict(asked, raw_score=True, num_threads=1), (300, -1))
    found = np.array([forest.row(trees, row) for row in asked])
    sizes = np.array([reach(trees, row) for row in asked])
    assert (abs(found - wanted) <= 1e-12 * sizes).all()


class Case:
    """A catalogue, a customer, and what the plain way says of them."""

    def __init__(self, text: str, kinds: list[int], seed: int, actions: int, hide: bool) -> None:
        chance = np.random.default_rng(seed)
        self.trees, self.kinds = forest.parse(text), np.array(kinds, np.int64)
        self.catalogue = rows(seed, actions)
        self.hidden_rows = chance.random(actions) < 0.4 if hide else None
        columns = np.flatnonzero(self.kinds == CUSTOMER)
        self.hidden = columns[chance.random(len(columns)) < 0.5] if hide else None
        block = forest.compile(
            self.trees, self.catalogue, self.kinds, self.hidden_rows, self.hidden
        )
        self.forest, self._chance = Forest(block), chance

    def ask(self, touched: int) -> tuple[Floats, Integers, Floats, Floats]:
        """A customer, touched rows, their pair features, and the scores of the plain way."""
        actions = len(self.catalogue)
        customer = rows(int(self._chance.integers(2**32)), 1)[0]
        which = self._chance.permutation(actions)[: min(touched, actions)]
        own = rows(int(self._chance.integers(2**32)), actions)[which]
        same = self._chance.random(own.shape) < 0.3
        own[same] = self.catalogue[which][same]
        whole = self.catalogue.copy()
        whole[:, self.kinds == CUSTOMER] = customer[self.kinds == CUSTOMER]
        whole[np.ix_(which, np.flatnonzero(self.kinds == PAIR))] = own[:, self.kinds == PAIR]
        if self.hidden_rows is not None and self.hidden is not None:
            whole[np.ix_(self.hidden_rows, self.hidden)] = np.nan
        wanted = np.array([forest.row(self.trees, row) for row in whole])
        vector = np.ascontiguousarray(customer[self.kinds == CUSTOMER])
        return vector, which, np.ascontiguousarray(own[:, self.kinds == PAIR]), wanted


@given(
    text=texts(), kinds=KINDS, seed=SEEDS, actions=st.integers(1, 150),
    touched=st.integers(0, 120), hide=st.booleans(),
)  # fmt: skip
@example(text(7, [40] * 6), [0, 0, 1, 2, 2, 0], 1, 130, 100, True)
@example(text(7, [31] * 20), [0, 0, 1, 1, 2, 0], 2, 100, 40, False)
@example(text(8, [31, 64] * 6), [0, 0, 0, 0, 0, 0], 2, 1, 0, False)
@example(text(9, [300, 257, 256, 255, 2, 1], 2), [0, 0, 0, 0, 0, 0], 3, 2, 0, False)
@example(text(10, [31] * 140, 7), [0, 0, 0, 0, 1, 2], 4, 3, 2, True)
@example(text(11, [31, 5] * 4), [0, 1, 1, 0, 2, 0], 5, 700, 90, True)
def test_a_catalogue_scores_as_its_rows_do_one_by_one(
    text: str, kinds: list[int], seed: int, actions: int, touched: int, hide: bool
) -> None:
    case = Case(text, kinds, seed, actions, hide)
    for _ in range(3):
        vector, which, own, wanted = case.ask(touched)
        found = case.forest.score(vector, which, own)
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("columns", [3, 80, 400])
def test_columns_may_be_many_and_their_thresholds_too(columns: int) -> None:
    """More than 128 lanes are no longer looked up in a table, more than 255 thresholds are cut."""
    chance = np.random.default_rng(columns)
    trees = forest.parse(text(2, [31] * 150, 3))
    nodes, numbers = len(trees.feature), (trees.decision & 1) == 0
    thresholds = np.where(numbers, np.round(chance.normal(size=nodes), 3), trees.threshold)
    feature = chance.integers(columns, size=nodes)
    trees = trees._replace(columns=columns, feature=feature, threshold=thresholds)
    kinds = chance.choice([CUSTOMER, ACTION, PAIR], columns, p=[0.8, 0.1, 0.1])
    for several in (np.zeros(columns, np.int64), kinds):
        catalogue = np.round(chance.normal(size=(20, columns)), 3)
        ready = Forest(forest.compile(trees, catalogue, several))
        for _ in range(10):
            whole, own = catalogue.copy(), np.round(chance.normal(size=(9, columns)), 3)
            own[chance.random(own.shape) < 0.1] = np.nan
            whole[:, several == CUSTOMER] = own[0, several == CUSTOMER]
            whole[:9, several == PAIR] = own[:, several == PAIR]
            vector = np.ascontiguousarray(own[0, several == CUSTOMER])
            pairs = np.ascontiguousarray(own[:, several == PAIR])
            found = ready.score(vector, np.arange(9), pairs)
            wanted = np.array([forest.row(trees, row) for row in whole])
            assert found.tobytes() == wanted.tobytes()


def test_forests_that_are_scored_together_score_as_each_alone() -> None:
    models = [forest.parse(text(i, [31, 5, 40, 1][: 2 + i % 3] * 2, 2)) for i in range(5)]
    kinds = np.array([CUSTOMER, ACTION, PAIR, CUSTOMER, ACTION, CUSTOMER])
    catalogue, customer = rows(1, 70), rows(2, 1)[0][kinds == CUSTOMER]
    touched, own = np.arange(0, 70, 2), rows(3, 35)[:, kinds == PAIR]
    every = Forest(forest.compile(forest.together(models), catalogue, kinds))
    found = every.score(customer, touched, own)
    for i, trees in enumerate(models):
        alone = Forest(forest.compile(trees, catalogue, kinds)).score(customer, touched, own)
        assert found[:, 2 * i : 2 * i + 2].tobytes() == alone.tobytes()


def test_a_model_may_see_a_selection_of_the_columns() -> None:
    chosen = np.array([1, 3, 4, 6, 7, 8])
    narrow, wide = forest.parse(text(4, [31] * 4)), forest.parse(text(4, [31] * 4), chosen, 10)
    row = np.full(10, 5.0)
    row[chosen] = rows(1, 1)[0]
    assert forest.row(wide, row) == forest.row(narrow, row[chosen])


def test_sums_never_overflow_and_their_order_does_not_count() -> None:
    trees = forest.parse(text(4, [31] * 200, scale=1e300))
    assert np.isfinite(forest.row(trees, rows(1, 1)[0])).all()
    largest = [np.abs(trees.units[a:b]).max() for a, b in zip(trees.leaf_at, trees.leaf_at[1:])]  # noqa: B905
    assert sum(map(int, largest)) < 2**62
    order = np.random.default_rng(1).permutation(200)
    body, tail = text(4, [31] * 200, scale=1e300).split("\nend of trees")
    head, *parts = body.split("\nTree=")
    mixed = "\nTree=".join([head, *(parts[i] + "\n" for i in order)])
    again = forest.parse(f"{mixed}\nend of trees{tail}")
    for row in rows(2, 20):
        assert forest.row(again, row) == forest.row(trees, row)


def test_what_does_not_fit_is_refused() -> None:
    kinds = np.array([CUSTOMER, ACTION, PAIR, CUSTOMER, ACTION, CUSTOMER])
    trees = forest.parse(text(1, [31]))
    ready = Forest(forest.compile(trees, rows(1, 4), kinds))
    with pytest.raises(ValueError, match="3 customer columns"):
        ready.score(np.zeros(4))
    with pytest.raises(ValueError, match="for 2 rows"):
        ready.score(np.zeros(3), np.arange(2), np.zeros((1, 1)))
    for row in (-1, 4):
        with pytest.raises(ValueError, match="beyond the 4"):
            ready.score(np.zeros(3), np.array([row]), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="only columns of the customer"):
        forest.compile(trees, rows(1, 2), kinds, np.array([True, False]), np.array([1]))
    with pytest.raises(ValueError, match="the forest 6"):
        forest.compile(trees, rows(1, 2)[:, :5], kinds[:5])
    with pytest.raises(ValueError, match="6 columns"):
        forest.row(trees, np.zeros(5))
