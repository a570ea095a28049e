"""Callers that leave in the middle of everything: nobody gets the reply to another's question."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from features import record
from features.record import RESERVED, decode
from rapport.v1 import decision_pb2
from service.bundle import Bundle
from service.deadlines import Deadlines
from service.embedded import EmbeddedStore
from service.redis_store import RedisStore
from service.store import Cap, Hold, Snapshot, Write
from tests.integration.serving import Client, event, flushed, serving, somebody

NOW = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedStore]:
    """A store that these tests may hold up."""
    with EmbeddedStore() as store:
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(embedded: EmbeddedStore, bundle: Bundle) -> AsyncIterator[Client]:
    async with serving(embedded.url, bundle=bundle) as client:
        yield client


@pytest.mark.asyncio(loop_scope="module")
async def test_decisions_that_are_cancelled_poison_no_others(
    served: Client, embedded: EmbeddedStore
) -> None:
    people = {somebody(): n % 7 for n in range(70)}
    await served.record(*(event(name) for name, events in people.items() for _ in range(events)))
    dice = random.Random(7)
    left = 0
    for turn in range(8):
        calls = {
            name: asyncio.ensure_future(served.decide(name, include_trace=False)) for name in people
        }
        await asyncio.sleep(dice.uniform(0, 0.02))
        if turn % 2:  # so that some leave while their read is on its way for sure
            os.kill(embedded.pid, signal.SIGSTOP)
            await asyncio.sleep(0.03)
        leaving = dice.sample(sorted(calls), 35)
        for name in leaving:
            calls[name].cancel()
            await asyncio.sleep(dice.choice([0, 0, 0.0005]))
        os.kill(embedded.pid, signal.SIGCONT)
        for name, call in calls.items():
            try:
                answer = await call
            except (asyncio.CancelledError, grpc.aio.AioRpcError):
                assert name in leaving
                left += 1
            else:
                assert answer.read.events == people[name]
                assert answer.rung == decision_pb2.RUNG_FULL
    assert left > 100
    await flushed(served)


async def test_reads_and_reservations_that_are_given_up_leave_the_others_in_step(
    embedded: EmbeddedStore,
) -> None:
    store = RedisStore(embedded.url, tenant=uuid.uuid4().hex)
    names = [f"c{n}" for n in range(40)]

    def hashed(name: str) -> int:
        return record.event_hash("test", name)

    packs = {name: record.pack(occurred_at=NOW, hash=hashed(name), type=1) for name in names}
    await store.record([(name, Write(packed, False, b"")) for name, packed in packs.items()])
    dice = random.Random(3)
    deadlines = Deadlines()

    async def asks(name: str, n: int) -> None:
        found = await deadlines.in_time(store.read(name), dice.choice([0.0, 0.0005, 5.0]))
        if isinstance(found, Snapshot):
            assert decode(found.timeline)[1]["hash"].tolist() == [hashed(name)]
        # Each takes the place that there is, or sees that it is taken; nobody else is told.
        packed = record.pack(
            occurred_at=NOW, hash=n + 1, type=1, action=1, outcome=RESERVED, value=3_600.0
        )
        hold = Hold(packed, [Cap(1, 86_400_000, 0, b"\1\0")], b"")
        granted = await deadlines.in_time(store.reserve(f"{name}-{n}", NOW, [hold, hold]), 5.0)
        assert granted == [True, True], "the same one again is granted again"

    for turn in range(15):
        calls = [asyncio.create_task(asks(name, turn)) for name in names]
        for call in dice.sample(calls, 15):
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            call.cancel()
        for reply in await asyncio.gather(*calls, return_exceptions=True):
            assert reply is None or isinstance(reply, asyncio.CancelledError)
    await store.close()


async def test_reservations_of_one_turn_share_a_round_trip_and_find_scripts_that_were_lost(
    embedded: EmbeddedStore,
) -> None:
    store = RedisStore(embedded.url, tenant=uuid.uuid4().hex)
    async with Redis.from_url(embedded.url) as redis:
        for turn in range(3):
            await redis.script_flush()
            await redis.config_resetstat()
            packed = record.pack(
                occurred_at=NOW, hash=turn + 1, type=1, action=1, outcome=RESERVED, value=3_600.0
            )
            hold = Hold(packed, [Cap(1, 86_400_000, 0, b"\1\0")], b"")
            granted = await asyncio.gather(
                *(store.reserve(f"p{n}", NOW, [hold]) for n in range(30)),
                store.reserve("p0", NOW, []),
            )
            assert granted == [*[[turn == 0]] * 30, []]
            told = await redis.info("commandstats")
            calls = {name: told[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "eval")}
            assert calls == {"evalsha": 30, "eval": 30}, "only what was refused is sent again"
    await store.close()
