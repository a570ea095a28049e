"""Turn scores into probabilities that can be believed. Pure."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from features.elementary import Floats
from features.kernels import Integers

_GOLDEN = (math.sqrt(5) - 1) / 2


def temperature(scores: Floats, labels: Integers) -> float:
    """Fit the one divisor of the scores that makes held-out labels most likely.

    Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.

    Args:
        scores: [rows, classes] raw scores.
        labels: [rows] column of the true class.
    """

    def loss(log_t: float) -> float:
        scaled = scores / math.exp(log_t)
        highest = scaled.max(axis=1)
        total = np.log(np.exp(scaled - highest[:, None]).sum(axis=1)) + highest
        return float(np.mean(total - scaled[np.arange(len(labels)), labels]))

    low, high = math.log(0.1), math.log(10.0)
    for _ in range(40):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t, to a thousandth from 5 degrees of freedom.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1_482 * z**5 - 1_920 * z**3 - 945 * z) / 92_160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def platt(scores: Floats, labels: Integers) -> tuple[float, float]:
    """Fit slope and offset so that sigmoid(slope x score + offset) is calibrated.

    Newton's method on the smoothed targets of Platt, Probabilistic Outputs for Support Vector
    Machines (1999).

    Args:
        scores: [rows] raw scores.
        labels: [rows] 0 or 1.
    """
    positive = int(labels.sum())
    negative = len(labels) - positive
    target = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, offset = 0.0, math.log((positive + 1) / (negative + 1))
    design = np.column_stack([scores, np.ones(len(scores))])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ [slope, offset], -500, 500)))
        gradient = design.T @ (p - target)
        weight = np.maximum(p * (1 - p), 1e-12)
        hessian = (design * weight[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        slope, offset = slope - step[0], offset - step[1]
        if np.abs(step).max() < 1e-10:
            break
    return float(slope), float(offset)
