"""Fields as protobuf writes them, for loops: what :mod:`service.wire` is for lines. Pure.

Numbers of fields are 1 to 15, whose key is one byte. Whoever writes knows that there is room.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba.core import types
from numba.core.cgutils import raw_memcpy
from numba.extending import intrinsic

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


def _to_move(_typing: Any, _to: Any, _origin: Any, _size: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = context.get_value_type(types.voidptr)
        to, origin = (builder.inttoptr(one, pointer) for one in arguments[:2])
        raw_memcpy(builder, to, origin, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


_move: Any = intrinsic(_to_move)
"""Copy bytes from one address to another.

A loop over them becomes five hundred bytes of code wherever it stands, and what a kernel has to
fetch first is what it takes.
"""


@numba.njit(cache=True)
def copy(out: Bytes, at: int, part: Bytes) -> int:
    """Write bytes as they are; where they end."""
    size: int = part.shape[0]
    if size:
        _move(out.ctypes.data + at, part.ctypes.data, size)
    return at + size
