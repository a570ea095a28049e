from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.elementary import Floats
from features.kernels import Integers
from training import evaluate

scored = st.lists(
    st.tuples(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e9, 1e9)), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)
pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(scored)
def test_auc_is_the_share_of_pairs_in_the_right_order_ties_half(
    rows: list[tuple[float, int]],
) -> None:
    yes = [score for score, label in rows if label]
    no = [score for score, label in rows if not label]
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in yes for b in no]
    found = evaluate.auc(np.array([s for s, _ in rows]), np.array([y for _, y in rows]))
    if won:
        assert found == pytest.approx(sum(won) / len(won), abs=1e-12)
    else:
        assert math.isnan(found)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([5, 5, 5, 5], 0.5), ([1, 3, 2, 4], 0.75)],
)
def test_auc_by_example(scores: list[float], expected: float) -> None:
    assert evaluate.auc(np.array(scores, float), np.array([0, 0, 1, 1])) == expected


def outcomes(probabilities: Floats) -> Integers:
    rng = np.random.default_rng(3)
    return np.asarray(rng.random(len(probabilities)) < probabilities, np.int64)


def test_calibrated_probabilities_have_next_to_no_calibration_error() -> None:
    probabilities = np.random.default_rng(4).uniform(0.05, 0.95, 50_000)
    labels = outcomes(probabilities)
    assert evaluate.expected_calibration_error(probabilities, labels) < 0.01


@pytest.mark.parametrize("shift", [0.1, -0.2, 0.3])
def test_shifted_probabilities_have_the_shift_as_calibration_error(shift: float) -> None:
    truth = np.random.default_rng(5).uniform(0.35, 0.65, 50_000)
    found = evaluate.expected_calibration_error(truth + shift, outcomes(truth))
    assert found == pytest.approx(abs(shift), abs=0.01)


def test_bins_hold_equal_numbers_so_a_gap_in_a_tenth_counts_a_tenth() -> None:
    probabilities = np.repeat(np.linspace(0.0, 0.9, 10), 100)
    labels = np.concatenate([np.arange(100) < round(100 * p) for p in np.linspace(0, 0.9, 10)])
    labels = labels.astype(np.int64)
    assert evaluate.expected_calibration_error(probabilities, labels) == pytest.approx(0)
    labels[500:600] = 1
    assert evaluate.expected_calibration_error(probabilities, labels) == pytest.approx(0.05)


def test_errors_on_both_sides_do_not_cancel_between_bins() -> None:
    probabilities = np.repeat([0.2, 0.8], 500)
    labels = np.repeat([0, 1], 500)
    assert evaluate.expected_calibration_error(probabilities, labels) == pytest.approx(0.2)
    mirrored = evaluate.expected_calibration_error(probabilities[::-1], labels[::-1])
    assert mirrored == pytest.approx(0.2)


def test_fewer_rows_than_bins_are_no_trouble() -> None:
    one = evaluate.expected_calibration_error(np.array([0.3]), np.array([1]))
    assert one == pytest.approx(0.7)
    assert evaluate.expected_calibration_error(np.array([]), np.array([], np.int64)) == 0.0


TABLE = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3]])


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_top_is_the_share_of_labels_among_the_likeliest(count: int, share: float) -> None:
    labels = np.array([0, 2, 0, 0])  # first, first, second (a tie), third
    assert evaluate.top(TABLE, labels, count) == share
    assert evaluate.top(TABLE, labels, 1) == evaluate.accuracy(TABLE, labels)


def test_a_label_that_no_class_stands_for_is_never_among_the_likeliest() -> None:
    assert evaluate.top(TABLE, np.array([-1, -1, -1, 0]), 2) == 0.0


def test_log_loss_by_hand() -> None:
    expected = -(math.log(0.5) + math.log(0.7) + math.log(0.4) + math.log(0.2)) / 4
    found = evaluate.log_loss(TABLE, np.array([0, 2, 1, 0]))
    assert found == pytest.approx(expected)


def test_log_loss_of_what_was_held_impossible_is_large_and_finite() -> None:
    assert evaluate.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(34.54, 1e-3)


@pytest.mark.filterwarnings("error")
def test_log_loss_of_no_rows_is_not_a_number() -> None:
    assert math.isnan(evaluate.log_loss(np.zeros((0, 3)), np.array([], np.int64)))


@given(pairs, pairs)
def test_the_bigram_says_what_followed_most_often(
    learnt: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    def usual(labels: list[int]) -> int:
        counts = Counter(labels)
        return min(label for label in counts if counts[label] == max(counts.values()))

    overall = usual([label for _, label in learnt])
    right = 0
    for given_, label in asked:
        after = [one for condition, one in learnt if condition == given_]
        right += (usual(after) if after else overall) == label
    a, b = (np.array(one).T for one in (learnt, asked))
    assert evaluate.conditional_mode(a[0], a[1], b[0], b[1]) == pytest.approx(right / len(asked))


def trial(effects: Floats, seed: int = 1) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """Rewards, arm and weights of a trial that treats nine in ten, with these effects."""
    rng = np.random.default_rng(seed)
    treated = rng.random(len(effects)) < 0.9
    rewards = rng.normal(size=len(effects)) + effects * treated
    return rewards, treated, np.where(treated, 1 / 0.9, 1 / 0.1)


def test_qini_of_a_score_that_knows_is_that_of_the_truth() -> None:
    effects = np.random.default_rng(2).random(40_000) * 4
    # Acting on the best first gains 4 p - 2 p^2 of the most that is at hand, 2, by share p.
    assert evaluate.qini(effects, *trial(effects)) == pytest.approx(4 / 2 - 2 / 3 - 2 / 2, abs=0.05)


def test_qini_is_negative_for_a_score_that_has_it_backwards_and_nought_for_chance() -> None:
    effects = np.random.default_rng(2).random(40_000) * 4
    told = trial(effects)
    assert evaluate.qini(-effects, *told) == pytest.approx(-1 / 3, abs=0.05)
    assert evaluate.qini(np.random.default_rng(3).random(40_000), *told) == pytest.approx(
        0, abs=0.05
    )


def test_qini_needs_both_arms() -> None:
    one = np.ones(5)
    for arm in (True, False):
        assert math.isnan(evaluate.qini(one, one, np.full(5, arm), one))


@given(st.integers(0, 1000), st.floats(-50, 50))
def test_a_reward_that_everybody_gets_changes_no_qini(seed: int, more: float) -> None:
    rng = np.random.default_rng(seed)
    rewards, treated, weights = trial(rng.normal(size=200), seed)
    scores = rng.normal(size=200)
    plain = evaluate.qini(scores, rewards, treated, weights)
    assert evaluate.qini(scores, rewards + more, treated, weights) == pytest.approx(plain, abs=1e-9)
