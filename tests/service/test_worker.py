"""What a kept worker does with the words it is told."""

from __future__ import annotations

import asyncio
import os
from typing import cast

from service import worker
from service.job import LOOK
from service.server import Server
from tests.integration.serving import until


class Looking:
    """A server that counts how often it looks."""

    looked = 0

    def look(self) -> None:
        self.looked += 1


async def test_a_worker_looks_when_it_is_told_and_returns_when_nobody_is_left() -> None:
    end, told = os.pipe()
    server = Looking()
    with os.fdopen(end, "rb", buffering=0) as pipe, os.fdopen(told, "wb", buffering=0) as keeper:
        words = asyncio.create_task(worker.words(cast(Server, server), pipe))
        keeper.write(LOOK)
        await until(lambda: server.looked == 1)
        keeper.write(b"what?\n" + LOOK + LOOK)
        await until(lambda: server.looked == 3)
        assert not words.done()
        keeper.close()
        async with asyncio.timeout(5):
            await words
    assert server.looked == 3
