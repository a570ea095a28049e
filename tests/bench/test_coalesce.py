from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.bench.coalesce import Coalescer


class Source:
    """Answers each question with its double, when it is let; notes what was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False

    async def __call__(self, questions: Sequence[int]) -> list[int]:
        self.asked.append(list(questions))
        await self.open.wait()
        if self.fails:
            raise ConnectionError("gone")
        return [2 * question for question in questions]


async def test_questions_of_one_turn_share_a_round_trip() -> None:
    source = Source()
    ask = Coalescer(source)
    assert await asyncio.gather(*(ask(n) for n in range(50))) == [2 * n for n in range(50)]
    assert source.asked == [list(range(50))]


async def test_questions_of_different_turns_do_not_wait_for_one_another() -> None:
    source = Source()
    source.open.clear()
    ask = Coalescer(source)
    first = ask(1)
    await asyncio.sleep(0)
    second = ask(2)
    await asyncio.sleep(0.001)
    assert source.asked == [[1], [2]]
    source.open.set()
    assert [await first, await second] == [2, 4]


async def test_more_questions_than_fit_go_in_several_trips() -> None:
    source = Source()
    ask = Coalescer(source, most=3)
    assert await asyncio.gather(*(ask(n) for n in range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert source.asked == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_cancelled_waiter_takes_nobody_with_it() -> None:
    source = Source()
    source.open.clear()
    ask = Coalescer(source)
    waiters = [asyncio.ensure_future(_wait(ask(n))) for n in range(3)]
    await asyncio.sleep(0.001)
    waiters[1].cancel()
    await asyncio.sleep(0)
    source.open.set()
    assert [await waiters[0], await waiters[2]] == [0, 4]
    with pytest.raises(asyncio.CancelledError):
        await waiters[1]


async def test_a_waiter_that_gives_up_leaves_the_read_running() -> None:
    source = Source()
    source.open.clear()
    ask = Coalescer(source)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(ask(1)), 0.001)
    source.open.set()
    assert await ask(2) == 4
    await ask.drain()
    assert source.asked == [[1], [2]]


async def _wait(future: asyncio.Future[int]) -> int:
    return await future


async def test_an_error_reaches_every_asker_and_the_next_question_is_asked_afresh() -> None:
    source = Source()
    source.fails = True
    ask = Coalescer(source)
    replies = await asyncio.gather(*(ask(n) for n in range(4)), return_exceptions=True)
    assert [type(reply) for reply in replies] == [ConnectionError] * 4
    source.fails = False
    assert await ask(1) == 2


async def test_the_error_of_an_abandoned_question_is_nobodys_business() -> None:
    source = Source()
    source.fails = True
    ask = Coalescer(source)
    ask(1)
    await ask.drain()
    await asyncio.sleep(0.001)  # an exception never retrieved would be a warning, and so a failure


async def test_too_few_answers_are_an_error_and_no_endless_wait() -> None:
    async def forgetful(questions: Sequence[int]) -> list[int]:
        return [0 for _ in questions[1:]]

    ask = Coalescer(forgetful)
    async with asyncio.timeout(1):
        replies = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
    assert any(isinstance(reply, Exception) for reply in replies)


async def test_draining_waits_for_what_is_in_flight() -> None:
    source = Source()
    source.open.clear()
    ask = Coalescer(source)
    reply = ask(1)
    await asyncio.sleep(0.001)
    asyncio.get_running_loop().call_later(0.005, source.open.set)
    await ask.drain()
    assert reply.result() == 2


async def test_draining_also_waits_for_what_was_asked_in_this_very_turn() -> None:
    source = Source()
    ask = Coalescer(source)
    reply = ask(1)
    await ask.drain()
    assert reply.done()
