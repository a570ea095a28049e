"""Numbers that are left to chance, and are the same for a seed on every machine.

Splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
number ``n`` of a seed is a hash of the seed and of ``n``, so none has to be computed before it and
nothing has to be set up for a seed. The seed is hashed too: neighbours are strangers. Where seeds
come from is no such number: :class:`Entropy` is the system's.
"""

from __future__ import annotations

import secrets
from typing import Final

import numba
import numpy as np

from features.elementary import Floats

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_STEP: Final = 2.0**-53
_SIGN: Final = 1 << 63
_WORD: Final = (1 << 64) - 1
_AT_ONCE: Final = 384  # bytes of entropy


class Chance:
    """The numbers of one seed, in order.

    Args:
        seed: Of which 64 bits count.
    """

    def __init__(self, seed: int) -> None:
        self._seed = signed(seed)
        self.taken = 0

    def ahead(self, count: int) -> Floats:
        """The numbers that come next, from 0 to below 1. None is taken yet."""
        return numbers(self._seed, self.taken, count)

    def take(self, count: int) -> None:
        """Go past so many of them."""
        self.taken += count


class Entropy:
    """Bytes that nobody can foretell, asked of the system some hundred at a time.

    Each question to the system costs a decision as much as most of its steps.
    """

    def __init__(self) -> None:
        self._left = b""

    def bytes(self, count: int) -> bytes:
        """Some bytes, each once."""
        if len(self._left) < count:
            self._left = secrets.token_bytes(_AT_ONCE)
        some, self._left = self._left[:count], self._left[count:]
        return some


def signed(seed: int) -> int:
    """64 bits of a seed as a number with a sign, the one type that kernels take."""
    return ((seed & _WORD) ^ _SIGN) - _SIGN


@numba.njit(cache=True)
def numbers(seed: int, first: int, count: int) -> Floats:
    """Some numbers of a seed, from 0 to below 1 in steps of 2 to the -53.

    Args:
        seed: 64 bits, as a number with a sign.
        first: Number to begin with; the first one is 0.
        count: How many.
    """
    out = np.empty(count)
    start = _mixed(np.uint64(seed))
    for i in range(count):
        bits = _mixed(start + np.uint64(first + i + 1) * _GAMMA)
        out[i] = float(np.int64(bits >> np.uint64(11))) * _STEP
    return out


@numba.njit(cache=True)
def _mixed(bits: np.uint64) -> np.uint64:
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
