from __future__ import annotations

import asyncio

import pytest

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


async def test_a_pause_ends_when_somebody_wakes() -> None:
    wake = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, wake.set)
    async with asyncio.timeout(5):
        await background.pause(wake, 60)
    assert not wake.is_set(), "the next pause would be none"


async def test_a_wake_during_the_work_before_is_not_lost() -> None:
    wake = asyncio.Event()
    wake.set()
    async with asyncio.timeout(5):
        await background.pause(wake, 60)
    with_nobody = asyncio.create_task(background.pause(wake, 60))
    await asyncio.sleep(0.05)
    assert not with_nobody.done()
    await background.end(with_nobody)


async def test_a_pause_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await background.pause(asyncio.Event(), 0.01)


async def test_whoever_has_much_to_do_lets_others_in_after_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, others = 100.0, 0
    monkeypatch.setattr("service.background.time.perf_counter", lambda: now)

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
    assert others == 0, "a short one is done in one go"
    for _ in range(100):
        now += 0.0004  # a millisecond is over after three steps
        await turn.pause()
    assert 30 <= others <= 35
    await background.end(task)
