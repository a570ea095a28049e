"""Two customers become one: a fence, a copy, and whoever comes across a half-done merge ends it.

The one who is merged is fenced first: from then on nothing is written to their ledger, and what
belongs there goes to that of the one they were merged into, the root. Then the root adopts them and
their ledger. A lock on both keeps two merges from crossing; every step that needs it asks for its
token, so one that has expired harms nobody.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, cast

import msgspec

from features.record import HEADER
from rapport.v1 import log_pb2
from service import keys
from service.errors import Conflict, Unreadable
from service.redis_client import RedisClient, translated

HOPS: Final = 64
"""From a customer to their root; merges shorten the way, so a longer one is a circle."""
_LOCK_MS: Final = 5_000
_PATIENCE_SECONDS: Final = 7.0  # longer than the lock of somebody who died
_PAUSE_SECONDS: Final = 0.01
_TRIES: Final = 64  # of several at once one gets through in every round


class Family(NamedTuple):
    """How a customer comes to their root, and whom the root has adopted."""

    way: list[str]  # from the customer to the root, both included
    members: list[str]

    @property
    def root(self) -> str:
        """The one whom the customer was merged into, however often."""
        return self.way[-1]

    @property
    def unadopted(self) -> list[str]:
        """Who was fenced and not adopted, nearest to the root first."""
        return [name for name in reversed(self.way[:-1]) if name not in self.members]


class _LostError(Exception):
    """A lock has expired: begin again."""


class Merges(RedisClient):
    """Customers who were merged, and their ledgers.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...`` or ``unix:///path``.
        tenant: First part of every key's hash tag.
        timeout: Seconds to wait for a reply.
        ttl: Milliseconds that a customer's keys live after their last write.
        horizon: Milliseconds past which the ledger forgets: the longest window of any limit.
        keep: Records of an action, outcome and channel that a ledger keeps; 0: all. It has to be
            more than what any limit allows.
    """

    def __init__(
        self, url: str, tenant: str, timeout: float, *, ttl: int, horizon: int, keep: int
    ) -> None:
        super().__init__(url, tenant, timeout)
        self._ttl, self._horizon, self._keep = ttl, horizon, keep

    async def root(self, customer_id: str) -> str:
        """The customer whom another was merged into, however often; the same one if never."""
        return (await self._family(customer_id)).root

    async def merge(self, customer_id: str, into: str, caller: str) -> bool:
        """Make a customer a member of another; see :class:`service.store.Store`."""
        for _ in range(_TRIES):
            one, other = await self.root(customer_id), await self.root(into)
            try:
                async with self._locked({one, other}) as token:
                    families = await self._family(customer_id), await self._family(into)
                    if [family.root for family in families] != [one, other]:
                        continue
                    finished = [await self._finish(family, token) for family in families]
                    if one == other:
                        return any(finished)
                    await self._join(one, other, caller, token)
                    return True
            except _LostError:
                continue
        raise busy()

    async def _family(self, customer_id: str) -> Family:
        """Follow a customer to their root."""
        way = [customer_id]
        async with translated():
            while len(way) <= HOPS:
                moved, members = await self._redis.mget(
                    keys.moved(self.tenant, way[-1]), keys.members(self.tenant, way[-1])
                )
                if moved is None:
                    return Family(way, unpacked(members))
                way.append(moved.decode())
        raise circle(customer_id)

    async def _finish_merges(self, customer_id: str) -> None:
        """Let the root adopt whoever it has not."""
        for _ in range(_TRIES):
            root = await self.root(customer_id)
            try:
                async with self._locked({root}) as token:
                    family = await self._family(customer_id)
                    if family.root == root:
                        await self._finish(family, token)
                        return
            except _LostError:
                continue
        raise busy()

    async def _finish(self, family: Family, token: str) -> bool:
        """The same with the lock on the root; say whether there was anything to do."""
        for member in family.unadopted:
            await self._adopt(member, family.root, *await self._fenced(member), token)
        return bool(family.unadopted)

    async def _join(self, customer_id: str, root: str, caller: str, token: str) -> None:
        """Merge one root into another; both are locked."""
        merged = log_pb2.CustomerMerged(into=root, caller=caller)
        ledger, members = await self._fenced(customer_id, root, merged, token)
        await self._adopt(customer_id, root, ledger, members, token)
        async with translated(), self._redis.pipeline(transaction=False) as pipeline:
            for name in members:  # one hop for them, however long the chain of merges
                pipeline.set(keys.moved(self.tenant, name), root, xx=True)
            if members:
                await pipeline.execute()

    async def _fenced(
        self,
        customer_id: str,
        into: str = "",
        merged: log_pb2.CustomerMerged | None = None,
        token: str = "",
    ) -> tuple[bytes, list[str]]:
        """Fence a customer, or find them fenced; give the records of their ledger, and members."""
        entry = log_pb2.LogEntry(customer_id=customer_id, merged=merged)
        moved, ledger, members = await self._call_one(
            "fence",
            [
                keys.ledger(self.tenant, customer_id),
                keys.log_of(self.tenant, customer_id),
                keys.moved(self.tenant, customer_id),
                keys.members(self.tenant, customer_id),
                keys.lock(self.tenant, customer_id),
            ],
            [into, entry.SerializeToString(), token],
        )
        if not moved:
            raise _LostError
        return ledger[HEADER.itemsize :], unpacked(members)

    async def _adopt(
        self, member: str, root: str, records: bytes, theirs: Sequence[str], token: str
    ) -> None:
        """Make a fenced customer a member of a root, with their own members."""
        members = (await self._family(root)).members
        members += [name for name in (member, *theirs) if name not in members]
        if (await self._take_over(member, root, records, members, token))[0] != b"done":
            raise _LostError

    async def _take_over(
        self,
        member: str,
        root: str,
        records: bytes,
        members: Sequence[str] = (),
        token: str = "",
    ) -> list[bytes]:
        """Add records of a member to the ledger of their root."""
        adopted = log_pb2.MemberAdopted(customer_id=member, ledger=records, members=members)
        return cast(
            "list[bytes]",
            await self._call_one(
                "adopt",
                [
                    keys.ledger(self.tenant, root),
                    keys.log_of(self.tenant, root),
                    keys.moved(self.tenant, root),
                    keys.members(self.tenant, root),
                    keys.lock(self.tenant, root),
                ],
                [
                    member,
                    msgspec.msgpack.encode(members) if members else b"",
                    token,
                    self._ttl,
                    self._horizon,
                    self._keep,
                    log_pb2.LogEntry(customer_id=root, adopted=adopted).SerializeToString(),
                    records,
                ],
            ),
        )

    @asynccontextmanager
    async def _locked(self, customers: Iterable[str]) -> AsyncIterator[str]:
        """Hold a lock on each of some customers; give the token that proves it.

        All take them in the same order, and later ones expire later: whoever still holds one holds
        all that come after it.

        Raises:
            Conflict: Somebody else has held one for too long.
        """
        token, held = uuid.uuid4().hex, list[str]()
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        try:
            for name in sorted(customers):
                key = keys.lock(self.tenant, name)
                held.append(key)
                while not await self._lock(key, token):
                    if asyncio.get_running_loop().time() > deadline:
                        raise busy()
                    await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
            yield token
        finally:
            # Where this fails too, the lock expires.
            await self._call("unlock", [([key], [token]) for key in held])

    async def _lock(self, key: str, token: str) -> bool:
        async with translated():
            return bool(await self._redis.set(key, token, nx=True, px=_LOCK_MS))


def unpacked(members: bytes | None) -> list[str]:
    """Names that are stored as msgpack."""
    return msgspec.msgpack.decode(members, type=list[str]) if members else []


def busy() -> Conflict:
    """The error of a customer who is held by somebody else for too long."""
    return Conflict("the customer is being merged or forgotten; try again")


def circle(customer_id: str) -> Unreadable:
    """The error of a customer who has no root."""
    return Unreadable(f"customer {customer_id[:64]!r} is merged in a circle; restore them")
