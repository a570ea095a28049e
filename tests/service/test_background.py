from __future__ import annotations

import asyncio
import time

from service import background
from service.background import Turn


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


async def test_whoever_has_much_to_do_lets_others_in_after_a_turn() -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    turn = Turn()
    for _ in range(100):
        await turn.pause()
    assert others <= 2, "a short one is done in one go"
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        await turn.pause()
    assert 10 <= others <= 60
    await background.end(task)
