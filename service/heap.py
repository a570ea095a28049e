"""Keeps the collector of cycles from walking what stays.

A full collection walks every object that is not frozen: 120 ms for a server that has loaded the
sample bank and its models, under a millisecond once those are frozen. It runs inside whichever call
allocates next, so what is frozen decides how late an answer may be.

What is frozen still goes when nothing refers to it any more; a cycle would stay for ever, so
models and configurations must have none.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE: Final = 128 * 1024  # bytes; no decision takes as much in one piece
_SPARE: Final = 1024 * 1024  # bytes that stay free at the end of the heap

YOUNG: Final = 20_000
"""By how many the objects must have grown for a young collection that nobody asked for.

At 700, as Python has it, the decisions in flight set one off again and again: 6 % of a server's
time. They make no cycles. gRPC leaves one of five objects behind each call; left to pile up, they
take 4 to 9 ms to collect, in front of whoever calls then. So they are swept up before.
"""

_OLDER: Final = 10  # sweeps of one generation by one of the next, as Python has it


def give_back() -> None:
    """Let large blocks go back to the system when they are freed; where malloc is glibc's.

    It would learn from the first ones that go (models that are replaced) to keep as large ones for
    itself, in pieces by then: ten megabytes of a server.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _SPARE)


def settle() -> None:
    """Let everything that is alive stay, unwalked; when a server has started."""
    gc.collect()
    gc.freeze()
    gc.collect()  # of nothing: from now on "a quarter more than last time" is few
    gc.set_threshold(YOUNG)


class Sweeper:
    """Collects the cycles that calls leave behind; see :class:`service.afterwards.Afterwards`."""

    def __init__(self) -> None:
        self._sweeps = 0

    def sweep(self) -> None:
        """Collect the young ones; now and then those that were in use at a sweep before."""
        self._sweeps += 1
        older = self._sweeps % _OLDER == 0
        gc.collect(older + (self._sweeps % _OLDER**2 == 0))


@contextmanager
def staying() -> Iterator[None]:
    """Let what is made inside stay, unwalked; for what is put in charge while others are served.

    Nothing is collected, before or after, since that would keep them waiting.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
