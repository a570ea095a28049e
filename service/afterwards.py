"""What can wait until nobody waits for an answer.

Whoever calls a busy server waits for all that it does first, and a tenth of that is for calls that
were answered already: they are counted, told and kept. Served in the order in which they came, such
work stands in front of callers just when these queue up. Done when no call is under way, it hardly
meets any.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

LONGEST_SECONDS: Final = 0.01
"""How long anything waits, however busy the server is."""

_TICK_SECONDS: Final = 0.001  # the smallest step of a loop's timers
_TURN_SECONDS: Final = 0.0003

Work = Callable[[], object]


class Afterwards:
    """Keeps work until a millisecond has passed in which no call was under way, or for so long."""

    def __init__(self) -> None:
        self._under_way = 0
        self._begun = 0
        self._begun_before = 0  # by the last tick
        self._waiting: deque[tuple[float, Work]] = deque()
        self._ticking: asyncio.Handle | None = None

    def begin(self) -> None:
        """A call has come."""
        self._under_way += 1
        self._begun += 1

    def end(self) -> None:
        """A call was answered."""
        self._under_way -= 1

    def add(self, work: Work) -> None:
        """Do it later, after all that was added before."""
        self._waiting.append((time.monotonic() + LONGEST_SECONDS, work))
        if self._ticking is None:
            self._tick_later()

    async def wait(self) -> None:
        """Wait as work would."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(partial(_tell, told))
        await told

    def finish(self) -> None:
        """Do everything now."""
        while self._waiting:
            self._do()

    def _tick_later(self) -> None:
        self._begun_before = self._begun
        self._ticking = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Do what is due, and as much as a turn has time for where nobody waits for an answer."""
        self._ticking = None
        calm = not self._under_way and self._begun == self._begun_before
        now = time.monotonic()
        end = now + _TURN_SECONDS
        while self._waiting and (self._waiting[0][0] <= now or (calm and time.monotonic() < end)):
            self._do()
        if self._waiting and self._ticking is None:
            self._tick_later()

    def _do(self) -> None:
        _, work = self._waiting.popleft()
        try:
            work()
        except Exception as error:  # noqa: BLE001  the others are done all the same
            told = {"message": "work after an answer", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
