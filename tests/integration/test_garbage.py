"""What decisions leave behind for the collector of cycles; see ``service.heap``."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio

from service import heap
from service.afterwards import SWEPT
from service.bundle import Bundle
from tests.integration.serving import Client, flushed, serving, somebody

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 200
OF_GRPC = 5  # objects that its server leaves behind each call: a closure that knows itself


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str, bundle: Bundle) -> AsyncIterator[Client]:
    async with serving(url, bundle=bundle) as client:
        yield client


async def decided(client: Client, calls: int = CALLS) -> None:
    for number in range(calls):
        await client.decide(f"somebody-{number}")
    await flushed(client)
    await asyncio.sleep(0.1)  # until the lines are written


@contextmanager
def kept() -> Iterator[list[Any]]:
    """Keep everything that only a collection finds."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_decision_leaves_no_cycle_of_ours_behind(client: Client) -> None:
    await decided(client, 20)
    with kept() as garbage:
        await decided(client)
        gc.collect()
        ours = [
            one
            for one in garbage
            if type(one).__module__.partition(".")[0] in ("service", "features", "rapport")
        ]
        assert not ours
        assert len(garbage) < (OF_GRPC + 1) * CALLS


async def test_nothing_piles_up(client: Client) -> None:
    await decided(client)
    gc.collect()
    before = len(gc.get_objects())
    await decided(client)
    gc.collect()
    assert len(gc.get_objects()) - before < CALLS


async def test_what_calls_leave_is_swept_up_a_little_at_a_time(client: Client) -> None:
    collected: list[int] = []

    def told(phase: str, found: dict[str, int]) -> None:
        if phase == "stop":
            collected.append(found["collected"])

    await decided(client, SWEPT)
    gc.callbacks.append(told)
    try:
        await decided(client, 5 * SWEPT)
    finally:
        gc.callbacks.remove(told)
    assert 4 <= len(collected) <= 6
    assert sum(collected) > 4 * SWEPT * (OF_GRPC - 1)
    assert max(collected) < 2 * SWEPT * (OF_GRPC + 1)


async def test_a_server_collects_when_there_is_something_to_collect(client: Client) -> None:
    assert gc.get_threshold()[0] == heap.YOUNG
    assert gc.isenabled()
    await client.decide(somebody())
