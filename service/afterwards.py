"""What can wait until nobody waits for an answer.

Whoever calls a busy server waits for all that it does first, and a tenth of that is for calls that
were answered already: they are counted, told and kept. Served in the order in which they came, such
work stands in front of callers just when these queue up. Done when nobody is there, it hardly meets
any.

Callers queue up in gRPC: it hands the loop one call after another, and its threads have the core
when the loop gives it away. So the loop gives it away for once after an answer. If it comes back at
once, nobody else had anything to do.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

LONGEST_SECONDS: Final = 0.01
"""How long anything waits, however busy the server is."""

AT_ONCE_SECONDS: Final = 0.00002
"""How long a turn of the loop takes in which nobody did anything, this process's threads included:
about 5 us, and more where the caches are cold."""

ENOUGH: Final = 8
"""Things that wait before a moment is looked for, those of some four calls: together they take less
than one by one, and to look takes nearly as long as they do."""

TURN_SECONDS: Final = 0.0003
"""How long a quiet moment is used before it is looked again whether somebody has come."""

_LOOKS: Final = 8  # in vain, after an answer

SWEPT: Final = 200
"""Calls: what they leave is gone in a third of a millisecond."""

Work = Callable[[], object]


class Afterwards:
    """Keeps work until nobody waits for an answer, or for so long.

    Args:
        sweep: Done whenever :data:`SWEPT` calls more have left something behind.
    """

    def __init__(self, sweep: Work = lambda: None) -> None:
        self._sweep = sweep
        self._swept = 0  # calls
        self._under_way = 0
        self._begun = 0
        self._waiting: deque[Work] = deque()
        self._alarm: asyncio.Handle | None = None
        self._looks = 0  # that are left; 0: it does not look
        self._begun_before = 0  # when it began to look
        self._since = 0.0

    def begin(self) -> None:
        """A call has come."""
        self._under_way += 1
        self._begun += 1
        if self._begun - self._swept >= SWEPT:
            self._swept = self._begun
            self.add(self._sweep)

    def end(self) -> None:
        """A call was answered."""
        self._under_way -= 1
        self._look()

    def add(self, work: Work) -> None:
        """Do it later, after all that was added before."""
        self._waiting.append(work)
        if self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(LONGEST_SECONDS, self._ring)
        self._look()

    async def wait(self) -> None:
        """Wait as work would."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(partial(_tell, told))
        await told

    def finish(self) -> None:
        """Do everything now."""
        while self._waiting:
            self._do()

    def _look(self, enough: int | None = None) -> None:
        """Begin to look whether nobody is there, if as much waits as is worth it."""
        worth = len(self._waiting) >= (ENOUGH if enough is None else enough)
        if worth and not self._under_way and not self._looks:
            self._looks, self._begun_before = _LOOKS, self._begun
            asyncio.get_running_loop().call_soon(self._give_way)

    def _give_way(self) -> None:
        """Let others have the core, and the loop a turn."""
        self._since = time.perf_counter()
        os.sched_yield()
        asyncio.get_running_loop().call_soon(self._looked)

    def _looked(self) -> None:
        """Use the moment if nobody had anything to do; look again once they have done it."""
        self._looks -= 1
        if self._under_way or self._begun != self._begun_before or not self._waiting:
            self._looks = 0  # until that call was answered
        elif time.perf_counter() - self._since < AT_ONCE_SECONDS:
            end = time.perf_counter() + TURN_SECONDS
            while self._waiting and time.perf_counter() < end:
                self._do()
            self._looks = 0
            self._look(1)
        elif self._looks:
            self._give_way()

    def _ring(self) -> None:
        """Do all that waits, in one go: the first of it is due, and the rest is done for less."""
        self._alarm = None
        for _ in range(len(self._waiting)):
            self._do()

    def _do(self) -> None:
        try:
            self._waiting.popleft()()
        except Exception as error:  # noqa: BLE001  the others are done all the same
            told = {"message": "work after an answer", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
