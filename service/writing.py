"""Fields as protobuf writes them, for loops: what :mod:`service.wire` is for lines. Pure.

They are written to addresses: slices are some hundred instructions each, and what a kernel has to
fetch before it runs is much of what it costs (see :mod:`service.forest.memory`). Whoever writes
knows that there is room. Numbers of fields are 1 to 15, whose key is one byte.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.core.cgutils import raw_memcpy, raw_memmove
from numba.extending import intrinsic

from service.spans import pointer

_BYTES: Final = 2  # kind of a field that says how long it is


def _moved(raw: Any, context: Any, builder: Any, arguments: Any) -> Any:
    address = context.get_value_type(types.voidptr)
    to, origin = (builder.inttoptr(one, address) for one in arguments[:2])
    raw(builder, to, origin, arguments[2], 1)
    return context.get_dummy_value()


def _to_move(_typing: Any, _to: Any, _origin: Any, _size: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _moved(raw_memcpy, context, builder, arguments)

    return types.void(types.int64, types.int64, types.int64), build


def _to_shift(_typing: Any, _to: Any, _origin: Any, _size: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _moved(raw_memmove, context, builder, arguments)

    return types.void(types.int64, types.int64, types.int64), build


_move: Any = intrinsic(_to_move)
_shift: Any = intrinsic(_to_shift)


@numba.njit(cache=True, inline="always")
def address(array: Any) -> int:
    """Where an array lies; whoever asks keeps it."""
    found: int = np.int64(array.ctypes.data)  # type: ignore[assignment]
    return found


@numba.njit(cache=True, inline="always")
def word(at: int, which: int) -> int:
    """One of the words at an address."""
    found: int = carray(pointer(at + 8 * which), (1,), np.int64)[0]
    return found


@numba.njit(cache=True, inline="always")
def real(at: int, which: int) -> float:
    """The same as a double."""
    found: float = carray(pointer(at + 8 * which), (1,), np.float64)[0]
    return found


@numba.njit(cache=True, inline="always")
def put(at: int, byte: int) -> int:
    """Write a byte; where it ends."""
    carray(pointer(at), (1,), np.uint8)[0] = byte
    return at + 1


@numba.njit(cache=True, inline="always")
def copy(at: int, origin: int, size: int) -> int:
    """Write bytes as they stand at another address; where they end."""
    _move(at, origin, size)
    return at + size


@numba.njit(cache=True, inline="always")
def shift(at: int, origin: int, size: int) -> int:
    """The same where the two may overlap."""
    _shift(at, origin, size)
    return at + size


@numba.njit(cache=True)
def varint_size(number: int) -> int:
    """Bytes of a whole number of 64 bits."""
    size, rest = 1, number >> 7 & 2**57 - 1  # its sign does not move in
    while rest:
        rest >>= 7
        size += 1
    return size


@numba.njit(cache=True)
def varint(at: int, number: int) -> int:
    """Write a whole number of 64 bits; where it ends."""
    for _ in range(varint_size(number) - 1):
        at = put(at, number & 0x7F | 0x80)
        number = number >> 7 & 2**57 - 1  # its sign does not move in
    return put(at, number)


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
def head(at: int, number: int, size: int) -> int:
    """Write what stands before the bytes of a field; where it ends."""
    return varint(put(at, number << 3 | _BYTES), size)


@numba.njit(cache=True)
def field(at: int, number: int, origin: int, size: int) -> int:
    """Write a field of bytes that stand somewhere, though it may have none; where it ends."""
    return copy(head(at, number, size), origin, size)


@numba.njit(cache=True)
def whole(at: int, number: int, value: int) -> int:
    """Write a field of a whole number, if it is not zero; where it ends."""
    return varint(put(at, number << 3), value) if value else at
