"""The store on Redis or Valkey: core commands and a few Lua scripts, no modules, no SCAN."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from features.duration import DAY
from features.record import NEVER, LogId, header
from features.timeline import LIMIT
from service import keys
from service.errors import Precondition, StoreUnavailable
from service.redis_client import Answers, settle, translated
from service.redis_forget import IDENTIFIER, Forgetting
from service.redis_line import Then, packed
from service.redis_log import LogPages
from service.redis_merge import HOPS, circle, unpacked
from service.redis_shared import Shared
from service.redis_write import Writes
from service.store import ERASED, Member, Snapshot, Status

_ORPHAN_TTL: Final = 30 * DAY
_DECISIONS: Final = 16  # that one script call takes at most, so that it never holds the store long
_PREFIX: Final = 4
_READ: Final = (
    b"*6\r\n$4\r\nMGET\r\n$%d\r\ntl1:%b\r\n$%d\r\nct1:%b\r\n$%d\r\npf1:%b\r\n"
    b"$%d\r\nmv1:%b\r\n$%d\r\nmb1:%b\r\n"
)
"""A command that is written but for the keys of a customer, which are those of ``service.keys``."""


class _Found(NamedTuple):
    """What is stored under a customer's own keys."""

    timeline: bytes | None
    ledger: bytes | None
    profile: bytes | None
    moved: bytes | None
    members: bytes | None


