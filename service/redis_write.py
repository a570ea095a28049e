"""Store events, and reserve what is about to be presented: timelines, ledgers and the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from features import ledger
from features.record import NEVER, SIZE, LogId, header
from service import keys
from service.errors import RapportError
from service.redis_client import settle
from service.redis_merge import HOPS, Merges, busy
from service.store import BATCH, CONFLICT, DUPLICATE, STORED, TOO_OLD, UNAVAILABLE, Hold, Write

_PIPELINE: Final = 32  # script calls in one round trip
_COUNTED, _NOT, _BEFORE = b"1", b"0", b"2"  # of the ledger, as record.lua reads it


class _Batch(NamedTuple):
    """Events of one customer for one script call."""

    customer_id: str
    indexes: Sequence[int]  # of the events among all
    events: Sequence[Write]


class Writes(Merges):
    """Stores events and reservations.

    Args:
        url: As for :class:`service.redis_merge.Merges`, and all others but this one:
        tenant: See there.
        timeout: See there.
        ttl: See there.
        horizon: See there.
        keep: See there.
        limit: Events that a timeline keeps.
    """

    def __init__(
        self, url: str, tenant: str, timeout: float, *, ttl: int, horizon: int, keep: int,
        limit: int,
    ) -> None:  # fmt: skip
        super().__init__(url, tenant, timeout, ttl=ttl, horizon=horizon, keep=keep)
        self._limit = limit

    async def record(self, events: Sequence[tuple[str, Write]]) -> list[int]:
        """Store events of any customers, at most ``BATCH`` of one customer in a script call."""
        of_customer: dict[str, list[int]] = {}
        for index, (customer, _) in enumerate(events):
            of_customer.setdefault(customer, []).append(index)
        batches = [
            _Batch(customer, some, [events[i][1] for i in some])
            for customer, indexes in of_customer.items()
            for first in range(0, len(indexes), BATCH)
            if (some := indexes[first : first + BATCH])
        ]
        statuses = [UNAVAILABLE] * len(events)
        for first in range(0, len(batches), _PIPELINE):
            some_batches = batches[first : first + _PIPELINE]
            replies = await self._call("record", [self._recording(one) for one in some_batches])
            for batch, reply in zip(some_batches, replies, strict=True):
                if isinstance(reply, Exception):
                    continue
                _, found, moved = reply
                if moved:
                    found = await self._record_member(batch, found, moved.decode())
                for index, status in zip(batch.indexes, found, strict=True):
                    statuses[index] = status
        return statuses

    def _recording(
        self, batch: _Batch, into: str = "", flags: Sequence[bytes] = ()
    ) -> tuple[Sequence[str], list[Any]]:
        """Keys and arguments of the script."""
        flags = flags or [_COUNTED if event.counted else _NOT for event in batch.events]
        arguments: list[Any] = [self._limit, self._ttl, self._horizon, self._keep, into]
        for event, flag in zip(batch.events, flags, strict=True):
            arguments += (event.record, flag, event.entry, event.releases)
        return keys.of_recording(self.tenant, batch.customer_id), arguments

    async def _record_member(
        self, batch: _Batch, expected: Sequence[int], into: str
    ) -> Sequence[int]:
        """Store events of a customer who was merged: the root's ledger first, then their timeline.

        A repetition does no harm, whatever came between the two: the ledger knows the hash.

        Args:
            batch: The events.
            expected: What would have become of each without the ledger.
            into: Whom the customer was merged into when they were asked.
        """
        ours = set[int]()
        for _ in range(HOPS):
            fate = [UNAVAILABLE] * len(batch.events)
            try:
                known = await self._count_at_root(batch, expected)
                ours.update(i for i, status in enumerate(known) if status == STORED)
                kept = [i for i in range(len(fate)) if known[i] != CONFLICT]
                rest = batch._replace(
                    indexes=[batch.indexes[i] for i in kept],
                    events=[batch.events[i] for i in kept],
                )
                flags = [
                    _BEFORE
                    if known[i] == DUPLICATE and i not in ours
                    else (_COUNTED if batch.events[i].counted else _NOT)
                    for i in kept
                ]
                reply = (await self._call("record", [self._recording(rest, into, flags)]))[0]
            except RapportError:
                return fate
            if isinstance(reply, Exception):
                return fate
            _, found, moved = reply
            if moved:  # once more meanwhile
                every = dict(zip(kept, found, strict=True))
                expected = [every.get(i, CONFLICT) for i in range(len(fate))]
                into = moved.decode()
                continue
            fate = [CONFLICT] * len(fate)
            for i, status in zip(kept, found, strict=True):
                fate[i] = status
            return fate
        return [UNAVAILABLE] * len(batch.events)

    async def _count_at_root(self, batch: _Batch, expected: Sequence[int]) -> list[int]:
        """Do what a ledger has to, at the root of a customer who was merged.

        Returns:
            For each event: 0 where the ledger has nothing to do with it, else what became of it
            there: STORED, DUPLICATE or CONFLICT.
        """
        fate = [0] * len(batch.events)
        first: dict[bytes, int] = {}
        again: list[int] = []
        records: list[tuple[bytes, int | None]] = []
        for i, event in enumerate(batch.events):
            if expected[i] not in (STORED, TOO_OLD):
                continue
            if event.counted and first.setdefault(ledger.hash_of(event.record), i) != i:
                again.append(i)
            elif event.counted:
                records.append((event.record, i))
            if event.releases:
                records.append((ledger.ended(event.record, event.releases), None))
        if not records:
            return fate
        records.sort(key=lambda one: ledger.order(one[0]))
        packed = b"".join(record for record, _ in records)
        root = (await self._family(batch.customer_id)).root
        for _ in range(HOPS):
            if root == batch.customer_id:
                return fate  # forgotten meanwhile: they are on their own
            state, *said = await self._take_over(batch.customer_id, root, packed)
            if state == b"done":
                for (_, index), status in zip(records, said[0], strict=True):
                    if index is not None:
                        fate[index] = status
                for i in again:
                    one = first[ledger.hash_of(batch.events[i].record)]
                    same = batch.events[i].record == batch.events[one].record
                    fate[i] = DUPLICATE if same and fate[one] != CONFLICT else CONFLICT
                return fate
            if state == b"stranger":
                await self._finish_merges(batch.customer_id)
            root = (await self._family(batch.customer_id)).root
        raise busy()

    def reserve(
        self, customer_id: str, now: int, holds: Sequence[Hold], read_at: LogId | None = None
    ) -> asyncio.Future[list[bool]]:
        """Reserve what no cap forbids; see :class:`service.store.Store`."""
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        if not holds:
            answer.set_result([])
            return answer
        names = keys.of_reserving(self.tenant, customer_id)
        if read_at is None:
            self._recount(names, now, holds, answer)
            return answer
        seen = b"" if read_at == NEVER else header(read_at)
        arguments: list[Any] = [now, self._ttl, self._horizon, self._keep, seen]
        for hold in holds:
            arguments += (hold.record, hold.entry)
        self._run("hold", names, arguments, partial(self._held, names, now, holds, answer))
        return answer

    def _held(
        self,
        names: Sequence[str],
        now: int,
        holds: Sequence[Hold],
        answer: asyncio.Future[list[bool]],
        reply: Any,
    ) -> None:
        if reply is not None:
            _granted(answer, reply)
        elif not answer.done():  # the ledger has changed since it was read
            self._recount(names, now, holds, answer)

    def _recount(
        self,
        names: Sequence[str],
        now: int,
        holds: Sequence[Hold],
        answer: asyncio.Future[list[bool]],
    ) -> None:
        """Reserve what no cap forbids over the ledger as it is by then."""
        arguments: list[Any] = [now, self._ttl, self._horizon, self._keep]
        for hold in holds:
            arguments += (hold.record, hold.entry, len(hold.caps))
            for cap in hold.caps:
                arguments += (cap.at_most, cap.within, cap.channel, cap.actions)
        self._run("reserve", names, arguments, partial(_granted, answer))


def _granted(answer: asyncio.Future[list[bool]], reply: Any) -> None:
    if type(reply) is not list:
        settle(answer, reply)
    elif not answer.done():
        answer.set_result([one == 1 for one in reply])


assert SIZE == 40  # noqa: S101  as the scripts know it
assert BATCH == 32  # noqa: S101  as record.lua sorts them
