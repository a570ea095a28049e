"""Ceilings, prices, configurations and orphans on a real store."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from features.duration import DAY
from features.partition import partition
from features.record import event_hash
from service import keys
from service.leases import Leases
from service.redis_store import RedisStore
from service.store import DUPLICATE, STORED


async def test_a_lease_is_never_over_the_limit_and_what_returns_never_under_nothing(
    store: RedisStore, redis: Any
) -> None:
    assert await store.lease("offers", "day", 7, 10, DAY) == 7
    assert await store.lease("offers", "day", 7, 10, DAY) == 3
    assert await store.lease("offers", "day", 7, 10, DAY) == 0
    assert await store.lease("offers", "day", 7, 5, DAY) == 0, "lowered since"
    assert await store.lease("offers", "next", 7, 10, DAY) == 7
    await store.give_back("offers", "day", 4)
    assert 0 < await redis.pttl(keys.ceiling(store.tenant, "offers", "day")) <= DAY
    assert await store.lease("offers", "day", 9, 10, DAY) == 4
    await store.give_back("offers", "day", 400)
    assert await store.lease("offers", "day", 20, 10, DAY) == 10
    await store.give_back("never", "day", 3)
    assert await store.lease("never", "day", 3, 2, DAY) == 2


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("limit", [1, 40, 3_000])
async def test_workers_at_once_never_sell_more_than_there_is_and_alive_all_of_it(
    store: RedisStore, crashes: bool, limit: int
) -> None:
    dice = random.Random(limit)
    sold = 0

    async def worker(number: int) -> None:
        nonlocal sold
        leases = Leases(store, time.monotonic, block=dice.choice([1, 20, 1_000]))
        await leases.start([("offers", "day", limit)])
        for _ in range(dice.randrange(200, 400)):
            amount = dice.choice([1, 1, 3])
            if leases.room("offers", "day") and leases.take("offers", "day", amount, limit):
                sold += amount
                if dice.random() < 0.1:
                    leases.give_back("offers", "day", amount)
                    sold -= amount
            await asyncio.sleep(0)
        if crashes and number % 2:
            leases._blocks.clear()  # nobody returns what it had
        await leases.close()

    await asyncio.gather(*(worker(number) for number in range(6)))
    assert sold <= limit
    rest = await store.lease("offers", "day", limit + 1, limit, DAY)
    assert sold + rest <= limit
    if not crashes:
        assert sold + rest == limit


async def test_prices_are_set_one_by_one_and_to_the_last_bit(store: RedisStore) -> None:
    assert await store.prices() == {}
    await store.set_prices({"agents": 0.1 + 0.2, "ü: post": 3})
    await store.set_prices({"agents": 1e-300})
    await store.set_prices({})
    assert await store.prices() == {"agents": 1e-300, "ü: post": 3.0}


async def test_a_configuration_is_kept_as_it_was_first(store: RedisStore, redis: Any) -> None:
    assert await store.configuration("d1") is None
    await store.keep_configuration("d1", b"one")
    await store.keep_configuration("d1", b"other")
    assert await store.configuration("d1") == b"one"
    assert await redis.pttl(keys.configuration(store.tenant, "d1")) == -1


async def test_an_orphan_is_logged_once_where_its_decision_would_be(
    store: RedisStore, redis: Any
) -> None:
    id = f"{partition('ann'):02x}0123"
    one, other = (event_hash("test", str(n)).to_bytes(8, "little") for n in range(2))
    assert await store.orphan(id, one, b"one") == STORED
    assert await store.orphan(id, one, b"one") == DUPLICATE
    assert await store.orphan(id, other, b"other") == STORED
    logged = await redis.xrange(keys.log_of(store.tenant, "ann"))
    assert [fields[b"e"] for _, fields in logged] == [b"one", b"other"]
    assert 29 * DAY < await redis.pttl(keys.orphan(store.tenant, id, one)) <= 30 * DAY