class RedisStore(Writes, Forgetting, Shared, LogPages):
    """A :class:`service.store.Store` on one Redis or Valkey server, or a cluster of them.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...`` or ``unix:///path``.
        tenant: First part of every key's hash tag.
        ttl: Milliseconds that a customer's keys live after their last write.
        horizon: Milliseconds past which the ledger forgets: the longest window of any limit.
        keep: Records of an action, outcome and channel that a ledger keeps; 0: all. Only more than
            what any limit allows is exact.
        limit: Events that a timeline keeps.
        decisions: Milliseconds that outcomes find their decision: the longest response window.
        timeout: Seconds to wait for a reply.
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str = "main",
        ttl: int = 400 * DAY,
        horizon: int = 30 * DAY,
        keep: int = 0,
        limit: int = LIMIT,
        decisions: int = 30 * DAY,
        timeout: float = 2.0,
    ) -> None:
        super().__init__(url, tenant, timeout, ttl=ttl, horizon=horizon, keep=keep, limit=limit)
        self._decisions = decisions

    def retain(self, horizon: int, keep: int, decisions: int) -> None:
        """Change what is kept from the next write on; see the arguments of the class."""
        self._horizon, self._keep, self._decisions = horizon, keep, decisions

    # Reading

    def read(self, customer_id: str) -> asyncio.Future[Snapshot]:
        """Read everything of one customer; see :class:`service.store.Store`.

        One round trip. Who was merged into another costs one more for each hop to the root, and a
        root one more for the timelines of all members.
        """
        answer: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._look_up(customer_id, partial(self._found, customer_id, answer))
        return answer

    def _look_up(self, customer_id: str, then: Then) -> None:
        """Read the keys of :class:`_Found`; ``then`` takes a list of their values."""
        own = f"{keys.tag(self.tenant, customer_id)}:{customer_id}".encode()
        size = len(own) + _PREFIX
        command = _READ % (size, own, size, own, size, own, size, own, size, own)
        self._ask(own, command, then, partial(self._parts, customer_id))

    def _parts(self, customer_id: str) -> tuple[str, ...]:
        of_kind = (keys.timeline, keys.ledger, keys.profile, keys.moved, keys.members)
        return ("MGET", *(key(self.tenant, customer_id) for key in of_kind))

    def _found(self, customer_id: str, answer: asyncio.Future[Snapshot], reply: Any) -> None:
        if type(reply) is not list:
            settle(answer, reply)
        elif not answer.done():
            timeline, ledger, profile, moved, members = reply
            if moved is None and members is None:
                answer.set_result(Snapshot(timeline, ledger, profile, customer_id))
            else:
                found = _Found(timeline, ledger, profile, moved, members)
                self._begin(self._follow(customer_id, found, answer))

    async def _follow(
        self, customer_id: str, found: _Found, answer: asyncio.Future[Snapshot]
    ) -> None:
        """Answer with what is stored of the root, and of all its members."""
        try:
            snapshot: object = await self._whole(customer_id, found)
        except Exception as error:  # noqa: BLE001  whatever it was, it is the asker's answer
            snapshot = error
        settle(answer, snapshot)

    async def _whole(self, customer_id: str, found: _Found) -> Snapshot:
        way = [customer_id]
        while found.moved is not None:
            if len(way) > HOPS:
                raise circle(customer_id)
            way.append(found.moved.decode())
            next: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            self._look_up(way[-1], partial(settle, next))
            found = _Found(*await next)
        members = unpacked(found.members)
        left_out = [name for name in way[:-1] if name not in members]
        members += left_out
        timelines = await asyncio.gather(
            *(self._get(keys.timeline(self.tenant, name)) for name in members)
        )
        return Snapshot(
            found.timeline,
            found.ledger,
            found.profile,
            way[-1],
            tuple(Member(*one) for one in zip(members, timelines, strict=True)),
            unfinished=bool(left_out),
        )

    def _get(self, key: str) -> asyncio.Future[bytes | None]:
        """The value of a key. Calls of the same turn share a round trip."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._ask(key, packed("GET", key), partial(settle, answer), lambda: ("GET", key))
        return answer

    def resolve(self, names: Sequence[tuple[str, str]]) -> asyncio.Future[list[str | None]]:
        """Customers that identifiers name. Calls of the same turn share a round trip."""
        answer: asyncio.Future[list[str | None]] = asyncio.get_running_loop().create_future()
        answers = Answers(len(names), partial(_named, answer))
        for number, name in enumerate(names):
            command = ("GET", keys.identity(self.tenant, *name))
            then = partial(answers.take, number)
            self._ask(command[1], packed(*command), then, partial(tuple, command))
        return answer

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
        found = await self._get(keys.decision(self.tenant, decision_id))
        if found is None:
            return None
        id, _, summary = found.partition(b" ")
        return id, summary

    # Writing

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
                keys.moved(self.tenant, customer_id),
            ],
            [
                b"" if expected == NEVER else header(expected),
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
            await self._redis.zadd(index, {IDENTIFIER + key: math.inf})
            before = await self._redis.set(key, customer_id, nx=True, get=True)
            if before is None:
                stream = keys.log_of(self.tenant, customer_id)
                await self._redis.xadd(stream, {keys.LOG_FIELD: entry})
            elif before != customer_id.encode():
                await self._redis.zrem(index, IDENTIFIER + key)
        return cast(str, before.decode()) if before else customer_id

    async def journal(self, decisions: Sequence[tuple[str, str, bytes, bytes]]) -> list[bool]:
        """Append decisions to the log, each once, but for those of customers forgotten since."""
        of_slot: dict[str, list[int]] = {}
        for number, (_, decision_id, _, _) in enumerate(decisions):
            slot = decision_id[:2] if self._clustered else ""
            of_slot.setdefault(slot, []).append(number)
        batches = [
            numbers[first : first + _DECISIONS]
            for numbers in of_slot.values()
            for first in range(0, len(numbers), _DECISIONS)
        ]
        calls = [self._journalling([decisions[i] for i in numbers]) for numbers in batches]
        replies = await self._call("journal", calls)
        failed = [reply for reply in replies if isinstance(reply, Exception)]
        if failed and len(failed) == len(replies):
            raise StoreUnavailable(f"decisions could not be logged: {failed[0]}") from failed[0]
        done = [True] * len(decisions)
        for numbers, reply in zip(batches, replies, strict=True):
            for number in numbers if isinstance(reply, Exception) else ():
                done[number] = False
        return done

    def _journalling(
        self, decisions: Sequence[tuple[str, str, bytes, bytes]]
    ) -> tuple[list[str], list[Any]]:
        """Keys and arguments of the script."""
        names: list[str] = []
        arguments: list[Any] = [self._decisions]
        for customer_id, decision_id, summary, entry in decisions:
            names += keys.of_journal(self.tenant, decision_id, customer_id)
            arguments += (entry, summary, decision_id)
        return names, arguments

    async def orphan(self, decision_id: str, hash: bytes, entry: bytes) -> int:
        """Log an outcome whose decision is not known, once."""
        return int(
            await self._call_one(
                "orphan",
                [
                    keys.decision_log(self.tenant, decision_id),
                    keys.orphan(self.tenant, decision_id, hash),
                ],
                [entry, _ORPHAN_TTL],
            )
        )

    # Health

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


def _named(answer: asyncio.Future[list[str | None]], replies: list[Any]) -> None:
    """Give the customers, or the first error."""
    failed = next((one for one in replies if isinstance(one, Exception)), None)
    settle(answer, failed or [one and one.decode(errors="replace") for one in replies])


assert ERASED == 5  # noqa: S101  the code that record.lua gives
