from __future__ import annotations

import asyncio
import time

from service.lag import LoopLag


async def test_a_stalled_loop_shows() -> None:
    seen: list[float] = []
    lag = LoopLag(seen.append, every=0.005)
    lag.start()
    await asyncio.sleep(0.05)
    before = len(seen)
    time.sleep(0.2)  # noqa: ASYNC251  the stall
    await asyncio.sleep(0.05)
    await lag.close()
    assert before > 0
    # The sample that was asleep when it stalled began at most 5 ms before.
    assert max(seen[before:]) > 0.19
    assert min(seen) >= 0


async def test_a_loop_that_only_waits_is_hardly_late() -> None:
    seen: list[float] = []
    lag = LoopLag(seen.append, every=0.03)
    lag.start()
    await asyncio.sleep(0.5)
    await lag.close()
    assert 5 < len(seen) < 18
    assert sorted(seen)[len(seen) // 2] < 0.02


async def test_after_the_end_nothing_is_sampled() -> None:
    seen: list[float] = []
    lag = LoopLag(seen.append, every=0.001)
    lag.start()
    await asyncio.sleep(0.02)
    await lag.close()
    count = len(seen)
    await asyncio.sleep(0.02)
    assert len(seen) == count
    await LoopLag(seen.append).close()  # one that never began
