from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from service.errors import StoreUnavailable
from service.leases import Leases

DAY = ("offers", "2026-01-01")
NEXT = ("offers", "2026-01-02")


class Shelf:
    """A store of ceilings in memory."""

    def __init__(self) -> None:
        self.used: Counter[tuple[str, str]] = Counter()
        self.asked = 0
        self.away = False

    async def lease(self, ceiling: str, period: str, amount: int, limit: int, ttl: int) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("away")
        taken = max(0, min(amount, limit - self.used[ceiling, period]))
        self.used[ceiling, period] += taken
        return taken

    async def give_back(self, ceiling: str, period: str, amount: int) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("away")
        self.used[ceiling, period] -= amount


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_worker_takes_from_its_block_and_never_more_than_it_has() -> None:
    shelf = Shelf()
    leases = Leases(shelf, Clock())
    await leases.start([(*DAY, 640)])
    assert leases.room(*DAY) == 10, "a sixty-fourth"
    assert leases.take(*DAY, 4, 640)
    assert not leases.take(*DAY, 7, 640)
    assert leases.take(*DAY, 6, 640)
    assert leases.room(*DAY) == 0
    await leases.close()
    assert shelf.used[DAY] == 10 + leases.room(*DAY)


async def test_what_runs_short_is_fetched_in_the_background() -> None:
    leases = Leases(Shelf(), Clock())
    await leases.start([(*DAY, 640)])
    taken = 0
    for _ in range(1_000):
        taken += leases.take(*DAY, 1, 640)
        await asyncio.sleep(0)
    assert taken == 640
    await leases.close()


@pytest.mark.parametrize(("limit", "size"), [(1, 1), (63, 1), (6_400, 100), (10**9, 1_000)])
async def test_a_block_is_a_share_of_the_limit_within_bounds(limit: int, size: int) -> None:
    leases = Leases(Shelf(), Clock())
    await leases.start([(*DAY, limit)])
    assert leases.room(*DAY) == size
    await leases.close()


async def test_a_decision_that_needs_more_than_a_block_gets_it_the_next_time() -> None:
    leases = Leases(Shelf(), Clock())
    await leases.start([(*DAY, 64_000)])
    assert not leases.take(*DAY, 5_000, 64_000)
    await leases.refill()
    assert leases.take(*DAY, 5_000, 64_000)
    await leases.close()


async def test_a_new_period_has_room_from_the_second_decision_on() -> None:
    leases = Leases(Shelf(), Clock())
    await leases.start([(*DAY, 640)])
    assert leases.room(*NEXT) == 0
    await leases.refill()
    assert leases.room(*NEXT) == 10
    assert leases.room("unheard of", "ever") == 0
    await leases.refill()
    assert leases.room("unheard of", "ever") == 0
    await leases.close()


async def test_what_is_given_back_can_be_taken_again() -> None:
    shelf = Shelf()
    leases = Leases(shelf, Clock())
    await leases.start([(*DAY, 1)])
    assert leases.take(*DAY, 1, 1)
    leases.give_back(*DAY, 1)
    assert leases.room(*DAY) == 1
    await leases.close()
    assert shelf.used[DAY] == 0


async def test_what_nobody_uses_goes_back_so_that_others_can_have_it() -> None:
    shelf, clock = Shelf(), Clock()
    leases = Leases(shelf, clock)
    await leases.start([(*DAY, 640)])
    clock.now += 59
    await leases.refill()
    assert shelf.used[DAY] == 10
    clock.now += 1
    await leases.refill()
    assert shelf.used[DAY] == 1, "what one decision needs stays"
    clock.now += 540
    await leases.refill()
    assert shelf.used[DAY] == 0
    await leases.close()
    assert shelf.used[DAY] == 0


async def test_without_the_store_there_is_what_the_block_holds() -> None:
    shelf, clock = Shelf(), Clock()
    leases = Leases(shelf, clock)
    await leases.start([(*DAY, 640)])
    shelf.away = True
    assert sum(leases.take(*DAY, 1, 640) for _ in range(20)) == 10
    await leases.refill()
    asked = shelf.asked
    await leases.refill()
    assert shelf.asked == asked, "it is not asked again at once"
    shelf.away = False
    clock.now += 1
    await leases.refill()
    assert leases.room(*DAY) == 10
    shelf.away = True
    await leases.close()
    assert shelf.used[DAY] == 20, "what could not be returned is lost, and never sold twice"


async def test_a_limit_that_was_lowered_holds_for_what_is_left() -> None:
    shelf = Shelf()
    leases = Leases(shelf, Clock())
    await leases.start([(*DAY, 640)])
    await leases.start([(*DAY, 5)])
    taken = 0
    for _ in range(20):
        taken += leases.take(*DAY, 1, 5)
        await leases.refill()
    assert taken == 5
    await leases.start([])
    assert leases.room(*DAY) == 0
    await leases.close()


async def test_what_a_lease_brings_while_closing_goes_back_too() -> None:
    shelf = Shelf()
    leases = Leases(shelf, Clock())
    await leases.start([(*DAY, 640)])
    assert leases.take(*DAY, 10, 640)
    await asyncio.sleep(0)
    await leases.close()
    assert shelf.used[DAY] == 10
