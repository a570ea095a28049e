"""exp, sigmoid and softmax from + and x alone, so that every CPU gives the same bits. Pure.

The C library picks another routine where it finds FMA, and its ``exp`` then differs in the last
bit; a decision that is replayed on another machine must not. The error here is below 2 ulp over
the whole range (``tests/features/test_elementary.py``).
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 6.93147180369123816490e-01  # 33 bits, so that k x high is exact
_LN2_LOW: Final = 1.90821492927058770002e-10
_LARGEST: Final = 709.0
_SMALLEST: Final = -708.0
_POWERS: Final = np.ldexp(1.0, np.arange(-1022, 1024))


@numba.njit(cache=True)
def exp(x: float) -> float:
    """E to the x; 0 below -708 and e to the 709 above 709. NaN stays NaN.

    Cody and Waite's reduction to |r| <= ln(2)/2, then the Taylor polynomial of degree 13, whose
    remainder there is under 5e-18.
    """
    if np.isnan(x):
        return x
    if x < _SMALLEST:
        return 0.0
    x = min(x, _LARGEST)
    half = 0.5 if x >= 0 else -0.5
    k = int(x * _LOG2_E + half)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return float(p * _POWERS[k + 1022])


@numba.njit(cache=True)
def sigmoid(scores: Floats) -> Floats:
    """Turn log-odds into probabilities, element by element."""
    out = np.empty(scores.shape[0])
    for i in range(scores.shape[0]):
        if scores[i] >= 0:
            out[i] = 1.0 / (1.0 + exp(-scores[i]))
        else:
            e = exp(scores[i])
            out[i] = e / (1.0 + e)
    return out


@numba.njit(cache=True)
def softmax(scores: Floats) -> Floats:
    """Turn scores [n] into probabilities [n] that add up to 1."""
    out = np.empty(scores.shape[0])
    highest = scores[0]
    for i in range(1, scores.shape[0]):
        highest = max(highest, scores[i])
    total = 0.0
    for i in range(scores.shape[0]):
        out[i] = exp(scores[i] - highest)
        total += out[i]
    for i in range(scores.shape[0]):
        out[i] /= total
    return out
