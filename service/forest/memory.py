"""Arrays at an address, for kernels whose data is one mapped block.

A slice and a view of it are some hundred instructions each in numba, with checks and reference
counts; a kernel with forty of them is 110 KB of code, which has to come from memory between two
requests of a server. An array at an address is two instructions. Whoever calls keeps the memory
alive and vouches for the block.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from service.forest.layout import NUMBERS
from service.spans import pointer


def _lowest_bit(_typing: Any, _word: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found = builder.cttz(arguments[0], context.get_constant(types.boolean, True))
        return builder.zext(found, context.get_value_type(types.uint64))

    return types.uint64(types.uint32), build


lowest: Any = intrinsic(_lowest_bit)
"""Place of the lowest bit of a uint32 that is not 0: one instruction, as numba has none."""


@numba.njit(cache=True, inline="always")
def number(block: int, which: int) -> int:
    """A number of the header of the block at an address."""
    found: int = carray(pointer(block), (NUMBERS,), np.int64)[which]
    return found


@numba.njit(cache=True, inline="always")
def array(block: int, which: int, inside: int, dtype: Any) -> Any:
    """A section of the block, or of the scratch that begins at ``inside``."""
    at = carray(pointer(block + 8 * NUMBERS + 16 * which), (2,), np.int64)
    return carray(pointer(inside + at[0]), (at[1],), dtype)


@numba.njit(cache=True, inline="always")
def address(block: int, which: int, inside: int) -> int:
    """Where a section begins."""
    found: int = inside + carray(pointer(block + 8 * NUMBERS + 16 * which), (2,), np.int64)[0]
    return found
