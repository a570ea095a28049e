from __future__ import annotations

import numpy as np
import pytest

from features.elementary import Floats
from features.kernels import Integers
from training import calibrate, evaluate


def softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def drawn(scores: Floats, rng: np.random.Generator) -> Integers:
    """A class of each row with the probabilities that the scores say."""
    chances = softmax(scores).cumsum(axis=1)
    return np.asarray((rng.random((len(scores), 1)) > chances[:, :-1]).sum(axis=1), np.int64)


def sigmoid(scores: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-scores)))


@pytest.mark.parametrize("wanted", [0.25, 0.7, 1.0, 2.5, 6.0])
def test_temperature_is_recovered(wanted: float) -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 1.5, (20_000, 5))
    labels = drawn(honest, rng)
    assert calibrate.temperature(honest * wanted, labels) == pytest.approx(wanted, rel=0.04)


def test_temperature_improves_the_log_loss_of_scores_too_sure_of_themselves() -> None:
    rng = np.random.default_rng(2)
    honest = rng.normal(0, 1.5, (4_000, 5))
    labels, sure = drawn(honest, rng), honest * 3
    before = evaluate.log_loss(softmax(sure), labels)
    found = calibrate.temperature(sure[:2_000], labels[:2_000])
    after = evaluate.log_loss(softmax(sure[2_000:] / found), labels[2_000:])
    assert after < 0.9 * before


def test_temperature_is_that_of_the_least_loss() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 3, (300, 4))
    labels = drawn(scores / 2, rng)
    found = calibrate.temperature(scores, labels)
    losses = {t: evaluate.log_loss(softmax(scores / t), labels) for t in np.linspace(0.2, 9, 400)}
    assert evaluate.log_loss(softmax(scores / found), labels) <= min(losses.values()) + 1e-9


def test_temperature_stands_scores_of_any_size() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0, 1e4, (100, 3))
    found = calibrate.temperature(scores, rng.integers(0, 3, 100))
    assert 0.1 <= found <= 10


@pytest.mark.parametrize(
    ("slope", "offset"), [(1.0, 0.0), (0.4, -1.5), (3.0, 0.5), (0.05, -2.0), (20.0, 3.0)]
)
def test_slope_and_offset_are_recovered(slope: float, offset: float) -> None:
    rng = np.random.default_rng(5)
    honest = rng.normal(0, 1.5, 60_000)
    labels = (rng.random(len(honest)) < sigmoid(honest)).astype(np.int64)
    found = calibrate.platt((honest - offset) / slope, labels)
    assert found == pytest.approx((slope, offset), rel=0.06, abs=0.05)


def test_slope_and_offset_are_those_of_the_least_loss() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(0, 2, 5_000)
    labels = (rng.random(5_000) < sigmoid(0.5 * scores - 1)).astype(np.int64)

    def loss(slope: float, offset: float) -> float:
        p = sigmoid(slope * scores + offset)
        positive, negative = labels.sum(), len(labels) - labels.sum()
        target = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
        return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())

    slope, offset = calibrate.platt(scores, labels)
    around = [loss(slope + a, offset + b) for a in (-0.01, 0.01) for b in (-0.01, 0.01)]
    assert loss(slope, offset) < min(around)


def test_platt_improves_log_loss_and_calibration() -> None:
    rng = np.random.default_rng(7)
    honest = rng.normal(0, 1.5, 8_000)
    labels = (rng.random(len(honest)) < sigmoid(honest)).astype(np.int64)
    sure = 3 * honest + 2

    def measured(scores: Floats, labels: Integers) -> tuple[float, float]:
        p = sigmoid(scores)
        return (
            evaluate.log_loss(np.column_stack([1 - p, p]), labels),
            evaluate.expected_calibration_error(p, labels),
        )

    slope, offset = calibrate.platt(sure[:4_000], labels[:4_000])
    before = measured(sure[4_000:], labels[4_000:])
    after = measured(slope * sure[4_000:] + offset, labels[4_000:])
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.3 * before[1]


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0, 1e3])
def test_scores_that_separate_the_labels_give_finite_numbers(size: float) -> None:
    scores = np.repeat([-size, size], 200)
    slope, offset = calibrate.platt(scores, np.repeat([0, 1], 200))
    assert slope * size == pytest.approx(-np.log(1 / 201), rel=0.01)
    assert offset == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_labels_all_of_one_kind_give_a_probability_near_it_and_never_quite(label: int) -> None:
    scores = np.random.default_rng(8).normal(0, 1, 98)
    slope, offset = calibrate.platt(scores, np.full(98, label))
    p = sigmoid(slope * scores + offset)
    assert np.allclose(p, [0.01, 0.99][label])


def test_scores_all_alike_give_the_base_rate() -> None:
    labels = np.repeat([0, 0, 0, 1], 500)
    slope, offset = calibrate.platt(np.full(2_000, -3.0), labels)
    assert sigmoid(np.array([-3 * slope + offset]))[0] == pytest.approx(0.25, abs=0.002)


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.95, 7, 1.8946), (0.975, 7, 2.3646), (0.95, 15, 1.7531), (0.75, 9, 0.7027), (0.5, 5, 0.0)],
)
def test_quantiles_of_student_are_those_of_the_tables(
    probability: float, freedom: int, quantile: float
) -> None:
    assert calibrate.student(probability, freedom) == pytest.approx(quantile, abs=1e-3)
