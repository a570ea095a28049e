"""The store on Redis or Valkey: core commands and a few Lua scripts, no modules, no SCAN."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from typing import Final, cast

from features.duration import DAY
from features.record import EMPTY as NO_RECORDS
from features.record import NEVER, SIZE, LogId, encode
from features.timeline import LIMIT
from rapport.v1 import log_pb2
from service import keys
from service.coalesce import Coalescer
from service.errors import Precondition, StoreUnavailable
from service.redis_client import RedisClient, translated
from service.store import BATCH, ERASED, UNAVAILABLE, Snapshot, Status, Write

_PIPELINE: Final = 64  # script calls in one round trip
_FORGET_PAGE: Final = 1_000
_IDENTIFIER: Final = "i"  # of the index's members; those of decisions begin with "d"
_DECISION_TTL: Final = 30 * DAY


class RedisStore(RedisClient):
    """A :class:`service.store.Store` on one Redis or Valkey server.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...`` or ``unix:///path``.
        tenant: First part of every key's hash tag.
        ttl: Milliseconds that a customer's keys live after their last write.
        horizon: Milliseconds past which the ledger forgets: the longest window of any limit.
        limit: Events that a timeline keeps.
        timeout: Seconds to wait for a reply.
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str = "main",
        ttl: int = 400 * DAY,
        horizon: int = 30 * DAY,
        limit: int = LIMIT,
        timeout: float = 2.0,
    ) -> None:
        super().__init__(url, tenant, timeout)
        self._ttl, self._horizon, self._limit = ttl, horizon, limit
        self._read = Coalescer(self._fetch)
        self._resolve = Coalescer(self._fetch_names)

    # Reading

    def read(self, customer_id: str) -> Awaitable[Snapshot]:
        """Read everything of one customer; see :class:`service.store.Store`."""
        return self._read(customer_id)

    async def _fetch(self, customers: Sequence[str]) -> list[Snapshot]:
        async with translated(), self._redis.pipeline(transaction=False) as pipeline:
            for customer in customers:
                pipeline.mget(
                    keys.timeline(self.tenant, customer),
                    keys.ledger(self.tenant, customer),
                    keys.profile(self.tenant, customer),
                )
            return [Snapshot(*found) for found in await pipeline.execute()]

    async def resolve(self, names: Sequence[tuple[str, str]]) -> list[str | None]:
        """Customers that identifiers name. Calls of the same turn share a round trip."""
        return await asyncio.gather(*(self._resolve(name) for name in names))

    async def _fetch_names(self, names: Sequence[tuple[str, str]]) -> list[str | None]:
        async with translated(), self._redis.pipeline(transaction=False) as pipeline:
            for namespace, value in names:
                pipeline.get(keys.identity(self.tenant, namespace, value))
            return [found and found.decode() for found in await pipeline.execute()]

    async def decision(self, decision_id: str) -> bytes | None:
        """The log entry of a decision."""
        pointer = await self._pointer(decision_id)
        if pointer is None:
            return None
        stream = keys.decision_log(self.tenant, decision_id)
        async with translated():
            found = await self._redis.xrange(stream, pointer[0], pointer[0], count=1)
        return cast(bytes, found[0][1][keys.LOG_FIELD.encode()]) if found else None

    async def decided(self, decision_id: str) -> bytes | None:
        """The summary of a decision."""
        pointer = await self._pointer(decision_id)
        return None if pointer is None else pointer[1]

    async def _pointer(self, decision_id: str) -> tuple[bytes, bytes] | None:
        """Log id and summary of a decision."""
        async with translated():
            found = await self._redis.get(keys.decision(self.tenant, decision_id))
        if found is None:
            return None
        id, _, summary = found.partition(b" ")
        return id, summary

    # Writing

    async def record(self, events: Sequence[tuple[str, Write]]) -> list[int]:
        """Store events of any customers, at most ``BATCH`` of one customer in a script call."""
        of_customer: dict[str, list[int]] = {}
        for index, (customer, _) in enumerate(events):
            of_customer.setdefault(customer, []).append(index)
        calls = [
            (customer, indexes[first : first + BATCH])
            for customer, indexes in of_customer.items()
            for first in range(0, len(indexes), BATCH)
        ]
        statuses = [UNAVAILABLE] * len(events)
        for first in range(0, len(calls), _PIPELINE):
            some = calls[first : first + _PIPELINE]
            replies = await self._call(
                "record",
                [
                    (
                        [
                            keys.timeline(self.tenant, customer),
                            keys.ledger(self.tenant, customer),
                            keys.log_of(self.tenant, customer),
                            keys.tombstone(self.tenant, customer),
                        ],
                        [
                            self._limit,
                            self._ttl,
                            self._horizon,
                            *(
                                part
                                for index in indexes
                                for part in (
                                    events[index][1].record,
                                    int(events[index][1].counted),
                                    events[index][1].entry,
                                )
                            ),
                        ],
                    )
                    for customer, indexes in some
                ],
            )
            for (_, indexes), reply in zip(some, replies, strict=True):
                if not isinstance(reply, Exception):
                    for index, status in zip(indexes, reply[1], strict=True):
                        statuses[index] = status
        return statuses

    async def write_profile(
        self, customer_id: str, expected: LogId, profile: bytes, entry: bytes, moment: int
    ) -> LogId | None:
        """Replace a profile that was read at ``expected``."""
        written = await self._call_one(
            "profile",
            [
                keys.profile(self.tenant, customer_id),
                keys.log_of(self.tenant, customer_id),
                keys.tombstone(self.tenant, customer_id),
            ],
            [
                b"" if expected == NEVER else encode(expected, NO_RECORDS),
                profile,
                entry,
                self._ttl,
                moment,
            ],
        )
        if written == b"erased":
            raise Precondition(
                "the customer was forgotten after the moment of this change; nothing was written"
            )
        return LogId.parse(written.decode()) if written else None

    async def link(self, namespace: str, value: str, customer_id: str, entry: bytes) -> str:
        """Let an identifier name a customer unless it names one already."""
        key = keys.identity(self.tenant, namespace, value)
        index = keys.index(self.tenant, customer_id)
        async with translated():
            # What leads to the customer is noted first, so that forgetting always finds it.
            await self._redis.zadd(index, {_IDENTIFIER + key: math.inf})
            before = await self._redis.set(key, customer_id, nx=True, get=True)
            if before is None:
                stream = keys.log_of(self.tenant, customer_id)
                await self._redis.xadd(stream, {keys.LOG_FIELD: entry})
            elif before != customer_id.encode():
                await self._redis.zrem(index, _IDENTIFIER + key)
        return cast(str, before.decode()) if before else customer_id

    async def journal(self, decisions: Sequence[tuple[str, str, bytes, bytes]]) -> None:
        """Append decisions to the log, each once, but for those of customers forgotten since."""
        replies = await self._call(
            "journal",
            [
                (
                    [
                        keys.decision_log(self.tenant, decision_id),
                        keys.decision(self.tenant, decision_id),
                        keys.tombstone(self.tenant, customer_id),
                        keys.index(self.tenant, customer_id),
                    ],
                    [entry, summary, _DECISION_TTL, decision_id],
                )
                for customer_id, decision_id, summary, entry in decisions
            ],
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreUnavailable(f"decisions could not be logged: {reply}") from reply

    async def forget(self, customer_id: str, moment: int, entry: bytes) -> tuple[int, int]:
        """Remove a customer: keys first, then what leads to them, then what the log holds."""
        stream = keys.log_of(self.tenant, customer_id)
        erased, size, index = await self._call_one(
            "forget",
            [
                keys.timeline(self.tenant, customer_id),
                keys.ledger(self.tenant, customer_id),
                keys.profile(self.tenant, customer_id),
                stream,
                keys.tombstone(self.tenant, customer_id),
                keys.index(self.tenant, customer_id),
            ],
            [moment, entry],
        )
        events = max(0, (size - len(encode(NEVER, NO_RECORDS))) // SIZE)
        async with translated():
            for member in index:
                await self._unlink(customer_id, member.decode())
            return events, await self._forget_log(stream, customer_id, erased)

    async def _unlink(self, customer_id: str, member: str) -> None:
        """Remove a key of the index, unless it is another customer's by now."""
        kind, name = member[:1], member[1:]
        if kind == _IDENTIFIER:
            if await self._redis.get(name) == customer_id.encode():
                await self._redis.delete(name)
        else:
            await self._redis.delete(keys.decision(self.tenant, name))

    async def _forget_log(self, stream: str, customer_id: str, erased: bytes) -> int:
        """Delete a customer's entries up to that of the erasure; give their number."""
        removed = 0
        start: bytes | str = "-"
        while True:
            page = await self._redis.xrange(stream, start, erased, count=_FORGET_PAGE)
            gone = [
                id
                for id, fields in page
                if id != erased
                and log_pb2.LogEntry.FromString(fields[b"e"]).customer_id == customer_id
            ]
            if gone:
                await self._redis.xdel(stream, *gone)
                removed += len(gone)
            if len(page) < _FORGET_PAGE:
                return removed
            start = b"(" + page[-1][0]

    # Models, vocabulary, health

    async def models(self) -> tuple[bytes | None, list[bytes]]:
        """The pointer to the active bundle, and the manifests of all bundles."""
        async with translated():
            pointer = await self._redis.get(keys.models(self.tenant))
            return pointer, await self._redis.hvals(keys.manifests(self.tenant))

    async def publish(self, version: str, manifest: bytes, blob: bytes) -> bool:
        """Keep a bundle for ever under its version; False where the version is taken."""
        async with translated():
            key = keys.bundle(self.tenant, version)
            # The same bytes again are welcome: a publisher may have died before the manifest.
            if not await self._redis.set(key, blob, nx=True) and await self._redis.get(key) != blob:
                return False
            await self._redis.hset(keys.manifests(self.tenant), version, manifest)
        return True

    async def bundle(self, version: str) -> bytes | None:
        """The bytes of a bundle."""
        async with translated():
            return cast("bytes | None", await self._redis.get(keys.bundle(self.tenant, version)))

    async def point(self, old: bytes | None, new: bytes) -> bool:
        """Move the pointer to the active bundle; False where somebody else has moved it."""
        return bool(await self._call_one("swap", [keys.models(self.tenant)], [old or b"", new]))

    async def claim(self, vocabulary: bytes, previous: bytes | None) -> bytes | None:
        """Claim a vocabulary where ``previous`` is the one claimed; give what is claimed now."""
        key = keys.vocabulary(self.tenant)
        if vocabulary != previous:
            await self._call_one("swap", [key], [previous or b"", vocabulary])
        async with translated():
            return cast("bytes | None", await self._redis.get(key))

    async def claimed(self) -> bytes | None:
        """The vocabulary that is claimed now."""
        async with translated():
            return cast("bytes | None", await self._redis.get(keys.vocabulary(self.tenant)))

    async def status(self) -> Status:
        """Ask the store how it is."""
        async with translated():
            start = time.perf_counter()
            await self._redis.ping()
            latency = 1e3 * (time.perf_counter() - start)
            async with self._redis.pipeline(transaction=False) as pipeline:
                for stream in keys.logs(self.tenant):
                    pipeline.xlen(stream)
                return Status(latency, sum(await pipeline.execute()))

    # The log, for the exporter

    async def log_page(self, number: int, after: LogId, count: int) -> list[tuple[LogId, bytes]]:
        """Entries of a partition's log that come after an id, oldest first."""
        async with translated():
            page = await self._redis.xrange(
                keys.log(self.tenant, number), f"({after}", "+", count=count
            )
        return [(LogId.parse(id.decode()), fields[b"e"]) for id, fields in page]

    async def trim(self, number: int, before: LogId) -> int:
        """Drop the entries of a partition's log that come before an id; give their number."""
        async with translated():
            return int(
                await self._redis.xtrim(
                    keys.log(self.tenant, number), minid=str(before), approximate=False
                )
            )

    async def trim_to(self, number: int, entries: int) -> int:
        """Drop all but the newest entries of a partition's log; give the number dropped."""
        async with translated():
            return int(
                await self._redis.xtrim(
                    keys.log(self.tenant, number), maxlen=entries, approximate=False
                )
            )

    async def exported(self) -> dict[int, LogId]:
        """The last exported id of each partition that was ever exported."""
        async with translated():
            found = await self._redis.hgetall(keys.exported(self.tenant))
        return {int(number): LogId.parse(id.decode()) for number, id in found.items()}

    async def mark_exported(self, number: int, id: LogId) -> None:
        """Note that a partition's log is exported up to and with an id."""
        async with translated():
            await self._redis.hset(keys.exported(self.tenant), str(number), str(id))

    async def close(self) -> None:
        """Wait for reads in flight and give the connections back."""
        await self._read.drain()
        await self._resolve.drain()
        await self._redis.aclose()


assert ERASED == 5  # noqa: S101  the code that record.lua gives
