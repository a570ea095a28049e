"""Ceilings across customers, in blocks: a decision takes from its worker's own, and never waits.

A worker leases a block of a ceiling from the store before it is needed. What all workers take of a
period never exceeds the limit. What a worker that died had not used is lost until the period ends;
what one leaves unused goes back. Knows a store and a clock, and neither redis nor configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from features.duration import DAY
from service.errors import StoreUnavailable

BLOCK: Final = 1_000
"""Units of a block at most, unless one decision needs more."""

_SHARE: Final = 64  # blocks in a ceiling: what dead workers can waste
_TTL: Final = 40 * DAY  # longer than any period
_TICK: Final = 1.0  # seconds; also how long a ceiling without room is not asked for again
_IDLE: Final = 60.0  # seconds until what one decision does not need goes back
_LONG_IDLE: Final = 600.0  # until the rest does


class Ceilings(Protocol):
    """The part of a store that leases need."""

    async def lease(self, ceiling: str, period: str, amount: int, limit: int, ttl: int) -> int:
        """Take up to ``amount`` units; give how many there were."""
        ...

    async def give_back(self, ceiling: str, period: str, amount: int) -> None:
        """Return units."""
        ...


@dataclass
class _Block:
    """What this worker has of one ceiling in one period."""

    limit: int
    used_at: float  # when somebody last asked for it
    left: int = 0
    need: int = 1  # the most that one decision wanted
    asked_at: float = -_TICK  # when the store last had nothing


class Leases:
    """The blocks of one worker.

    Args:
        store: Where the units come from.
        clock: Monotonic seconds.
        block: Units of a block at most, unless one decision needs more.
    """

    def __init__(self, store: Ceilings, clock: Callable[[], float], block: int = BLOCK) -> None:
        self._store = store
        self._clock = clock
        self._most = block
        self._limits: dict[str, int] = {}
        self._needs: dict[str, int] = {}
        self._blocks: dict[tuple[str, str], _Block] = {}
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(
        self, ceilings: Iterable[tuple[str, str, int]], needs: Mapping[str, int] | None = None
    ) -> None:
        """Lease the first blocks and go on in the background. Again after a reload.

        Args:
            ceilings: Name, current period and limit of each.
            needs: The most that one decision takes of a ceiling, where it is more than a unit.
        """
        asked = list(ceilings)
        self._needs = dict(needs or {})
        self._limits = {name: limit for name, _, limit in asked}
        for (name, period), block in list(self._blocks.items()):
            before, block.limit = block.limit, self._limits.get(name, 0)
            if block.limit < before:  # what is left of it is counted anew
                await self._return(name, period, block, block.left)
        for name, period, limit in asked:
            self._block(name, period, limit)
        await self.refill()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="leases")

    def room(self, ceiling: str, period: str) -> int:
        """Units that can be taken here and now.

        Of a period that is new there is none yet: its first block is on the way, and the decision
        that asks first goes without.
        """
        block = self._block(ceiling, period, self._limits.get(ceiling, 0))
        block.used_at = self._clock()
        if self._wanted(block):
            self._wake.set()
        return block.left

    def take(self, ceiling: str, period: str, amount: int, limit: int) -> bool:
        """Take units of this worker's block; False, and none, where it has fewer."""
        block = self._block(ceiling, period, limit)
        # A decision that began before a reload may still know a higher limit.
        block.limit = min(limit, self._limits.get(ceiling, limit))
        block.used_at = self._clock()
        block.need = max(block.need, amount)
        enough = 0 <= amount <= block.left
        if enough:
            block.left -= amount
        if self._wanted(block):
            self._wake.set()
        return enough

    def give_back(self, ceiling: str, period: str, amount: int) -> None:
        """Return units that :meth:`take` gave and that were not used."""
        self._block(ceiling, period, self._limits.get(ceiling, 0)).left += amount

    async def refill(self) -> None:
        """Fetch what runs short, and return what nobody uses."""
        async with self._one_at_a_time:
            await asyncio.gather(
                *(self._balance(*key, block) for key, block in list(self._blocks.items()))
            )

    async def close(self) -> None:
        """Stop, and return everything that is left."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task  # not cancelled: what a lease on its way brings goes back too
        async with self._one_at_a_time:
            await asyncio.gather(
                *(
                    self._return(*key, block, block.left)
                    for key, block in list(self._blocks.items())
                )
            )

    async def _run(self) -> None:
        while not self._closing:
            try:
                async with asyncio.timeout(_TICK):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.refill()
            except Exception:  # noqa: BLE001  without it no ceiling would have room ever again
                structlog.get_logger().exception("ceilings not leased")

    def _block(self, ceiling: str, period: str, limit: int) -> _Block:
        block = self._blocks.get((ceiling, period))
        if block is None:
            block = self._blocks[ceiling, period] = _Block(limit, self._clock())
            block.need = self._needs.get(ceiling, 1)
        return block

    def _size(self, block: _Block) -> int:
        return max(block.need, min(self._most, block.limit // _SHARE), 1)

    def _wanted(self, block: _Block) -> bool:
        """Whether a block runs short, and the store has not said just now that it has nothing."""
        short = block.left < block.need or 2 * block.left < self._size(block)
        return short and block.limit > 0 and self._clock() - block.asked_at >= _TICK

    async def _balance(self, ceiling: str, period: str, block: _Block) -> None:
        idle = self._clock() - block.used_at
        if block.limit <= 0 or idle >= _LONG_IDLE:
            await self._return(ceiling, period, block, block.left)
            if not block.left and self._clock() - block.used_at >= _LONG_IDLE:
                self._blocks.pop((ceiling, period), None)
        elif idle >= _IDLE:
            await self._return(ceiling, period, block, block.left - block.need)
        elif self._wanted(block):
            await self._lease(ceiling, period, block)

    async def _lease(self, ceiling: str, period: str, block: _Block) -> None:
        asked = self._size(block) - block.left
        if asked <= 0:
            return
        try:
            got = await self._store.lease(ceiling, period, asked, block.limit, _TTL)
        except StoreUnavailable as error:
            # If it took them all the same, they are lost: too few is right, too many never.
            block.asked_at = self._clock()
            structlog.get_logger().warning("ceiling not leased", ceiling=ceiling, error=str(error))
            return
        block.left += got
        if got < asked:
            block.asked_at = self._clock()

    async def _return(self, ceiling: str, period: str, block: _Block, amount: int) -> None:
        if amount <= 0:
            return
        block.left -= amount
        try:
            await self._store.give_back(ceiling, period, amount)
        except StoreUnavailable as error:
            # Never sent twice: units that were returned twice could be taken twice.
            structlog.get_logger().warning("lease lost", ceiling=ceiling, error=str(error))
