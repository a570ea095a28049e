"""Computations that wait in the same turn of the loop, run a step of each at a time.

Between two steps of one computation a server runs everything else, and what a step touches (its
code above all) has to come back into the caches. Doing the same step for several customers in a row
fetches it once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Final, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A computation that yields where another may take its turn, and returns its result."""

_MOST: Final = 8  # computations, so that the loop is not kept for longer than a few milliseconds


def finished(steps: Steps[T]) -> T:
    """Run a computation alone."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


class Together:
    """Runs computations step by step; the error of one is its own.

    Args:
        stepped: Called when all have taken a step, so that what they asked of others is on its way
            before the next.
    """

    def __init__(self, stepped: Callable[[], None] = lambda: None) -> None:
        self._stepped = stepped
        self._waiting: list[tuple[Steps[object], asyncio.Future[object]]] = []

    async def run(self, steps: Steps[T]) -> T:
        """Run a computation together with others that wait by the end of this turn."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._turn)
        self._waiting.append((steps, result))  # type: ignore[arg-type]
        return await result

    def alone(self, steps: Steps[T]) -> T:
        """Run a computation at once, for whoever knows that no other will come in this turn."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: T = end.value
                return found
            self._stepped()

    def _turn(self) -> None:
        running, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
        while running:
            going = []
            for steps, result in running:
                if result.cancelled():  # whoever asked is gone
                    steps.close()
                    continue
                try:
                    next(steps)
                except StopIteration as end:
                    result.set_result(end.value)
                except Exception as error:  # noqa: BLE001  whoever asked is told
                    result.set_exception(error)
                else:
                    going.append((steps, result))
            running = going
            self._stepped()
