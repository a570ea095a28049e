"""Lengths as protobuf writes them, for messages that are put together from bytes. Pure."""

from __future__ import annotations

from typing import Final

_SHORT: Final = tuple(bytes((size,)) for size in range(0x80))


def length(size: int) -> bytes:
    """A length of up to 2 MB as a varint."""
    if size < 0x80:
        return _SHORT[size]
    if size < 0x4000:
        return bytes((size & 0x7F | 0x80, size >> 7))
    return bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14))
