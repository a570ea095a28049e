"""Wait for the store until a deadline. One alarm serves all who wait.

Nearly nobody's deadline comes to pass, and a timer that is set, cancelled and closed for each
question takes as long as the steps of a decision do.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from service.errors import StoreUnavailable
from service.reasons import Reason

T = TypeVar("T")

_TICK: Final = 0.0005  # seconds; uvloop's alarms ring at the nearest millisecond


class Deadlines:
    """Those of one loop's questions to the store."""

    def __init__(self) -> None:
        # By their deadline, those that were answered among them: they are dropped on the way.
        self._waiting: list[tuple[float, int, asyncio.Future[Any]]] = []
        self._numbers = itertools.count()  # futures have no order
        self._alarm: asyncio.Handle | None = None
        self._due = 0.0  # when it rings

    async def in_time(self, asking: Awaitable[T], seconds: float) -> T | Reason:
        """Wait so long for the store; give what it said, or why there is nothing.

        Args:
            asking: A future of the caller's own (see :meth:`service.store.Store.read`), which is
                answered in the store's place when it is late; or anything else that can be awaited,
                which goes on then.
            seconds: How long.
        """
        own: asyncio.Future[Any]
        if type(asking) is asyncio.Future:  # as a loop makes them; a task would be another's work
            own = asking
        else:
            own = asyncio.get_running_loop().create_future()
            # A call in flight is shared and never cancelled.
            asyncio.ensure_future(asking).add_done_callback(partial(_pass_on, own))
        self._expect(own, seconds)
        try:
            answer: T | Reason = await own
        except StoreUnavailable as error:
            answer = Reason("STORE_UNAVAILABLE", str(error))
        return answer

    def _expect(self, own: asyncio.Future[Any], seconds: float) -> None:
        waiting, loop = self._waiting, asyncio.get_running_loop()
        while waiting and waiting[0][2].done():
            heappop(waiting)
        due = loop.time() + seconds
        heappush(waiting, (due, next(self._numbers), own))
        if self._alarm is None or due < self._due:
            self._set(loop, due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._due = loop.call_later(due - loop.time(), self._ring), due

    def _ring(self) -> None:
        """Answer in the store's place where it is late, and ring again for who waits then."""
        waiting, loop = self._waiting, asyncio.get_running_loop()
        self._alarm = None
        late = loop.time() + _TICK
        while waiting and (waiting[0][0] <= late or waiting[0][2].done()):
            own = heappop(waiting)[2]
            if not own.done():
                own.set_result(Reason("TIMELINE_LATE", "The store did not answer in time"))
        if waiting:
            self._set(loop, waiting[0][0])


def _pass_on(own: asyncio.Future[T | Reason], asked: asyncio.Future[T]) -> None:
    """Give an answer to whoever still waits; an error after that is nobody's business."""
    error = None if asked.cancelled() else asked.exception()
    if own.done():
        return
    if asked.cancelled():
        own.cancel()
    elif error is not None:
        own.set_exception(error)
    else:
        own.set_result(asked.result())
