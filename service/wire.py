"""Fields as protobuf writes them, for messages that are too frequent to be built first. Pure.

What is a default in proto3 is written as nothing. Numbers of fields are 1 to 15, whose key is one
byte. See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeVar

_BYTES: Final = tuple(bytes((number,)) for number in range(0x80))
_DOUBLE: Final = struct.Struct("<Bd").pack
_NAMED: Final = 4_096  # names of one configuration, and of the one before

K = TypeVar("K")
V = TypeVar("V")


class Memory(dict[K, bytes]):
    """What was written of things that come again and again; it begins anew where it is full.

    A hit is one look into a dict. ``lru_cache`` moves what it finds to the front of a list too, and
    what that touches is not in the processor's cache either.

    Args:
        write: What is remembered of a thing.
        most: Things that it holds.
    """

    def __init__(self, write: Callable[[K], bytes], most: int) -> None:
        super().__init__()
        self._write, self._most = write, most

    def __missing__(self, thing: K) -> bytes:
        written = self._write(thing)
        if len(self) >= self._most:
            self.clear()
        self[thing] = written
        return written


class Kept(dict[int, tuple[K, V]]):
    """What was made of objects that come again as themselves; it begins anew where it is full.

    They are found by their ``id``, and kept, so that it stays theirs: to compare them would take
    longer than to look them up.

    Args:
        most: Objects that it holds.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, thing: K, made: V) -> tuple[K, V]:
        """Keep what was made of an object."""
        if len(self) >= self._most:
            self.clear()
        found = self[id(thing)] = thing, made
        return found


def varint(number: int) -> bytes:
    """A whole number of at most 64 bits; a negative one as its two's complement."""
    if 0 <= number < 0x80:
        return _BYTES[number]
    if 0 < number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    rest, found = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def head(number: int, size: int) -> bytes:
    """What stands before the bytes of a field that has ``size`` of them."""
    if size < 0x80:
        return bytes((number << 3 | 2, size))
    if size < 0x4000:
        return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7))
    return _BYTES[number << 3 | 2] + varint(size)


def nested(number: int, payload: bytes) -> bytes:
    """A field that holds a message, or bytes; there, though it may be empty."""
    size = len(payload)
    if size < 0x80:  # as in head, without the call
        return bytes((number << 3 | 2, size)) + payload
    if size < 0x4000:
        return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7)) + payload
    return head(number, size) + payload


def packed(number: int, payload: bytes) -> bytes:
    """A field of bytes."""
    return nested(number, payload) if payload else b""


def text(number: int, value: str) -> bytes:
    """A field of text."""
    return nested(number, value.encode()) if value else b""


def whole(number: int, value: int) -> bytes:
    """A field of a whole number, an enum or a truth."""
    return _BYTES[number << 3] + varint(value) if value else b""


def optional(number: int, value: float) -> bytes:
    """A double that is there, whatever it is."""
    return _DOUBLE(number << 3 | 1, value)


def double(number: int, value: float) -> bytes:
    """A double; minus zero is no default."""
    found = _DOUBLE(number << 3 | 1, value)
    return found if value or found[-1] else b""


def amounts(number: int, named: Iterable[tuple[str, float]]) -> list[bytes]:
    """Messages of a name and a double each, fields 1 and 2."""
    return [
        _named[number, name] + _DOUBLE(2 << 3 | 1, value)
        if value
        else nested(number, text(1, name) + double(2, value))
        for name, value in named
    ]


def _name(named: tuple[int, str]) -> bytes:
    """All of such a message but the double."""
    number, name = named
    written = text(1, name)
    return head(number, len(written) + 9) + written


_named: Final = Memory(_name, _NAMED)


_NANOS: Final = tuple(whole(2, 1_000_000 * ms) for ms in range(1_000))


def moment(ms: int) -> bytes:
    """What a Timestamp of a moment in milliseconds holds."""
    seconds, rest = divmod(ms, 1_000)
    return _seconds(seconds) + _NANOS[rest]


@lru_cache(256)  # decisions are made now, most of them in the second of the one before
def _seconds(seconds: int) -> bytes:
    return whole(1, seconds)
