from __future__ import annotations

import asyncio

from service import background


async def test_a_task_ends_though_it_loses_a_cancellation() -> None:
    lost: list[bool] = []

    async def careless() -> None:
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(True)

    task = asyncio.create_task(careless())
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await background.end(task)
    assert task.cancelled()
    assert lost


async def test_nothing_is_ended_at_once() -> None:
    await background.end(None)
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await background.end(done)
    assert done.done()
    assert not done.cancelled()
