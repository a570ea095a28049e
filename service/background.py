"""Pause and end what runs beside the calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

_AGAIN_SECONDS: Final = 0.1


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
