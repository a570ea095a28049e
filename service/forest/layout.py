"""The one block of bytes that a compiled forest is: how it is written, found again and mapped.

A header of int64 numbers, then sections that each begin at a cache line. One block can be written
by the process that compiles and mapped by the one that serves; and a kernel takes one array in
place of forty, which saves 5 us a call.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.forest.trees import Bytes

MAGIC: Final = 0x52505446
VERSION: Final = 2

NUMBERS: Final = 16  # places for numbers in the header, before the sections
_SECTIONS: Final = 55
_HEADER: Final = 8 * (NUMBERS + 2 * _SECTIONS)
_LINE: Final = 64

# Numbers
SIZE, ROWS, CLASSES, WORDS, VECTOR, PAIRS, SCRATCH, PAIR_WORDS, SETS_EACH = range(2, 11)

# How values decide: once for the customer's, once for those of pairs
LANES, TOPS, THRESHOLDS, USUAL_FLIPS, CODES, LISTS, BEYOND, SETS, SLOTS = range(9)
CUSTOMER, PAIR = 0, 9
# Trees that give every row the same
STEADY, STEADY_TESTS, STEADY_CLASS, STEADY_LEAVES = range(18, 22)
# The others, as words
PACKS, TESTS, WHOLE, SCALE, SPANS, START, ALIVE, FEW, MOST, RECORDS = range(22, 32)
# Rows whose pair features are not the usual ones
PAIR_WORD, PAIR_PACKS, PAIR_TESTS, PAIR_START, PAIR_SPANS, PAIR_LEAVES = range(32, 38)
BY_ACTION, HIDES, USUAL = range(38, 41)
# In the scratch block
TABLE, FLIPS, EXITS, STEADY_TOTALS, MASKS, TOTALS, BASES = range(41, 48)
HIT_AT, HIT_VALUE, PAIR_MASKS, ROW_MASKS, ROW_TOTALS, KEPT, ANSWER = range(48, 55)


def number(block: Bytes, which: int) -> int:
    """A number of the header."""
    return int(block[: 8 * NUMBERS].view(np.int64)[which])


def section(block: Bytes, which: int, inside: Bytes, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A section of ``inside``: the block itself, or its scratch."""
    begin, size = block[8 * NUMBERS : _HEADER].view(np.int64)[2 * which : 2 * which + 2]
    return inside[begin : begin + size * np.dtype(dtype).itemsize].view(dtype)


def aligned(size: int) -> Bytes:
    """Zeroed bytes that begin at a cache line."""
    raw = np.zeros(size + _LINE, np.uint8)
    skip = -raw.ctypes.data % _LINE
    return raw[skip : skip + size]


def write(
    numbers: Mapping[int, int],
    sections: Mapping[int, npt.NDArray[Any]],
    scratch: Mapping[int, tuple[int, int]],
) -> Bytes:
    """Lay out a block.

    Args:
        numbers: Of the header.
        sections: Contents by section.
        scratch: Elements by scratch section, and the bytes of one.
    """
    header = np.zeros(_HEADER // 8, np.int64)
    header[0], header[1] = MAGIC, VERSION
    at = _HEADER
    for which, content in sections.items():
        at += -at % _LINE
        header[NUMBERS + 2 * which : NUMBERS + 2 * which + 2] = at, content.size
        at += content.nbytes
    size = at + -at % _LINE
    at = 0
    for which, (elements, bytes_each) in scratch.items():
        header[NUMBERS + 2 * which : NUMBERS + 2 * which + 2] = at, elements
        at += elements * bytes_each
        at += -at % _LINE
    for which, value in {**numbers, SIZE: size, SCRATCH: at}.items():
        header[which] = value
    block = aligned(size)
    block[:_HEADER] = header.view(np.uint8)
    for which, content in sections.items():
        begin = header[NUMBERS + 2 * which]
        block[begin : begin + content.nbytes] = (
            np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        )
    return block


def read(stored: bytes | Path) -> Bytes:
    """Take a block from bytes, or map it from a file, which may be deleted then.

    Raises:
        ValueError: It is none, of another version, or cut off.
    """
    if isinstance(stored, Path):
        with stored.open("rb") as file:
            block = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    else:
        block = aligned(len(stored))
        block[:] = np.frombuffer(stored, np.uint8)
    if len(block) < _HEADER:
        raise ValueError("a compiled forest: too short to be one")
    header = block[: 8 * NUMBERS].view(np.int64)
    if header[0] != MAGIC or header[1] != VERSION:
        raise ValueError("a compiled forest: written by another version; compile it again")
    if header[SIZE] != len(block):
        raise ValueError(f"a compiled forest: {len(block)} bytes in place of {header[SIZE]}")
    return block
