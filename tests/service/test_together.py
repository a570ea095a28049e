"""Computations that take turns: each comes out as it does alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from features import profile as profiles
from features.record import EMPTY, decode
from service import bundle as bundles
from service.bundle import Golden
from service.crowd import Crowd
from service.inputs import Inputs, Known, Question
from service.models import Models
from service.pipeline import Pipeline
from service.together import LONGEST_SECONDS, MOST, Steps, Together, finished
from service.weighed import Reply
from tests.integration.serving import business, sealed
from tests.service.test_pipeline import written


def counting(name: str, steps: int, seen: list[str]) -> Steps[str]:
    for _ in range(steps):
        seen.append(name)
        yield True  # it has asked for something
    return name


async def test_the_same_step_of_all_comes_before_the_next_of_any() -> None:
    together, seen = Together(), list[str]()
    asked = [counting(name, steps, seen) for name, steps in (("a", 2), ("b", 0), ("c", 3))]
    found = await asyncio.gather(*map(together.run, asked))
    assert found == ["a", "b", "c"]
    assert seen == ["a", "c", "a", "c", "c"]


def asking(asks: Sequence[bool], seen: list[str]) -> Steps[None]:
    for each in asks:
        seen.append("step")
        yield each


async def test_what_was_asked_of_others_leaves_before_the_next_step_and_only_then() -> None:
    seen = list[str]()
    together = Together(lambda: seen.append("sent"))
    one, other = asking([False, True, False], seen), asking([False, False, True], seen)
    await asyncio.gather(together.run(one), together.run(other))
    assert seen == [*["step"] * 4, "sent", *["step"] * 2, "sent"]


def test_alone_too() -> None:
    seen = list[str]()
    finished(asking([False, True, True, False], seen), lambda: seen.append("sent"))
    assert seen == ["step", "step", "sent", "step", "sent", "step"]


async def test_not_more_than_a_few_keep_the_loop() -> None:
    together, seen = Together(), list[str]()
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    task = asyncio.create_task(other())
    found = await asyncio.gather(*(together.run(counting(str(n), 1, seen)) for n in range(40)))
    task.cancel()
    assert found == [str(n) for n in range(40)]
    assert others >= 4


async def test_the_error_of_one_is_its_own_and_whoever_leaves_is_not_computed_for() -> None:
    def broken() -> Steps[str]:
        yield False
        raise ZeroDivisionError

    together, seen = Together(), list[str]()
    leaving = asyncio.create_task(together.run(counting("left", 3, seen)))
    asking = [asyncio.create_task(together.run(one)) for one in (broken(), counting("a", 2, seen))]
    asyncio.get_running_loop().call_soon(leaving.cancel)
    with pytest.raises(ZeroDivisionError):
        await asking[0]
    assert await asking[1] == "a"
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert seen.count("left") <= 1


class Crowded(Crowd):
    """So many are worth waiting for."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class Timed(asyncio.SelectorEventLoop):
    """A loop in which time passes only when it sleeps, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled = [one.when() for one in self._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, min(scheduled))
        super()._run_once()  # type: ignore[misc]


def in_time_of(loop: Timed, main: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(asyncio.wait_for(main, 60.0))  # of its own time
    finally:
        loop.close()


def numbered(number: int) -> Steps[int]:
    yield False
    return number


def started(at: list[float], loop: asyncio.AbstractEventLoop) -> Steps[float]:
    at.append(loop.time())
    yield False
    return loop.time()


@given(
    st.integers(0, 20),
    st.lists(
        st.tuples(
            st.floats(0.0, 0.004),  # seconds after the one before
            st.sampled_from([0.0, -1.0, 0.0003, 0.0011, 0.0017, 0.5]),  # patience
            st.sampled_from(["stays", "stays", "stays", "breaks", "leaves"]),
        ),
        max_size=30,
    ),
)
def test_nobody_waits_for_longer_than_they_can_and_nobody_is_lost(
    size: int, calls: list[tuple[float, float, str]]
) -> None:
    loop = Timed()
    together = Together(crowd=Crowded(size))

    def one(asked: float, patience: float, what: str) -> Steps[float]:
        waited = loop.time() - asked
        assert waited <= max(0.0, min(patience, LONGEST_SECONDS)) + 1e-6
        if size <= 1:
            assert waited == 0
        yield False
        if what == "breaks":
            raise ZeroDivisionError
        return asked

    async def main() -> None:
        tasks = []
        for seconds, patience, what in calls:
            if seconds:
                await asyncio.sleep(seconds)
            asked = loop.time()
            task = asyncio.create_task(
                together.run(one(asked, patience, what), partial(float, patience))
            )
            if what == "leaves":
                loop.call_later(0.0005, task.cancel)
            tasks.append((asked, what, task))
        for asked, what, task in tasks:
            if what == "breaks":
                with pytest.raises(ZeroDivisionError):
                    await task
            else:
                with suppress(*[asyncio.CancelledError][: what == "leaves"]):
                    assert await task == asked
        await asyncio.sleep(LONGEST_SECONDS)  # who left is dropped with the others
        assert not together._waiting
        assert together._alarm is None

    in_time_of(loop, main())


@pytest.mark.parametrize("size", [4, MOST, 40])
def test_as_many_as_there_were_of_late_run_at_once_and_together(size: int) -> None:
    loop, together, at = Timed(), Together(crowd=Crowded(size)), list[float]()

    async def main() -> None:
        asked = []
        for number in range(min(size, MOST)):
            if number:
                await asyncio.sleep(0.0001)
            asked.append(asyncio.create_task(together.run(started(at, loop), partial(float, 1.0))))
        await asyncio.gather(*asked)
        last = 1_000.0 + 0.0001 * (min(size, MOST) - 1)
        assert at == [pytest.approx(last, abs=1e-6)] * len(asked)
        assert loop.time() < 1_000.0 + LONGEST_SECONDS

    in_time_of(loop, main())


def test_whoever_can_wait_least_is_not_kept_by_the_others() -> None:
    loop, together, at = Timed(), Together(crowd=Crowded(8)), list[float]()

    async def main() -> None:
        patient = asyncio.create_task(together.run(started(at, loop), partial(float, 1.0)))
        await asyncio.sleep(0.0002)
        hasty = asyncio.create_task(together.run(started(at, loop), partial(float, 0.0005)))
        await asyncio.gather(patient, hasty)
        assert at == [pytest.approx(1_000.0007, abs=1e-6)] * 2

    in_time_of(loop, main())


@pytest.mark.parametrize("hasty", [1.0, 0.0005])
def test_whoever_comes_after_others_have_run_is_not_hurried_by_them(hasty: float) -> None:
    loop, together, at = Timed(), Together(crowd=Crowded(2 if hasty == 1.0 else 8)), list[float]()

    async def main() -> None:
        await asyncio.gather(
            *(
                together.run(started(at, loop), partial(float, patience))
                for patience in (1.0, hasty)
            )
        )
        await asyncio.sleep(0.0001)
        assert len(at) == 2
        asked = loop.time()
        await together.run(started(at, loop), partial(float, 1.0))
        assert at[2] == pytest.approx(asked + LONGEST_SECONDS, abs=1e-6)

    in_time_of(loop, main())


async def test_whoever_came_first_runs_first() -> None:
    together, seen = Together(), list[str]()
    names = [str(number) for number in range(3 * MOST)]
    await asyncio.gather(*(together.run(counting(name, 1, seen)) for name in names))
    assert seen == names


def test_the_loop_that_serves_keeps_to_it_too() -> None:
    async def main() -> list[int]:
        together = Together(crowd=Crowded(8))
        patience = [0.0015, 0.0012, 0.0004, 0.0001, 0.0, -1.0]  # to uvloop, some of it is no time
        asked = [together.run(numbered(n), partial(float, some)) for n, some in enumerate(patience)]
        return await asyncio.wait_for(asyncio.gather(*asked), 1.0)

    assert uvloop.run(main()) == [*range(6)]


def test_without_a_crowd_nobody_waits_though_all_could() -> None:
    loop, together, at = Timed(), Together(crowd=Crowded(0)), list[float]()

    async def main() -> None:
        for _ in range(20):
            await together.run(started(at, loop), partial(float, 1.0))
        assert at == [1_000.0] * 20

    in_time_of(loop, main())


def customers() -> Iterator[Inputs]:
    cases = msgspec.msgpack.decode(sealed().files[bundles.GOLDEN], type=list[Golden])
    for number, case in enumerate(cases):
        _, records = decode(case.timeline)
        profile = msgspec.msgpack.decode(case.profile, type=profiles.Profile)
        question = Question(f"c{number}", "agent_desktop", 1, ["agent_hint"], assurance=3)
        yield Inputs(question, Known(records, EMPTY, profile), case.now, seed=number)


def test_decisions_that_take_turns_come_out_as_alone() -> None:
    pipeline, models = Pipeline(business()), Models(sealed(), business())
    asked = list(customers())
    assert len(asked) > 5
    running = [pipeline.weighing(one, models) for one in asked]
    woven = []
    for steps in running:  # all at the last step but one, in another order than they began
        next(steps)
    for turn in range(20):
        for steps in running if turn % 2 else running[::-1]:
            try:
                next(steps)
            except StopIteration as end:
                if end.value is not None:  # one that has ended gives nothing more
                    woven.append(end.value)
    alone = [finished(pipeline.weighing(one, models)) for one in asked]
    assert len(woven) == len(alone)
    by_customer = {one.inputs.question.customer_id: one for one in woven}
    for one in alone:
        other = by_customer[one.inputs.question.customer_id]
        answers = [pipeline.settle(each, [Reply()] * len(each.wants)) for each in (one, other)]
        assert written(answers[0], business()) == written(answers[1], business())


async def test_whoever_is_alone_waits_for_no_turn_of_the_loop() -> None:
    crowd, seen, stepped = Crowd(), list[str](), list[int]()
    together = Together(lambda: stepped.append(len(seen)), crowd)
    crowd.enter()
    running = together.run(counting("a", 2, seen))
    with pytest.raises(StopIteration) as end:
        running.send(None)
    assert end.value.value == "a"
    assert stepped == [1, 2], "what a step asked of others is on its way before the next"
    crowd.enter()
    assert await asyncio.gather(*(together.run(counting(one, 1, seen)) for one in "bc")) == [
        "b",
        "c",
    ]
    crowd.leave()
    with pytest.raises(ZeroDivisionError):
        await together.run(_broken())


def _broken() -> Steps[int]:
    yield False
    raise ZeroDivisionError
