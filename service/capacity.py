"""What scarce resources cost now: shadow prices that a workforce system sets for all servers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from service import background
from service.declared import Resource
from service.errors import StoreUnavailable
from service.store import Store

_POLL_SECONDS: Final = 1.0


class Prices:
    """The shadow price of every declared resource.

    While the store does not answer, the last known prices hold.

    Args:
        store: Where they are set for all servers.
        declared: Resources with the prices that hold until one is set.
    """

    def __init__(self, store: Store, declared: Mapping[str, Resource]) -> None:
        self._store = store
        self._declared = declared
        self._set: Mapping[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.current: Mapping[str, float] = {}
        self.declare(declared)

    def declare(self, declared: Mapping[str, Resource]) -> None:
        """Take over the resources of another configuration."""
        self._declared = declared
        self.current = {
            name: self._set.get(name, resource.price) for name, resource in declared.items()
        }

    async def start(self) -> None:
        """Read the prices, and follow them from then on."""
        await self.refresh()
        self._task = asyncio.create_task(self._run(), name="prices")

    async def refresh(self) -> None:
        """Read the prices now."""
        self._set = await self._store.prices()
        self.declare(self._declared)

    def look(self) -> None:
        """Look at once, not only when it is time."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await background.pause(self._wake, _POLL_SECONDS)
            try:
                await self.refresh()
            except StoreUnavailable as error:
                structlog.get_logger().warning("prices not read", error=str(error))

    async def close(self) -> None:
        """Stop following them."""
        await background.end(self._task)
