"""Threads that help the event loop wait for their turn.

gRPC's threads read and write sockets and wake the loop; each time one of them has something to do
the kernel would take the core from the loop at once, in the middle of a decision, and hand it back
with other contents in its caches. As *batch* threads they run when the loop has nothing to do, or
has had its share: on one core a decision costs a tenth less CPU, an empty call a sixth to a quarter
(``python -m tests.bench.threads``). Nobody waits longer for that than the kernel's time slice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def patient() -> Iterator[None]:
    """Let threads that are started inside, by this thread, not take the core from others.

    Where the system knows no such policy, or does not allow it, they stay as they are.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    before = os.sched_getscheduler(0)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, before, os.sched_param(0))
