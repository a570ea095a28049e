from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from service import afterwards as module
from service.afterwards import Afterwards
from tests.integration.serving import until

SEVERAL = module.ENOUGH


@pytest.fixture(autouse=True)
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a machine that is busy with other tests makes no difference."""
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(module, "AT_ONCE_SECONDS", 0.2)
    monkeypatch.setattr(module, "ENOUGH", 1)


async def test_what_was_added_is_done_in_order_once_nobody_waits_for_an_answer() -> None:
    afterwards, done = Afterwards(), list[int]()
    afterwards.begin()
    for number in range(3):
        afterwards.add(partial(done.append, number))
    await asyncio.sleep(0.05)
    assert not done, "somebody waits"
    start = time.monotonic()
    afterwards.end()
    await until(lambda: bool(done))
    assert done == [0, 1, 2]
    assert time.monotonic() - start < 0.4, "long before it was due"


async def test_it_does_not_look_for_a_moment_for_less_than_several_things(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ENOUGH", SEVERAL)
    afterwards, done = Afterwards(), list[int]()

    def work(number: int) -> None:
        time.sleep(0.001)  # a turn is over then
        done.append(number)

    start = time.monotonic()
    for number in range(SEVERAL - 1):
        afterwards.add(partial(work, number))
    await asyncio.sleep(0.1)
    assert not done
    afterwards.add(partial(work, SEVERAL - 1))
    await until(lambda: len(done) == SEVERAL)
    assert done == [*range(SEVERAL)], "all of it, turn by turn, once it has begun"
    assert time.monotonic() - start < 0.4


async def test_nothing_waits_for_longer_than_that_however_many_wait_for_answers() -> None:
    afterwards, done = Afterwards(), list[int]()
    afterwards.begin()
    start = time.monotonic()
    afterwards.add(partial(done.append, 1))
    await asyncio.sleep(0.3)
    afterwards.add(partial(done.append, 2))
    await until(lambda: bool(done))
    assert time.monotonic() - start >= 0.5
    assert done == [1, 2], "the other costs less now than later"
    afterwards.add(partial(done.append, 3))
    await until(lambda: len(done) == 3)
    assert time.monotonic() - start >= 1.0, "it waits as long, though something was due before"


async def test_as_long_as_others_have_something_to_do_it_is_no_moment_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads of this process bring the next call when the loop gives the core away."""
    afterwards, done, given = Afterwards(), list[int](), list[float]()

    def busy() -> None:
        given.append(time.monotonic())
        time.sleep(0.001)

    monkeypatch.setattr("os.sched_yield", busy)
    monkeypatch.setattr(module, "AT_ONCE_SECONDS", 0.0005)
    start = time.monotonic()
    afterwards.add(partial(done.append, 1))
    await until(lambda: bool(done))
    assert time.monotonic() - start >= 0.5
    assert 1 < len(given) < 20, "it does not look all the time"


async def test_calls_that_come_and_go_all_the_time_leave_no_moment_for_it() -> None:
    afterwards, done = Afterwards(), list[int]()
    afterwards.add(partial(done.append, 1))
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        afterwards.begin()
        afterwards.end()
        await asyncio.sleep(0)
    assert not done
    await until(lambda: bool(done))


async def test_a_call_that_comes_in_between_puts_it_off_until_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LONGEST_SECONDS", 60.0)
    afterwards, done = Afterwards(), list[int]()
    afterwards.add(partial(done.append, 1))
    await asyncio.sleep(0)  # the core was given away
    afterwards.begin()
    await asyncio.sleep(0.05)
    assert not done, "somebody waits"
    afterwards.end()
    await until(lambda: bool(done))


async def test_what_is_added_by_what_was_due_is_not_due() -> None:
    afterwards, done = Afterwards(), list[float]()

    def work() -> None:
        done.append(time.monotonic())
        if len(done) < 3:
            afterwards.add(work)

    afterwards.begin()
    afterwards.add(work)
    await until(lambda: len(done) == 3)
    assert all(later - earlier >= 0.4 for earlier, later in pairwise(done))


async def test_a_moment_without_calls_is_not_filled_for_longer_than_a_turn() -> None:
    afterwards, done = Afterwards(), list[int]()
    turns = 0

    def work() -> None:
        time.sleep(0.001)
        done.append(turns)

    for _ in range(5):
        afterwards.add(work)
    while len(done) < 5:
        turns += 1
        await asyncio.sleep(0)
    assert len(set(done)) == 5, "others had the loop after each"


async def test_what_calls_leave_is_swept_up_after_so_many_of_them() -> None:
    swept = list[int]()
    afterwards = Afterwards(partial(swept.append, 1))
    for number in range(1, 3 * module.SWEPT):
        afterwards.begin()
        afterwards.end()
        afterwards.finish()
        assert len(swept) == number // module.SWEPT


async def test_the_error_of_one_is_told_and_keeps_nobody_else_from_being_done() -> None:
    afterwards, done, told = Afterwards(), list[int](), list[Exception]()

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        told.append(context["exception"])

    asyncio.get_running_loop().set_exception_handler(handler)
    afterwards.add(lambda: 1 / 0)
    afterwards.add(partial(done.append, 1))
    await until(lambda: bool(done))
    assert [type(error) for error in told] == [ZeroDivisionError]


async def test_whoever_waits_is_told_in_turn_and_may_have_gone() -> None:
    afterwards, done, told = Afterwards(), list[int](), list[Exception]()
    asyncio.get_running_loop().set_exception_handler(lambda _, of: told.append(of["exception"]))
    gone = asyncio.create_task(afterwards.wait())
    await asyncio.sleep(0)
    gone.cancel()
    afterwards.add(partial(done.append, 1))
    await afterwards.wait()
    assert done == [1]
    assert not told, "that is no error"


async def test_everything_can_be_done_at_once_and_more_can_be_added_by_what_is_done() -> None:
    afterwards, done = Afterwards(), list[int]()
    afterwards.begin()
    afterwards.add(lambda: afterwards.add(partial(done.append, 2)))
    afterwards.add(partial(done.append, 1))
    afterwards.finish()
    assert done == [1, 2]
    afterwards.end()
    await asyncio.sleep(0.01)
    assert done == [1, 2]
