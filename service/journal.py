"""Decisions on their way to the log: a bounded queue, flushed in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from service import background
from service.afterwards import Afterwards
from service.background import Turn
from service.errors import StoreUnavailable
from service.store import Store

CAPACITY: Final = 20_000
_BATCH: Final = 32
_GATHER_SECONDS: Final = 0.005
"""What a decision waits for others: a trip to the store costs as much as writing several of them.
One that is asked for sooner is found here, or looked for again; see ``service.rpc_decision``."""
_SLOWEST_RETRY: Final = 2.0
_RETRY_AT_END: Final = 0.1


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What an outcome has to know of its decision; kept longer than the log entry."""

    customer_id: str
    channel: str
    interaction_id: str
    actions: list[str]


class Entry(Protocol):
    """A decision that waits. What is kept of it is made when it is its turn, or asked for."""

    @property
    def decision_id(self) -> str:
        """Its name."""

    @property
    def summary(self) -> Summary:
        """For outcomes."""

    def build(self) -> bytes:
        """Its log entry."""


class Built(NamedTuple):
    """One whose log entry is made."""

    decision_id: str
    summary: Summary
    entry: bytes

    def build(self) -> bytes:
        """It, as it is."""
        return self.entry


class Journal:
    """Appends decisions to the store's log; keeps trying while the store is away.

    Args:
        store: Whose log it is.
        capacity: Decisions that may wait.
        moment: Waits for one in which entries may be built.
    """

    def __init__(
        self,
        store: Store,
        capacity: int = CAPACITY,
        moment: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._capacity = capacity
        self._moment = moment or Afterwards().wait
        self._waiting: dict[str, Entry] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Begin to flush in the background."""
        self._task = asyncio.create_task(self._run(), name="journal")

    @property
    def pending(self) -> int:
        """Decisions that are not in the log yet."""
        return len(self._waiting)

    def append(self, entry: Entry) -> bool:
        """Take a decision; False where there is no room, and the answer must say so."""
        if len(self._waiting) >= self._capacity:
            self.dropped += 1
            return False
        self._waiting[entry.decision_id] = entry
        self._wake.set()
        return True

    def waiting(self, decision_id: str) -> Entry | None:
        """A decision that is not in the log yet."""
        return self._waiting.get(decision_id)

    async def _run(self) -> None:
        pause = 0.0
        while True:
            await self._wake.wait()
            if len(self._waiting) < _BATCH:
                await asyncio.sleep(_GATHER_SECONDS)
                await self._moment()
            self._wake.clear()
            while self._waiting:
                try:
                    await self._flush_some()
                    pause = 0.0
                except StoreUnavailable as error:
                    pause = min(_SLOWEST_RETRY, 2 * pause + 0.05)
                    structlog.get_logger().warning(
                        "journal waits", pending=self.pending, seconds=pause, error=str(error)
                    )
                    await self._build_all()
                    await asyncio.sleep(pause)

    async def _build_all(self) -> None:
        """Build what waits: as bytes it takes less memory, and the collector has less to walk."""
        turn = Turn()
        for entry in list(self._waiting.values()):
            if not isinstance(entry, Built):
                built = Built(entry.decision_id, entry.summary, entry.build())
                self._waiting[entry.decision_id] = built
                await turn.pause()

    async def _flush_some(self) -> None:
        some = list(islice(self._waiting.values(), _BATCH))
        rows, turn = [], Turn()
        for e in some:
            told = e.summary
            summary = msgspec.msgpack.encode(told)
            rows.append((told.customer_id, e.decision_id, summary, e.build()))
            if turn.over:
                await turn.pause()
        written = await self._store.journal(rows)
        for entry, done in zip(some, written, strict=True):
            self._waiting.pop(entry.decision_id, None)
            if not done:  # to the end: those behind it may have another way
                self._waiting[entry.decision_id] = entry
        if not all(written):
            await asyncio.sleep(_RETRY_AT_END)

    async def close(self, seconds: float) -> None:
        """Flush what is waiting, for at most so long; what is left then is lost and counted."""
        await background.end(self._task)
        try:
            async with asyncio.timeout(seconds):
                while self._waiting:
                    try:
                        await self._flush_some()
                    except StoreUnavailable as error:
                        structlog.get_logger().warning("journal waits", error=str(error))
                        await asyncio.sleep(_RETRY_AT_END)
        except TimeoutError:
            self.dropped += len(self._waiting)
            structlog.get_logger().error("journal lost decisions", lost=len(self._waiting))
