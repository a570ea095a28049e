"""Keep the log from growing for ever, and say what that costs."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import structlog

from features.duration import spoken
from features.partition import PARTITIONS
from features.record import NEVER, LogId
from service import background
from service.errors import StoreUnavailable

_EVERY_SECONDS: Final = 30.0


class Log(Protocol):
    """The part of a store that retention needs."""

    async def trim(self, number: int, before: LogId) -> int:
        """Drop what comes before an id."""
        ...

    async def trim_to(self, number: int, entries: int) -> int:
        """Drop all but the newest entries."""
        ...

    async def exported(self) -> dict[int, LogId]:
        """The last exported id of each partition."""
        ...


class Retention:
    """Trims every partition's log by age and length.

    Args:
        log: What to trim.
        age: Milliseconds that an entry is kept.
        entries: Entries kept in all partitions together, where nothing is exported.
        exporting: Whether an exporter runs: then only what it has exported is dropped.
    """

    def __init__(self, log: Log, age: int, entries: int, *, exporting: bool) -> None:
        self._log = log
        self._age = age
        self._entries = max(1, entries // PARTITIONS)
        self._exporting = exporting
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Say what will be kept, and begin."""
        if not self._exporting:
            structlog.get_logger().warning(
                "log is bounded and nothing exports it",
                kept_for=spoken(self._age),
                entries=self._entries * PARTITIONS,
                remedy="serve with --archive DIR, or run 'rapport export --follow'",
            )
        self._task = asyncio.create_task(self._run(), name="retention")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self.sweep(time.time_ns() // 1_000_000)
            except StoreUnavailable as error:
                structlog.get_logger().warning("log not trimmed", error=str(error))
            except Exception:  # noqa: BLE001  a log never trimmed again would fill the store
                structlog.get_logger().exception("log not trimmed")

    async def sweep(self, now: int) -> int:
        """Trim once.

        Returns:
            The number of entries that were dropped by age before anybody exported them, or because
            there were too many.
        """
        exported = await self._log.exported()
        lost = 0
        for number in range(PARTITIONS):
            oldest = LogId(max(0, now - self._age), 0)
            done = exported.get(number, NEVER)
            await self._log.trim(number, min(oldest, LogId(done.ms, done.sequence + 1)))
            if self._exporting:
                continue
            lost += await self._log.trim(number, oldest)
            lost += await self._log.trim_to(number, self._entries)
        if lost:
            self.dropped += lost
            structlog.get_logger().warning("log entries dropped", now=lost, so_far=self.dropped)
        return lost

    async def close(self) -> None:
        """Stop."""
        await background.end(self._task)
