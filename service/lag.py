"""How late the event loop wakes up who asked for it: what a stall costs every call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from service import background

EVERY_SECONDS: Final = 0.02


class LoopLag:
    """Sleeps again and again, and tells how much longer than asked it took.

    A loop's timers count in whole milliseconds: up to one of lag is no finding. A stall is caught
    when a sample falls into it, so one of 20 ms always is, and one of 2 ms each tenth time.

    Args:
        observe: Takes seconds.
        every: Seconds between samples.
    """

    def __init__(self, observe: Callable[[float], None], every: float = EVERY_SECONDS) -> None:
        self._observe = observe
        self._every = every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sample in the background."""
        self._task = asyncio.create_task(self._run(), name="loop lag")

    async def _run(self) -> None:
        while True:
            # Not the loop's own clock: uvloop reads it once a turn, in milliseconds.
            due = time.perf_counter() + self._every
            await asyncio.sleep(self._every)
            self._observe(max(0.0, time.perf_counter() - due))

    async def close(self) -> None:
        """Stop."""
        await background.end(self._task)
