"""A store in memory that fails and waits as it is told; what the pipeline needs of one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from features.record import LogId
from service.errors import StoreUnavailable
from service.store import Hold, Snapshot, Status, Write


class Shelf:
    """Keeps what tests put on it."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.logged: list[tuple[str, str, bytes, bytes]] = []
        self.pointer: bytes | None = None
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.away = False  # every call fails
        self.cut_off: set[str] = set()  # customers whose part of the store is away
        self.waits: asyncio.Event | None = None  # reads wait for it
        self.reads = self.batches = 0

    def _reached(self) -> None:
        if self.away:
            raise StoreUnavailable("the store is away; try again")

    def read(self, customer_id: str) -> Awaitable[Snapshot]:
        return self._read(customer_id)

    async def _read(self, customer_id: str) -> Snapshot:
        self.reads += 1
        if self.waits is not None:
            await self.waits.wait()
        self._reached()
        return self.snapshots.get(customer_id, Snapshot(None, None, None))

    async def record(self, events: Sequence[tuple[str, Write]]) -> list[int]:
        raise NotImplementedError

    async def write_profile(
        self, customer_id: str, expected: LogId, profile: bytes, entry: bytes, moment: int
    ) -> LogId | None:
        raise NotImplementedError

    async def resolve(self, names: Sequence[tuple[str, str]]) -> list[str | None]:
        self._reached()
        return [None] * len(names)

    async def link(self, namespace: str, value: str, customer_id: str, entry: bytes) -> str:
        raise NotImplementedError

    def reserve(
        self, customer_id: str, now: int, holds: Sequence[Hold], read_at: LogId | None = None
    ) -> Awaitable[list[bool]]:
        raise NotImplementedError

    def flush(self) -> None:
        return None

    async def root(self, customer_id: str) -> str:
        return customer_id

    async def merge(self, customer_id: str, into: str, caller: str) -> bool:
        raise NotImplementedError

    async def orphan(self, decision_id: str, hash: bytes, entry: bytes) -> int:
        raise NotImplementedError

    async def lease(self, ceiling: str, period: str, amount: int, limit: int, ttl: int) -> int:
        raise NotImplementedError

    async def give_back(self, ceiling: str, period: str, amount: int) -> None:
        raise NotImplementedError

    async def prices(self) -> dict[str, float]:
        return {}

    async def set_prices(self, prices: Mapping[str, float]) -> None:
        raise NotImplementedError

    async def keep_configuration(self, digest: str, written: bytes) -> None:
        raise NotImplementedError

    async def configuration(self, digest: str) -> bytes | None:
        return None

    async def journal(self, decisions: Sequence[tuple[str, str, bytes, bytes]]) -> list[bool]:
        self._reached()
        self.batches += 1
        known = {decision_id for _, decision_id, _, _ in self.logged}
        reached = [one[0] not in self.cut_off for one in decisions]
        self.logged += [
            one
            for one, done in zip(decisions, reached, strict=True)
            if done and one[1] not in known
        ]
        return reached

    async def decision(self, decision_id: str) -> bytes | None:
        return next((entry for _, id, _, entry in self.logged if id == decision_id), None)

    async def decided(self, decision_id: str) -> bytes | None:
        return next((summary for _, id, summary, _ in self.logged if id == decision_id), None)

    async def forget(self, customer_id: str, moment: int, entry: bytes) -> tuple[int, int]:
        raise NotImplementedError

    async def models(self) -> tuple[bytes | None, list[bytes]]:
        self._reached()
        return self.pointer, list(self.manifests.values())

    async def publish(self, version: str, manifest: bytes, blob: bytes) -> bool:
        if version in self.blobs:
            return False
        self.blobs[version], self.manifests[version] = blob, manifest
        return True

    async def bundle(self, version: str) -> bytes | None:
        self._reached()
        return self.blobs.get(version)

    async def point(self, old: bytes | None, new: bytes) -> bool:
        if self.pointer != old:
            return False
        self.pointer = new
        return True

    async def claim(self, vocabulary: bytes, previous: bytes | None) -> bytes | None:
        raise NotImplementedError

    async def status(self) -> Status:
        self._reached()
        return Status(0.1, 0)

    async def close(self) -> None:
        return None
