"""End what runs beside the calls."""

from __future__ import annotations

import asyncio
from typing import Final

_AGAIN_SECONDS: Final = 0.1


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task until it has ended.

    Once is not enough: a cancellation may get lost in a timeout when it comes with a reply.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
