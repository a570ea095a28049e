"""How good a model is, in the numbers the field uses. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers

Mask = npt.NDArray[np.bool_]


def auc(scores: Floats, labels: Integers) -> float:
    """Area under the ROC curve: P(a positive scores above a negative), ties counted half.

    NaN where one of the two is absent.
    """
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    _, first, count = np.unique(ordered, return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (count + 1) / 2, count)
    return float((ranks[labels > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def qini(scores: Floats, rewards: Floats, treated: Mask, weights: Floats) -> float:
    """Area between the Qini curve and the line of acting in any order, per decision.

    Radcliffe, Using Control Groups to Target on Predicted Lift (2007), with weights. It is positive
    where treatment pays more at the moments that score high. NaN where an arm is empty.

    Args:
        scores: [decisions] expected uplift of treatment.
        rewards: [decisions].
        treated: [decisions] which of them were treated, by chance.
        weights: [decisions] inverse of the probability of what was done.
    """
    if not treated.any() or treated.all():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    arms = [np.where(arm, weights, 0.0)[order] for arm in (treated, ~treated)]
    seen, seen_not = (np.cumsum(arm) for arm in arms)
    gain, gain_not = (np.cumsum(arm * rewards[order]) for arm in arms)
    known = seen_not > 0  # before the first of the others there is nothing to compare with
    share = np.divide(seen, seen_not, out=np.zeros(len(seen)), where=known)
    curve = np.append(0.0, np.where(known, gain - gain_not * share, 0.0) / seen[-1])
    along = np.append(0.0, np.cumsum(weights[order]) / weights.sum())
    above = curve - along * curve[-1]
    return float(np.sum((above[1:] + above[:-1]) / 2 * np.diff(along)))


def expected_calibration_error(probabilities: Floats, labels: Integers, bins: int = 10) -> float:
    """Mean gap between probability and frequency over bins of equal size."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [
        len(part) * abs(probabilities[part].mean() - labels[part].mean())
        for part in parts
        if len(part)
    ]
    return float(sum(gaps) / max(1, len(labels)))


def accuracy(probabilities: Floats, labels: Integers) -> float:
    """Share of rows whose likeliest class is the label; [rows, classes] and [rows]."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def top(probabilities: Floats, labels: Integers, count: int) -> float:
    """Share of rows whose label is among the likeliest ``count`` classes."""
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return float(np.mean((likeliest == labels[:, None]).any(axis=1)))


def log_loss(probabilities: Floats, labels: Integers) -> float:
    """Mean of -ln P(label); NaN of no rows."""
    if not len(labels):
        return float("nan")
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-15)).mean())


def conditional_mode(
    given: Integers, labels: Integers, later_given: Integers, later_labels: Integers
) -> float:
    """Accuracy of always saying what followed most often: the bigram that a model must beat."""
    pairs: dict[int, dict[int, int]] = {}
    overall: dict[int, int] = {}
    for condition, label in zip(given.tolist(), labels.tolist(), strict=True):
        counts = pairs.setdefault(condition, {})
        counts[label] = counts.get(label, 0) + 1
        overall[label] = overall.get(label, 0) + 1
    mode = {condition: _mode(counts) for condition, counts in pairs.items()}
    usual = _mode(overall)
    said = np.array([mode.get(condition, usual) for condition in later_given.tolist()])
    return float(np.mean(said == later_labels))


def _mode(counts: dict[int, int]) -> int:
    return max(counts, key=lambda label: (counts[label], -label))
