"""Computations that wait at the same time, run a step of each at a time.

Between two steps of one computation a server runs everything else, and what a step touches (its
code above all) has to come back into the caches. Doing the same step for several customers in a row
fetches it once for all of them.

Calls arrive one by one: gRPC hands the loop the next when it has dealt with the last, and gRPC's
threads get the core when the loop sleeps. Where many are under way and the server can hardly keep
up, a computation therefore waits a little for others. The loop sleeps meanwhile, which is when they
come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from service.crowd import Crowd

T = TypeVar("T")
Steps = Generator[bool, None, T]
"""A computation that yields where another may take its turn, and returns its result. What it
yields is whether it has asked others for something since it did so last."""

MOST: Final = 8
"""Computations that run together: the loop is not kept for longer than a few milliseconds."""

LONGEST_SECONDS: Final = 0.002
"""That one waits for others, whatever its caller could spare."""


def finished(steps: Steps[T], stepped: Callable[[], None] = lambda: None) -> T:
    """Run a computation alone; ``stepped`` is called after each step that asked for something."""
    while True:
        try:
            asked = next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        if asked:
            stepped()


class Together:
    """Runs computations step by step; the error of one is its own.

    Args:
        stepped: Called when all have taken a step, if one of them has asked for something, so that
            this is on its way before the next.
        crowd: Knows whether it gains to wait, and for how many.
    """

    def __init__(
        self, stepped: Callable[[], None] = lambda: None, crowd: Crowd | None = None
    ) -> None:
        self._stepped = stepped
        self._crowd = Crowd() if crowd is None else crowd
        self._waiting: list[tuple[Steps[object], asyncio.Future[object]]] = []
        self._turn_comes = False
        self._alarm: asyncio.Handle | None = None
        self._due = 0.0  # when it rings; uvloop's cannot always say

    async def run(self, steps: Steps[T], patience: Callable[[], float] = lambda: 0.0) -> T:
        """Run a computation together with others that wait by the end of this turn of the loop.

        Args:
            steps: The computation.
            patience: Gives the seconds that it may wait for others to come, if that gains anything.
        """
        if self._crowd.inside == 1 and not self._waiting:
            return finished(steps, self._stepped)  # nobody comes by the end of this turn
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._waiting.append((steps, result))  # type: ignore[arg-type]
        if not self._turn_comes:
            # Where as many wait as there were of late, nobody else is likely to come.
            enough = len(self._waiting) >= min(self._crowd.size, MOST)
            seconds = 0.0 if enough else min(patience(), LONGEST_SECONDS)
            if seconds <= 0:
                self._soon(loop)
            else:
                self._within(loop, seconds)
        return await result

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run those who wait by the end of this turn."""
        self._turn_comes = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        loop.call_soon(self._turn)

    def _within(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Run those who wait when the first of them can wait no longer."""
        due = loop.time() + seconds
        if self._alarm is not None:
            if self._due <= due:
                return
            self._alarm.cancel()
        self._alarm, self._due = loop.call_later(seconds, self._turn), due

    def _turn(self) -> None:
        self._turn_comes, self._alarm = False, None
        running, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        if self._waiting:  # they have waited for others
            self._soon(asyncio.get_running_loop())
        while running:
            going, any_asked = [], False
            for steps, result in running:
                if result.cancelled():  # whoever asked is gone
                    steps.close()
                    continue
                try:
                    any_asked |= next(steps)
                except StopIteration as end:
                    result.set_result(end.value)
                except Exception as error:  # noqa: BLE001  whoever asked is told
                    result.set_exception(error)
                else:
                    going.append((steps, result))
            running = going
            if any_asked:
                self._stepped()
