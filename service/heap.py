"""Keeps the collector of cycles from walking what stays.

A full collection walks every object that is not frozen: 120 ms for a server that has loaded the
sample bank and its models, under a millisecond once those are frozen. It runs inside whichever call
allocates next, so what is frozen decides how late an answer may be.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Let everything that is alive now stay, unwalked; after a start, and after each swap.

    What is frozen still goes when nothing refers to it any more, but a cycle that breaks later
    would stay for ever: models and configurations must have none.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # of next to nothing; from now on "a quarter more than last time" is few
