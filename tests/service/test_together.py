"""Computations that take turns: each comes out as it does alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from features import profile as profiles
from features.record import EMPTY, decode
from service import bundle as bundles
from service.bundle import Golden
from service.models import Models
from service.pipeline import Inputs, Known, Pipeline, Question
from service.together import Steps, Together, finished
from service.weighed import Reply
from tests.integration.serving import business, sealed
from tests.service.test_pipeline import written


def counting(name: str, steps: int, seen: list[str]) -> Steps[str]:
    for _ in range(steps):
        seen.append(name)
        yield
    return name


async def test_the_same_step_of_all_comes_before_the_next_of_any() -> None:
    together, seen = Together(), list[str]()
    asked = [counting(name, steps, seen) for name, steps in (("a", 2), ("b", 0), ("c", 3))]
    found = await asyncio.gather(*map(together.run, asked))
    assert found == ["a", "b", "c"]
    assert seen == ["a", "c", "a", "c", "c"]


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
        yield
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


def test_whoever_is_alone_waits_for_no_turn_of_the_loop() -> None:
    seen, stepped = list[str](), list[int]()
    together = Together(lambda: stepped.append(len(seen)))
    assert together.alone(counting("a", 2, seen)) == "a"
    assert stepped == [1, 2], "what a step asked of others is on its way before the next"

    def broken() -> Steps[int]:
        yield
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together.alone(broken())
