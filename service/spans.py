"""Arrays that stay as they are, handed to a kernel as the addresses of where they lie.

A kernel that takes twenty arrays spends more on taking them than on most of its steps; one that
takes their addresses as one array of words does not. :class:`Spans` keeps the arrays; whoever made
it keeps it for as long as the kernel may be called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from features.kernels import Integers


def _to_pointer(_typing: Any, _address: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), build


pointer: Any = intrinsic(_to_pointer)
"""An address as a pointer, for ``numba.carray``."""


class Spans:
    """Arrays by number, and plain numbers behind them.

    Args:
        arrays: Contiguous; kept as they are.
        numbers: Whole numbers that the kernel wants to know too.
    """

    def __init__(self, arrays: Sequence[npt.NDArray[Any]], numbers: Sequence[int] = ()) -> None:
        self._kept = [np.ascontiguousarray(one) for one in arrays]
        told: list[int] = []
        for one in self._kept:
            told += one.ctypes.data, one.size
        self.words: Integers = np.array([*told, *numbers], np.int64)
        self.address: int = self.words.ctypes.data
        """Where the words lie, for a kernel that is told so among other numbers."""


@numba.njit(cache=True, inline="always")
def span(words: Integers, which: int, dtype: Any) -> Any:
    """One of the arrays, flat."""
    return carray(pointer(words[2 * which]), (words[2 * which + 1],), dtype)
