from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest_asyncio

from service import journal as journals
from service.journal import Journal, Summary
from tests.integration.serving import until
from tests.integration.shelf import Shelf


class Waiting(NamedTuple):
    """An :class:`service.journal.Entry`."""

    decision_id: str
    summary: Summary
    build: Callable[[], bytes]


def entry(number: int) -> Waiting:
    return Waiting(f"decision-{number}", Summary("ann", "phone", "", []), lambda: b"%d" % number)


@pytest_asyncio.fixture
async def shelf() -> Shelf:
    return Shelf()


@pytest_asyncio.fixture
async def journal(shelf: Shelf) -> AsyncIterator[Journal]:
    journal = Journal(shelf, capacity=100)
    journal.start()
    yield journal
    await journal.close(0.05)


async def emptied(journal: Journal) -> None:
    await until(lambda: not journal.pending)


async def test_decisions_are_written_in_their_order_and_in_few_batches(
    shelf: Shelf, journal: Journal
) -> None:
    for number in range(100):
        assert journal.append(entry(number))
    await emptied(journal)
    assert [written for *_, written in shelf.logged] == [b"%d" % i for i in range(100)]
    assert shelf.batches == 4


async def test_decisions_of_a_few_milliseconds_share_a_batch(
    shelf: Shelf, journal: Journal
) -> None:
    for number in range(5):
        journal.append(entry(number))
        await asyncio.sleep(0)
    await emptied(journal)
    assert len(shelf.logged) == 5
    assert shelf.batches == 1


async def test_a_decision_that_waits_is_known_until_it_is_written(
    shelf: Shelf, journal: Journal
) -> None:
    waiting = entry(1)
    journal.append(waiting)
    assert journal.waiting("decision-1") is waiting
    await emptied(journal)
    assert journal.waiting("decision-1") is None


async def test_a_part_of_the_store_that_is_away_keeps_nobody_else_waiting(
    shelf: Shelf, journal: Journal
) -> None:
    shelf.cut_off.add("ann")
    for number in range(70):
        journal.append(entry(number))
    bob = Waiting("decision-bob", Summary("bob", "phone", "", []), lambda: b"bob")
    journal.append(bob)
    await until(lambda: journal.waiting("decision-bob") is None)
    assert [written for *_, written in shelf.logged] == [b"bob"]
    assert journal.pending == 70
    shelf.cut_off.clear()
    await emptied(journal)
    assert len(shelf.logged) == 71


async def test_there_is_room_for_so_many_and_what_finds_none_is_counted(
    shelf: Shelf, journal: Journal
) -> None:
    shelf.away = True
    taken = [journal.append(entry(number)) for number in range(103)]
    assert taken == [True] * 100 + [False] * 3
    assert (journal.pending, journal.dropped) == (100, 3)


async def test_it_keeps_trying_while_the_store_is_away(shelf: Shelf, journal: Journal) -> None:
    shelf.away = True
    journal.append(entry(1))
    await asyncio.sleep(0.12)
    assert journal.pending == 1
    shelf.away = False
    await emptied(journal)
    assert len(shelf.logged) == 1
    journal.append(entry(2))
    await emptied(journal)
    assert journal.dropped == 0


async def test_closing_writes_what_waits(shelf: Shelf) -> None:
    journal = Journal(shelf)  # not started
    for number in range(200):
        journal.append(entry(number))
    await journal.close(5)
    assert (len(shelf.logged), journal.pending, journal.dropped) == (200, 0, 0)


async def test_closing_waits_for_a_store_that_comes_back(shelf: Shelf) -> None:
    journal = Journal(shelf)
    shelf.away = True
    journal.append(entry(1))
    closing = asyncio.create_task(journal.close(5))
    await asyncio.sleep(0.05)
    shelf.away = False
    await closing
    assert (len(shelf.logged), journal.dropped) == (1, 0)


async def test_closing_gives_up_in_time_and_counts_what_is_lost(shelf: Shelf) -> None:
    journal = Journal(shelf)
    shelf.away = True
    for number in range(3):
        journal.append(entry(number))
    async with asyncio.timeout(1):
        await journal.close(0.05)
    assert journal.dropped == 3


async def test_there_is_room_for_minutes_of_decisions() -> None:
    assert journals.CAPACITY >= 10_000


async def test_while_the_store_is_away_what_waits_is_built_once_and_lets_go_of_its_decision(
    shelf: Shelf, journal: Journal
) -> None:
    """A decision is hundreds of objects; the collector would walk those of every one that waits."""

    class Decided:
        pass

    built: list[int] = []

    def append(number: int) -> weakref.ref[Decided]:
        decided = Decided()

        def build() -> bytes:
            assert decided
            built.append(number)
            return b"%d" % number

        assert journal.append(entry(number)._replace(build=build))
        return weakref.ref(decided)

    shelf.away = True
    held = [append(number) for number in range(40)]
    await until(lambda: all(one() is None for one in held))
    assert sorted(set(built)) == list(range(40))
    waiting = journal.waiting("decision-7")
    assert waiting is not None
    assert waiting.build() == b"7"
    before = len(built)
    shelf.away = False
    await emptied(journal)
    assert [written for *_, written in shelf.logged] == [b"%d" % i for i in range(40)]
    assert len(built) == before
