"""What runs beside the calls: it waits, ends when told to, and lets them in while it works."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

_AGAIN_SECONDS: Final = 0.1
_TURN_SECONDS: Final = 0.001


async def pause(wake: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until somebody wakes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    wake.clear()


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task until it has ended.

    Once is not enough: a cancellation may get lost in a timeout when it comes with a reply.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)


class Turn:
    """A turn on the loop, of a millisecond: who has much to do lets others in after it."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + _TURN_SECONDS

    @property
    def over(self) -> bool:
        """Whether a pause would let others in."""
        return time.perf_counter() >= self._end

    async def pause(self) -> None:
        """Let others in where the turn is over, and have another; between any two small steps."""
        if self.over:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + _TURN_SECONDS
