"""Doubles, nested fields and numbers in words, for loops that write to addresses. Pure.

:mod:`service.writing` has the rest. Each function writes at an address and gives the one behind
what it wrote; whoever calls knows that there is room.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.writing import head, put, shift

HEAD: Final = 4
"""Bytes that stand open for the key and the length of a field until :func:`close`."""
NUMBER: Final = 20
"""Bytes that :func:`fixed` writes at most."""
MOST: Final = 1 << 7 * (HEAD - 1)
"""A field that :func:`close` closes is shorter than this."""
UNTOLD: Final = -1
"""In place of an address: the number is too large to be told here."""

_DOUBLE: Final = 1  # kind of a field of 8 bytes
_MINUS, _POINT, _NOUGHT = ord("-"), ord("."), ord("0")
_FRACTION: Final = 52  # bits
_BIAS: Final = 1075  # a double is its whole bits times 2 to the exponent less this


@numba.njit(cache=True)
def optional(at: int, number: int, value: float) -> int:
    """Write a double that is there, whatever it is."""
    at = put(at, number << 3 | _DOUBLE)
    bits = int(np.float64(value).view(np.int64))
    for i in range(8):
        put(at + i, bits >> 8 * i & 0xFF)
    return at + 8


@numba.njit(cache=True)
def double(at: int, number: int, value: float) -> int:
    """Write a double; minus zero is no default."""
    return at if np.float64(value).view(np.int64) == 0 else optional(at, number, value)


@numba.njit(cache=True)
def close(begin: int, at: int, number: int) -> int:
    """Put key and length before what stands from ``begin`` + :data:`HEAD` to ``at``."""
    size = at - begin - HEAD
    return shift(head(begin, number, size), begin + HEAD, size)


@numba.njit(cache=True)
def digits(at: int, number: int) -> int:
    """Write a number that is not negative."""
    size, rest = 1, number // 10
    while rest:
        size += 1
        rest //= 10
    for i in range(size):
        put(at + size - 1 - i, _NOUGHT + number % 10)
        number //= 10
    return at + size


@numba.njit(cache=True)
def fixed(at: int, value: float, decimals: int) -> int:
    """Write so many decimals, 0 to 2, as ``f"{value:.2f}"`` has them; or give :data:`UNTOLD`.

    Exact: the whole bits of a double times 100 fit into 60 bits. What is cut off of them is
    compared with a half, and where it is one, the even digit wins.
    """
    bits = int(np.float64(value).view(np.int64))
    exponent = bits >> _FRACTION & 0x7FF
    mantissa = bits & (1 << _FRACTION) - 1
    if exponent > 0:
        mantissa |= 1 << _FRACTION
    else:
        exponent = 1
    below = _BIAS - exponent
    if below <= 0:
        return UNTOLD
    scale = 1
    for _ in range(decimals):
        scale *= 10
    scaled, found = mantissa * scale, 0
    if below < 63:
        found, half = scaled >> below, 1 << below - 1
        rest = scaled & (1 << below) - 1
        if rest > half or (rest == half and found & 1):
            found += 1
    if bits < 0:
        at = put(at, _MINUS)
    at = digits(at, found // scale)
    if decimals:
        at = put(at, _POINT)
        rest = found % scale
        while scale > 1:
            scale //= 10
            at = put(at, _NOUGHT + rest // scale % 10)
    return at


@numba.njit(cache=True)
def sorted_down(strengths: Floats, order: Integers) -> None:
    """Order a few places by their strength, highest first, equal ones as they stand."""
    for i in range(order.shape[0]):
        order[i] = i
        j = i
        while j > 0 and strengths[order[j - 1]] < strengths[i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
