"""Forget a customer: all they were merged with, key by key and log entry by log entry.

Members go first, while the root still names them, so that one who asks again after a failure
finds whoever is left.
"""

from __future__ import annotations

from typing import Final

from features.record import EMPTY, NEVER, SIZE, encode
from rapport.v1 import log_pb2
from service import keys
from service.redis_client import translated
from service.redis_merge import Merges

_PAGE: Final = 1_000
IDENTIFIER: Final = "i"  # of the index's members; those of decisions begin with "d"


class Forgetting(Merges):
    """Removes customers."""

    async def forget(self, customer_id: str, moment: int, entry: bytes) -> tuple[int, int]:
        """Remove a customer and all they were merged with; give the events and entries that went.

        Raises:
            Conflict: Somebody else merges them.
        """
        gone: dict[str, tuple[int, int]] = {}
        while True:
            family = await self._family(customer_id)
            for name in dict.fromkeys([*family.members, *family.way[:-1]]):
                if name not in gone:
                    went = await self._forget_keys(name, moment, _addressed(entry, name))
                    assert went is not None  # noqa: S101  no lock was asked for
                    gone[name] = await self._forget_rest(name, *went)
            async with self._locked({family.root}) as token:
                now = await self._family(customer_id)
                if now.root != family.root or not {*now.members, *now.way[:-1]} <= gone.keys():
                    continue
                root = family.root
                went = await self._forget_keys(root, moment, _addressed(entry, root), token)
                if went is None:
                    continue
                await self._unmerge(gone)
            gone[root] = await self._forget_rest(root, *went)
            return sum(one for one, _ in gone.values()), sum(one for _, one in gone.values())

    async def _forget_keys(
        self, customer_id: str, moment: int, entry: bytes, token: str = ""
    ) -> tuple[bytes, int, list[bytes]] | None:
        """Remove the keys; give the erasure's id, bytes of the timeline, and the index."""
        went = await self._call_one(
            "forget",
            [
                keys.timeline(self.tenant, customer_id),
                keys.ledger(self.tenant, customer_id),
                keys.profile(self.tenant, customer_id),
                keys.log_of(self.tenant, customer_id),
                keys.tombstone(self.tenant, customer_id),
                keys.index(self.tenant, customer_id),
                keys.members(self.tenant, customer_id),
                keys.lock(self.tenant, customer_id),
            ],
            [moment, entry, token],
        )
        return None if went is None else (went[0], went[1], went[2])

    async def _unmerge(self, members: dict[str, tuple[int, int]]) -> None:
        """Let those who were members be on their own."""
        async with translated(), self._redis.pipeline(transaction=False) as pipeline:
            for name in members:
                pipeline.delete(keys.moved(self.tenant, name))
            if members:
                await pipeline.execute()

    async def _forget_rest(
        self, customer_id: str, erased: bytes, size: int, index: list[bytes]
    ) -> tuple[int, int]:
        """Remove what leads to a customer, and then what the log holds."""
        events = max(0, (size - len(encode(NEVER, EMPTY))) // SIZE)
        async with translated():
            for member in index:
                await self._unlink(customer_id, member.decode())
            return events, await self._forget_log(customer_id, erased)

    async def _unlink(self, customer_id: str, member: str) -> None:
        """Remove a key of the index, unless it is another customer's by now."""
        kind, name = member[:1], member[1:]
        if kind == IDENTIFIER:
            if await self._redis.get(name) == customer_id.encode():
                await self._redis.delete(name)
        else:
            await self._redis.delete(keys.decision(self.tenant, name))

    async def _forget_log(self, customer_id: str, erased: bytes) -> int:
        """Delete a customer's entries up to that of the erasure; give their number."""
        stream = keys.log_of(self.tenant, customer_id)
        removed = 0
        start: bytes | str = "-"
        while True:
            page = await self._redis.xrange(stream, start, erased, count=_PAGE)
            gone = [
                id
                for id, fields in page
                if id != erased
                and log_pb2.LogEntry.FromString(fields[b"e"]).customer_id == customer_id
            ]
            if gone:
                await self._redis.xdel(stream, *gone)
                removed += len(gone)
            if len(page) < _PAGE:
                return removed
            start = b"(" + page[-1][0]


def _addressed(entry: bytes, customer_id: str) -> bytes:
    """The log entry of an erasure, of somebody who goes with the one that was named.

    Appending a field to a serialised message sets it.
    """
    return entry + log_pb2.LogEntry(customer_id=customer_id).SerializeToString()
