"""What a trip to the store costs the server process: ``python -m tests.bench.trips``.

CPU microseconds per call of a read, a reservation and an entry of the journal, at so many callers
at once, over a real store. A caller asks again as soon as it has its answer.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
import uvloop
from redis import Redis

from features.duration import DAY
from features.record import RECORD, RESERVED, LogId, decode, encode, pack
from service import keys
from service.deadlines import Deadlines
from service.embedded import EmbeddedStore
from service.redis_store import RedisStore
from service.store import Cap, Hold

CUSTOMERS: Final = 2_000
EVENTS: Final = 256
CONTACTS: Final = 40
IN_FLIGHT: Final = (1, 16, 64)
_CALLS: Final = 2_000
_ROUNDS: Final = 3

Call = Callable[[int], Awaitable[object]]


def fill(url: str, now: int) -> None:
    """Give every customer a timeline, a ledger of presentations, and a small profile."""
    rows = np.zeros(EVENTS, RECORD)
    rows["occurred_at"] = now - DAY + np.arange(EVENTS)
    rows["type"], rows["outcome"], rows["channel"] = 1, 2, 1
    rows["action"] = np.arange(EVENTS) % CONTACTS + 1
    rows["interaction"] = np.arange(EVENTS) + 1
    with Redis.from_url(url) as redis, redis.pipeline(transaction=False) as pipeline:
        for number in range(CUSTOMERS):
            rows["hash"] = np.arange(EVENTS) + EVENTS * number + 1
            last = LogId(now, 0)
            pipeline.set(keys.timeline("main", f"c{number}"), encode(last, rows))
            pipeline.set(keys.ledger("main", f"c{number}"), encode(last, rows[:CONTACTS]))
            pipeline.set(keys.profile("main", f"c{number}"), bytes(200))
        pipeline.execute()


async def cost(call: Call, in_flight: int) -> float:
    """CPU microseconds of one call."""
    numbers = iter(random.sample(range(10**9), _CALLS))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    start = time.process_time()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return 1e6 * (time.process_time() - start) / _CALLS


def hold(number: int, now: int) -> Hold:
    """A reservation of one action with two caps."""
    record = pack(
        occurred_at=now, hash=number, type=1, action=50, outcome=RESERVED, value=1.0, channel=1
    )
    code = (50).to_bytes(2, "little")
    caps = [Cap(3, DAY, 0, code), Cap(9, 7 * DAY, 1, bytes(40) + code)]
    return Hold(record, caps, bytes(120))


async def measure(url: str) -> None:
    """Print the table: medians of rounds that alternate between the calls."""
    now = time.time_ns() // 1_000_000
    fill(url, now)
    store = RedisStore(url)
    deadlines = Deadlines()
    batch = 16

    async def read(number: int) -> object:
        return await deadlines.in_time(store.read(f"c{number % CUSTOMERS}"), 1.0)

    async def reserve(number: int) -> object:
        customer = f"c{number % CUSTOMERS}"
        return await deadlines.in_time(store.reserve(customer, now, [hold(number, now)]), 1.0)

    async def counted(number: int) -> object:
        customer = f"c{number % CUSTOMERS}"
        at, _ = decode((await store.read(customer)).ledger)
        return await deadlines.in_time(store.reserve(customer, now, [hold(number, now)], at), 1.0)

    async def nothing(number: int) -> object:
        return hold(number, now)

    async def journal(number: int) -> object:
        if number % batch:
            return None
        rows = [
            (
                f"c{one % CUSTOMERS}",
                f"{one % 256:02x}{now:011x}c0de{one:08x}",
                bytes(80),
                bytes(900),
            )
            for one in range(number, number + batch)
        ]
        return await store.journal(rows)

    calls: dict[str, Call] = {
        "read": read, "reserve": reserve, "read, hold": counted, "(hold)": nothing,
        "journal/16": journal,
    }  # fmt: skip
    print(f"{'us CPU':12}" + "".join(f"{n:>8}" for n in IN_FLIGHT))
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            for in_flight in IN_FLIGHT:
                spent = await cost(call, in_flight)
                found.setdefault((name, in_flight), []).append(spent)
    for name in calls:
        told = (statistics.median(found[name, n]) for n in IN_FLIGHT)
        print(f"{name:12}" + "".join(f"{one:8.1f}" for one in told), flush=True)
    await store.close()


if __name__ == "__main__":
    with EmbeddedStore() as embedded:
        uvloop.run(measure(embedded.url))
