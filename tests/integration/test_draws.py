"""What is left to chance: drawn, logged, reproducible for whoever may ask, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from features.duration import HOUR
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import keys
from service.business import Business
from service.catalogue import Exploration
from service.declared import ControlGroups, Limit
from tests.integration.serving import (
    Client,
    codes,
    drops,
    event,
    flushed,
    now,
    serving,
    shown,
    somebody,
    stamp,
    violations,
)
from tests.service.test_exploration import Slots, slates
from tests.service.test_pipeline import ones, shop, thing

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOW = Exploration(hold_back=0.2, temperature=1.0, floor=0.3)


def chancy(**policies: Any) -> Business:
    return shop(
        [thing("a", 9.0), thing("b", 8.0, "sales"), thing("c", 7.0), thing("d", 1.0)],
        {"max_actions": 2, "exploration": HOW, "defaults": ["d"]},
        {"max_actions": 1},
        **policies,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def drawing(url: str) -> AsyncIterator[Client]:
    async with serving(url, of=chancy(), greedy=False) as client:
        yield client


async def asked(client: Client, customer: str, **fields: Any) -> pb.DecideResponse:
    return await client.decide(customer, **{"placements": ["hint"], **fields})


def bare(answer: pb.DecideResponse) -> bytes:
    """An answer without its moment."""
    answer.ClearField("decided_at")
    return answer.SerializeToString(deterministic=True)


async def test_every_answer_says_with_what_probability_it_was_drawn(drawing: Client) -> None:
    expected = slates(ones(chancy()), Slots(2), HOW)
    seen = Counter[tuple[bool, tuple[str, ...]]]()
    for _ in range(60):
        answer = await asked(drawing, somebody())
        (slate,) = answer.slates
        name = (slate.held_back, tuple(shown(answer)))
        assert slate.selection_probability == pytest.approx(expected[name])
        assert ("HELD_BACK" in codes(answer)) == slate.held_back
        seen[name] += 1
        for one in answer.trace:
            if one.action in shown(answer):
                assert one.selection_probability > 0
            elif slate.held_back:
                assert one.reason.code in ("HELD_BACK", "DO_NOTHING")
            else:
                assert one.reason.code in ("NOT_DRAWN", "RANKED_LOWER", "DO_NOTHING")
    assert len(seen) > 5


async def test_a_limit_that_several_share_leaves_probabilities_exact(url: str) -> None:
    few = Limit("few", 2, "7d", group="care", per="group")
    of = chancy(limits=[few])
    async with serving(url, of=of, greedy=False) as client:
        seen, limited = Counter[int](), 0
        for _ in range(20):
            customer, left = somebody(), 2
            for _ in range(4):
                answer = await asked(client, customer)
                (slate,) = answer.slates
                expected = slates(ones(of), Slots(2, rooms=(("acd", left),)), HOW)
                name = (slate.held_back, tuple(shown(answer)))
                assert slate.selection_probability == pytest.approx(expected[name])
                assert "RESERVATION_FAILED" not in codes(answer)
                taken = len(set(shown(answer)) & set("acd"))
                seen[left] += 1
                told = drops(answer).values()
                if "LIMIT_FULL" in told:
                    assert taken == left > 0
                    limited += 1
                assert ("CONTACT_LIMIT" in told) == (left == 0)
                left -= taken
        assert set(seen) == {0, 1, 2}
        assert limited > 5


async def test_a_seed_makes_a_dry_run_reproducible(drawing: Client) -> None:
    customer = somebody()
    answers = [await asked(drawing, customer, dry_run=True, seed=n % 20) for n in range(40)]
    told = [bare(one) for one in answers]
    assert told[:20] == told[20:]
    assert len(set(told)) > 5
    moment = stamp(now() - HOUR)
    answers = [await asked(drawing, customer, as_of=moment, seed=n % 20) for n in range(40)]
    assert [bare(one) for one in answers[:20]] == [bare(one) for one in answers[20:]]


@pytest.mark.parametrize("seed", [0, 7])
async def test_nobody_chooses_what_is_logged_as_chance(drawing: Client, seed: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked(drawing, somebody(), seed=seed)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(caught.value)) == {"seed"}


async def stored(client: Client, customer: str) -> list[bytes | None]:
    names = (keys.timeline, keys.ledger, keys.profile)
    async with Redis.from_url(client.url) as redis:
        found: Any = await redis.mget([n(client.store.tenant, customer) for n in names])
        return list(found)


async def test_a_dry_run_leaves_nothing_behind(url: str) -> None:
    of = chancy(limits=[Limit("all", 2, "7d", per="customer")])
    async with serving(url, of=of, greedy=True) as client:
        customer = somebody()
        await client.record(event(customer, type="page"))
        before = await stored(client, customer), len(await client.log(customer))
        for _ in range(5):
            answer = await asked(client, customer, dry_run=True)
            assert answer.decision_id == ""
            assert shown(answer) == ["a", "b"], "not counted, so it is shown again"
            assert answer.read.events == 1
        await flushed(client)
        assert (await stored(client, customer), len(await client.log(customer))) == before
        assert (await asked(client, customer)).decision_id
        await flushed(client)
        assert len(await client.log(customer)) > before[1]


async def test_a_caller_may_ask_for_some_actions_and_rule_out_others(drawing: Client) -> None:
    answer = await asked(drawing, somebody(), allow_actions=["b", "d"], max_actions=4)
    assert set(shown(answer)) <= {"b", "d"}
    assert {name for name, code in drops(answer).items() if code == "NOT_ALLOWED"} == {"a", "c"}
    answer = await asked(drawing, somebody(), block_actions=["b"], max_actions=4)
    assert "b" not in shown(answer)
    assert drops(answer)["b"] == "BLOCKED"
    both = await asked(drawing, somebody(), allow_actions=["b"], block_actions=["b"])
    assert shown(both) == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked(drawing, somebody(), allow_actions=["nothing"])
    assert set(violations(caught.value)) == {"allow_actions[0]"}


async def test_the_trace_comes_when_it_is_asked_for_and_holds_every_candidate(
    drawing: Client,
) -> None:
    assert not (await asked(drawing, somebody(), include_trace=False)).trace
    answer = await asked(drawing, somebody(), include_trace=True, placements=["hint", "banner"])
    told = Counter((one.placement, one.action) for one in answer.trace)
    assert set(told.values()) == {1}
    assert set(told) == {(p, a) for p in ("hint", "banner") for a in "abcd"} | {
        ("hint", "do_nothing"), ("banner", "do_nothing"),
    }  # fmt: skip


@pytest.mark.parametrize("group", ["random", "probability_only", "no_model", "hold_out"])
async def test_a_control_group_is_told_and_logged(url: str, group: str) -> None:
    control = msgspec.convert({group: 1.0}, ControlGroups)
    async with serving(url, of=chancy(control=control), greedy=False) as client:
        customer = somebody()
        answer = await asked(client, customer)
        await flushed(client)
        assert answer.control_group == group
        (entry,) = await client.log(customer)
        assert entry.decision.response.control_group == group
        if group == "hold_out":
            assert shown(answer) == []
            assert "HELD_OUT" in codes(answer)
        elif group == "random":
            assert answer.slates[0].selection_probability == pytest.approx(1 / 12)
        else:
            assert answer.slates[0].selection_probability == 1.0


async def test_a_decision_is_logged_with_the_seed_it_was_drawn_with(drawing: Client) -> None:
    customer = somebody()
    given = [await asked(drawing, customer) for _ in range(10)]
    await flushed(drawing)
    logged = [one.decision for one in await drawing.log(customer)]
    assert len({one.inputs.seed for one in logged}) == 10
    by_id = {one.response.decision_id: one for one in logged}
    for answer in given:
        decision: log_pb2.DecisionLogged = by_id[answer.decision_id]
        assert decision.response.slates == answer.slates
        again = await asked(drawing, customer, dry_run=True, seed=decision.inputs.seed)
        assert again.slates == answer.slates, "the seed is what was drawn with"
        explained = await drawing.decisions.Explain(
            pb.ExplainRequest(decision_id=answer.decision_id)
        )
        found = {one.action: one.reason.code for one in explained.candidates}
        told = {name: code for name, code in drops(answer).items() if name != "do_nothing"}
        assert found == told


async def test_a_server_may_be_told_to_leave_nothing_to_chance(url: str) -> None:
    async with serving(url, of=chancy(), greedy=True) as client:
        for _ in range(20):
            answer = await asked(client, somebody())
            assert shown(answer) == ["a", "b"]
            assert answer.slates[0].selection_probability == 1.0
