"""Fields as protobuf writes them, and numbers as Python words them, from compiled loops. Pure.

:mod:`service.wire` does the same for Python. Each function writes at a place of ``out`` and gives
the place behind what it wrote; whoever calls knows that there is room.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.drawing import Bytes

HEAD: Final = 4
"""Bytes that stand open for the key and the length of a field until :func:`close`."""
NUMBER: Final = 20
"""Bytes that :func:`fixed` writes at most."""
MOST: Final = 1 << 7 * (HEAD - 1)
"""A field that :func:`close` closes is shorter than this."""
UNTOLD: Final = -1
"""In place of a number's end: it is too large to be told here."""

_MINUS, _POINT, _NOUGHT = ord("-"), ord("."), ord("0")
_FRACTION: Final = 52  # bits
_BIAS: Final = 1075  # a double is its whole bits times 2 to the exponent less this


@numba.njit(cache=True)
def varint(out: Bytes, at: int, number: int) -> int:
    """A whole number that is not negative."""
    while number > 0x7F:
        out[at] = number & 0x7F | 0x80
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@numba.njit(cache=True)
def copy(out: Bytes, at: int, blob: Bytes, ends: Integers, piece: int) -> int:
    """One of the pieces of a blob; piece ``n`` ends at ``ends[n + 1]``."""
    begin = ends[piece]
    size: int = ends[piece + 1] - begin
    for i in range(size):
        out[at + i] = blob[begin + i]
    return at + size


@numba.njit(cache=True)
def optional(out: Bytes, at: int, number: int, value: float) -> int:
    """A double that is there, whatever it is."""
    out[at] = number << 3 | 1
    bits = np.float64(value).view(np.int64)
    for i in range(8):
        out[at + 1 + i] = bits >> 8 * i & 0xFF
    return at + 9


@numba.njit(cache=True)
def double(out: Bytes, at: int, number: int, value: float) -> int:
    """A double; minus zero is no default."""
    return at if np.float64(value).view(np.int64) == 0 else optional(out, at, number, value)


@numba.njit(cache=True)
def close(out: Bytes, begin: int, at: int, number: int) -> int:
    """Put key and length before what stands from ``begin`` + :data:`HEAD` to ``at``."""
    size = at - begin - HEAD
    out[begin] = number << 3 | 2
    to = varint(out, begin + 1, size)
    for i in range(size):
        out[to + i] = out[begin + HEAD + i]
    return to + size


@numba.njit(cache=True)
def whole(out: Bytes, at: int, number: int) -> int:
    """A number that is not negative, in digits."""
    digits = 1
    rest = number // 10
    while rest:
        digits += 1
        rest //= 10
    for i in range(digits):
        out[at + digits - 1 - i] = _NOUGHT + number % 10
        number //= 10
    return at + digits


@numba.njit(cache=True)
def fixed(out: Bytes, at: int, value: float, decimals: int) -> int:
    """A number with so many decimals, 0 to 2, as ``f"{value:.2f}"`` has it; or :data:`UNTOLD`.

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
    shift = _BIAS - exponent
    if shift <= 0:
        return UNTOLD
    scale = 1
    for _ in range(decimals):
        scale *= 10
    scaled, found = mantissa * scale, 0
    if shift < 63:
        found, half = scaled >> shift, 1 << shift - 1
        rest = scaled & (1 << shift) - 1
        if rest > half or (rest == half and found & 1):
            found += 1
    if bits < 0:
        out[at] = _MINUS
        at += 1
    at = whole(out, at, found // scale)
    if decimals:
        out[at] = _POINT
        at += 1
        rest = found % scale
        while scale > 1:
            scale //= 10
            out[at] = _NOUGHT + rest // scale % 10
            at += 1
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
