"""One round trip for many readers: requests of the same turn of the loop share a pipeline.

A read in flight is never cancelled: a caller that gives up leaves its future behind, and the
replies of the others stay in step with their requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Reply = TypeVar("Reply")


class Coalescer(Generic[Ask, Reply]):
    """Collect questions for one turn of the event loop and ask them together.

    Args:
        fetch: Answers a list of questions in order, or raises for all of them.
        apart: Questions of which it gives different things go in different round trips: those for
            a server that is down must not fail, nor hold up, those for the others.
        most: Questions in one round trip at most.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[Ask]], Awaitable[Sequence[Reply]]],
        apart: Callable[[Ask], Hashable] = lambda _: None,
        most: int = 128,
    ) -> None:
        self._fetch = fetch
        self._apart = apart
        self._most = most
        self._waiting: list[tuple[Ask, asyncio.Future[Reply]]] = []
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self, question: Ask) -> asyncio.Future[Reply]:
        """Ask; the future may be abandoned, but not awaited without a shield and cancelled."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.append((question, reply))
        return reply

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        together: dict[Hashable, list[tuple[Ask, asyncio.Future[Reply]]]] = {}
        for asked in waiting:
            together.setdefault(self._apart(asked[0]), []).append(asked)
        for group in together.values():
            for first in range(0, len(group), self._most):
                task = asyncio.create_task(self._ask(group[first : first + self._most]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _ask(self, asked: list[tuple[Ask, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._fetch([question for question, _ in asked])
            answered = list(zip(asked, replies, strict=True))
        except Exception as error:  # noqa: BLE001  whatever it was, it is every asker's answer
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # an abandoned future's error is nobody's business
            return
        for (_, future), reply in answered:
            if not future.done():
                future.set_result(reply)

    async def drain(self) -> None:
        """Wait for the reads in flight."""
        while self._running or self._waiting:
            await (asyncio.wait(self._running) if self._running else asyncio.sleep(0))
