"""Fields as protobuf writes them, for loops: what :mod:`service.wire` is for lines. Pure.

Numbers of fields are 1 to 15, whose key is one byte. Whoever writes knows that there is room.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from service.drawing import Bytes

_BYTES: Final = 2  # kind of a field that says how long it is


@numba.njit(cache=True)
def varint_size(number: int) -> int:
    """Bytes of a whole number of 64 bits."""
    rest, size = np.uint64(number) >> np.uint64(7), 1
    while rest:
        rest >>= np.uint64(7)
        size += 1
    return size


@numba.njit(cache=True)
def varint(out: Bytes, at: int, number: int) -> int:
    """Write a whole number of 64 bits; where it ends."""
    rest = np.uint64(number)
    while rest > np.uint64(0x7F):
        out[at] = rest & np.uint64(0x7F) | np.uint64(0x80)
        rest >>= np.uint64(7)
        at += 1
    out[at] = rest
    return at + 1


@numba.njit(cache=True)
def field_size(size: int) -> int:
    """Bytes of a field that has so many behind its head, and is there though it has none."""
    return 1 + varint_size(size) + size


@numba.njit(cache=True)
def text_size(size: int) -> int:
    """The same of a field that is not there if it has none."""
    return field_size(size) if size else 0


@numba.njit(cache=True)
def whole_size(number: int) -> int:
    """Bytes of a field of a whole number; none of zero."""
    return 1 + varint_size(number) if number else 0


@numba.njit(cache=True)
def head(out: Bytes, at: int, field: int, size: int) -> int:
    """Write what stands before the bytes of a field; where it ends."""
    out[at] = field << 3 | _BYTES
    return varint(out, at + 1, size)


@numba.njit(cache=True)
def whole(out: Bytes, at: int, field: int, number: int) -> int:
    """Write a field of a whole number, if it is not zero; where it ends."""
    if not number:
        return at
    out[at] = field << 3
    return varint(out, at + 1, number)


@numba.njit(cache=True)
def copy(out: Bytes, at: int, part: Bytes) -> int:
    """Write bytes as they are; where they end."""
    size: int = part.shape[0]
    into = out[at : at + size]
    for i in range(size):
        into[i] = part[i]
    return at + size
