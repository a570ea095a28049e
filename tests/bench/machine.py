"""What a machine is to a decision: the vectors of its processor, and how far away its memory is.

``python -m tests.bench.machine`` tells the processor, and how long a load takes that waits for the
one before, by how much memory is gone over. A decision and all that runs beside it touch some
megabytes, an empty call less: where the caches hold the one and not the other, full / floor is
larger, however little either computes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import llvmlite.binding as llvm
import msgspec
import numba
import numpy as np

from features.kernels import Integers
from tests.bench.processes import cores

KIBIBYTES: Final = (32, 256, 1024, 2048, 4096, 16384)
_LINE: Final = 64  # bytes
_LOADS: Final = 500_000
_VECTORS: Final = {"avx512vbmi": "AVX-512 with byte permutations", "avx2": "AVX2"}


class Machine(msgspec.Struct, frozen=True):
    """A processor and its caches, as one core sees them."""

    processor: str  # as LLVM names it
    vectors: str
    load_ns: Mapping[int, float]  # by kibibytes

    def __str__(self) -> str:
        loads = ", ".join(f"{ns:.0f} in {_size(size)}" for size, ns in self.load_ns.items())
        return f"{self.processor}, {self.vectors}; ns for a load after another: {loads}"


def here(kibibytes: tuple[int, ...] = KIBIBYTES, loads: int = _LOADS) -> Machine:
    """Measure, on the core where the bench's server would be; nothing else should run there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores().server)
    try:
        found = {size: _load_ns(size, loads) for size in kibibytes}
    finally:
        os.sched_setaffinity(0, before)
    can = llvm.get_host_cpu_features()
    vectors = next((told for name, told in _VECTORS.items() if can.get(name)), "narrower vectors")
    return Machine(llvm.get_host_cpu_name(), vectors, found)


def _load_ns(kibibytes: int, loads: int) -> float:
    lines = kibibytes * 1024 // _LINE
    order = np.random.default_rng(1).permutation(lines) * (_LINE // 8)
    way = np.zeros(lines * (_LINE // 8), np.int64)
    way[order] = np.roll(order, -1)
    _gone(way, lines)  # compiled, and as near as it can be
    start = perf_counter()
    _gone(way, loads)
    return 1e9 * (perf_counter() - start) / loads


@numba.njit(cache=False)
def _gone(way: Integers, steps: int) -> Any:
    """Go from line to line, each of which says which is next."""
    at = 0
    for _ in range(steps):
        at = way[at]
    return at


def _size(kibibytes: int) -> str:
    return f"{kibibytes} KiB" if kibibytes < 1024 else f"{kibibytes // 1024} MiB"


if __name__ == "__main__":
    print(here())
