"""Read the headers that a gRPC server sends: HPACK (RFC 7541), as far as they use it. Pure.

A block that adds nothing to the table means the same whenever it comes again, so the status of
nearly every call costs one look-up. What is Huffman-coded is kept as it is: gRPC's servers write
``grpc-status`` in plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_STATIC: Final = tuple(
    (name, value)
    for line in """:authority
:method GET|POST
:path /|/index.html
:scheme http|https
:status 200|204|206|304|400|404|500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate""".splitlines()
    for name, _, values in [line.partition(" ")]
    for value in values.split("|")
)
"""Table of Appendix A; its first entry has the index 1."""

_OVERHEAD: Final = 32  # bytes that an entry of the table counts beyond its text, section 4.1
_TABLE: Final = 4_096  # bytes of table that we let a server use: the default

Header = tuple[str, str]


class Decoder:
    """What one connection's header blocks mean; blocks have to be shown in the order they came."""

    def __init__(self) -> None:
        self._dynamic: list[Header] = []  # newest first
        self._size = 0
        self._limit = _TABLE
        self._known: dict[bytes, dict[str, str]] = {}

    def __call__(self, block: bytes) -> dict[str, str]:
        """Headers of a block by name; of the same name, the last.

        Raises:
            ValueError: It is no HPACK, or more of it than is read here.
        """
        found = self._known.get(block)
        if found is None:
            before = (self._dynamic[:1], len(self._dynamic), self._limit)
            found = dict(self._read(block))
            if before == (self._dynamic[:1], len(self._dynamic), self._limit):
                self._known[block] = found
            else:
                self._known.clear()
        return found

    def _read(self, block: bytes) -> Iterator[Header]:
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                yield self._entry(index)
            elif first & 0xE0 == 0x20:
                self._limit, at = _integer(block, at, 5)
                self._evict()
            else:
                keep = bool(first & 0x40)
                index, at = _integer(block, at, 6 if keep else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                if keep:
                    self._dynamic.insert(0, (name, value))
                    self._size += _OVERHEAD + len(name) + len(value)
                    self._evict()
                yield name, value

    def _entry(self, index: int) -> Header:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        try:
            return self._dynamic[index - len(_STATIC) - 1]
        except IndexError:
            raise ValueError(f"header {index} is not in the table") from None

    def _evict(self) -> None:
        while self._size > self._limit and self._dynamic:
            name, value = self._dynamic.pop()
            self._size -= _OVERHEAD + len(name) + len(value)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits, section 5.1, and where the next thing begins."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _text(block: bytes, at: int) -> tuple[str, int]:
    coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    text = block[at : at + length].decode("latin-1")
    if len(text) < length:
        raise ValueError("a header block ends within a text")
    return ("(Huffman) " + text if coded else text), at + length


def literal(name: str, value: str) -> bytes:
    """A header that the receiver adds to its table: shorter from then on, see :func:`indexed`."""
    return b"\x40" + _written(name) + _written(value)


def indexed(index: int) -> bytes:
    """A header of the table; 62 is the newest of those that were added."""
    if not 1 <= index < 0x7F:
        raise ValueError(f"index {index} does not fit one byte")
    return bytes([0x80 | index])


def _written(text: str) -> bytes:
    if len(text) >= 0x7F:
        raise ValueError(f"{text!r} is too long for a header of ours")
    return bytes([len(text)]) + text.encode()
