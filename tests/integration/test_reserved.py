"""What is capped is reserved before it is shown, so nobody sees it more often, however they ask."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import duration_pb2

from features.duration import HOUR
from features.record import decode
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import event_pb2
from service.business import Business
from service.catalogue import Exploration
from service.declared import Ceiling, Limit
from service.redis_store import RedisStore
from tests.integration.serving import (
    Client,
    Status,
    codes,
    drops,
    event,
    flushed,
    now,
    serving,
    shown,
    somebody,
    stamp,
    until,
)
from tests.service.test_pipeline import shop, thing

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAP = 3


def capped(**policies: Any) -> Business:
    """The best one is capped; a plain one is its fallback."""
    limits = [Limit("thrice", CAP, "7d", action="a"), Limit("one_b", 1, "7d", action="b")]
    return shop(
        [thing("a", 9.0), thing("b", 8.0), thing("d", 1.0)],
        {"max_actions": 1, "defaults": ["d"]},
        **{"limits": limits, **policies},
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def careful(url: str) -> AsyncIterator[Client]:
    async with serving(url, of=capped()) as client:
        yield client


async def asked(client: Client, customer: str, **fields: Any) -> pb.DecideResponse:
    return await client.decide(customer, **{"placements": ["hint"], "timeout": 10, **fields})


async def test_fifty_at_once_never_show_it_more_often_than_its_cap(careful: Client) -> None:
    failed: list[pb.DecideResponse] = []
    for _ in range(200):  # it is the server's luck whether any of them is drawn too late
        customer = somebody()
        answers = await asyncio.gather(*(asked(careful, customer) for _ in range(50)))
        times = Counter(name for one in answers for name in shown(one))
        assert times["a"] == CAP
        assert times["b"] <= 1
        assert sum(times.values()) == 50
        failed = [one for one in answers if "RESERVATION_FAILED" in codes(one)]
        for one in failed:
            (instead,) = one.slates[0].recommendations
            assert (instead.action, instead.instead_of in ("a", "b")) == ("d", True)
            assert drops(one)[instead.instead_of] == "RESERVATION_FAILED"
        await flushed(careful)
        log = await careful.log(customer)
        reserved = [one for one in log if one.WhichOneof("entry") == "reserved"]
        assert len(reserved) == CAP + times["b"]
        decided = {one.decision.response.decision_id: one.decision for one in log
                   if one.WhichOneof("entry") == "decision"}  # fmt: skip
        assert len(decided) == 50
        granted = {
            id for id, one in decided.items() if any(r.reserved for r in one.inputs.reservations)
        }
        assert {one.reserved.decision_id for one in reserved} == granted
        for decision in decided.values():
            for reply in decision.inputs.reservations:
                assert reply.refused == ("" if reply.reserved else "CAPPED")
        if failed:
            break
    assert failed, "none was drawn and came too late"


async def test_two_servers_of_one_store_share_the_cap(url: str) -> None:
    customer = somebody()
    async with (
        serving(url, of=capped()) as one,
        serving(url, of=capped(), tenant=one.store.tenant) as other,
    ):
        answers = await asyncio.gather(*(asked((one, other)[n % 2], customer) for n in range(30)))
    assert Counter(name for answer in answers for name in shown(answer))["a"] == CAP


async def use_up(client: Client, customer: str) -> list[pb.DecideResponse]:
    """Have every showing of `a` reserved."""
    given = [await asked(client, customer, allow_actions=["a", "d"]) for _ in range(CAP)]
    assert [shown(one) for one in given] == [["a"]] * CAP
    return given


async def next_one(client: Client, customer: str, **fields: Any) -> str:
    answer = await asked(client, customer, allow_actions=["a", "d"], dry_run=True, **fields)
    return shown(answer)[0]


async def test_what_is_reserved_counts_as_presented_already(careful: Client) -> None:
    customer = somebody()
    first, *_ = await use_up(careful, customer)
    answer = await asked(careful, customer, allow_actions=["a", "d"])
    assert shown(answer) == ["d"]
    assert drops(answer)["a"] == "CONTACT_LIMIT"
    assert not answer.slates[0].recommendations[0].instead_of
    presented = event_pb2.OUTCOME_PRESENTED
    assert await careful.outcome(first.decision_id, "a", presented) == Status.STATUS_STORED
    assert await next_one(careful, customer) == "d", "it took the place of its reservation"
    assert await next_one(careful, somebody()) == "a"


async def test_what_an_agent_overrode_is_free_again(careful: Client) -> None:
    customer = somebody()
    _, second, _ = await use_up(careful, customer)
    assert await next_one(careful, customer) == "d"
    overridden = event_pb2.OUTCOME_OVERRIDDEN
    assert await careful.outcome(second.decision_id, "a", overridden) == Status.STATUS_STORED
    assert await next_one(careful, customer) == "a"
    assert shown(await asked(careful, customer, allow_actions=["a", "d"])) == ["a"]
    assert await next_one(careful, customer) == "d"


async def test_what_is_not_presented_in_its_time_is_free_again(careful: Client) -> None:
    customer = somebody()
    soon = duration_pb2.Duration(nanos=900_000_000)
    await use_up(careful, customer)
    other = somebody()
    for _ in range(CAP):
        await asked(careful, other, allow_actions=["a", "d"], hold_for=soon)
    assert await next_one(careful, other) == "d"

    async def free() -> bool:
        return await next_one(careful, other) == "a"

    await until(free)
    assert await next_one(careful, customer) == "d", "held for half an hour"


async def test_how_long_it_is_held_can_be_declared(url: str) -> None:
    async with serving(url, of=capped(reserves_for="1s")) as client:
        customer = somebody()
        await use_up(client, customer)
        assert await next_one(client, customer) == "d"

        async def free() -> bool:
            return await next_one(client, customer) == "a"

        long = duration_pb2.Duration(seconds=3600)
        patient = somebody()
        for _ in range(CAP):
            await asked(client, patient, allow_actions=["a", "d"], hold_for=long)
        await until(free)
        assert await next_one(client, patient) == "d"


async def test_a_ceiling_is_never_exceeded_by_many_customers_at_once(url: str) -> None:
    of = capped(ceilings=[Ceiling("few", "month", volume=5, action="a")])
    async with serving(url, of=of) as client:

        async def one() -> pb.DecideResponse:
            return await asked(client, somebody(), allow_actions=["a", "d"])

        answers = [answer for _ in range(6) for answer in await asyncio.gather(
            *(one() for _ in range(10)))]  # fmt: skip
        times = Counter(name for answer in answers for name in shown(answer))
        assert 1 <= times["a"] <= 5
        assert times["a"] + times["d"] == 60
        for answer in answers:
            if shown(answer) == ["d"]:
                assert drops(answer)["a"] in ("CEILING", "RESERVATION_FAILED")


async def test_a_refusal_keeps_its_place_in_a_ceiling_for_another_customer(url: str) -> None:
    of = capped(ceilings=[Ceiling("few", "month", volume=64 * 8, action="a")])
    async with serving(url, of=of) as client:
        customer = somebody()
        answers = await asyncio.gather(*(asked(client, customer) for _ in range(20)))
        assert Counter(n for one in answers for n in shown(one))["a"] == CAP
        taken = sum(block.left for block in client.server.leases._blocks.values())
        async with serving(url, of=of, tenant=client.store.tenant) as other:
            left = await other.store.lease("few", *_period(client), 64 * 8, 64 * 8, 1_000)
        assert left == 64 * 8 - CAP - taken - 8, "the other server holds a block of eight"


def _period(client: Client) -> tuple[str]:
    ((_, period),) = client.server.leases._blocks
    return (period,)


async def test_the_ledger_that_a_decision_read_is_told(careful: Client) -> None:
    customer = somebody()
    await careful.record(event(customer, type="page"))
    first = await asked(careful, customer)
    second = await asked(careful, customer)
    assert first.read.ledger == ""
    assert second.read.ledger


async def test_asking_again_in_the_same_interaction_uses_nothing_up(careful: Client) -> None:
    customer = somebody()
    for _ in range(4 * CAP):
        assert shown(await asked(careful, customer, interaction_id="call-1")) == ["a"]
    for call in range(2, CAP + 1):
        assert shown(await asked(careful, customer, interaction_id=f"call-{call}")) == ["a"]
    assert shown(await asked(careful, customer, interaction_id="call-9")) != ["a"]
    again = await asked(careful, customer, interaction_id="call-1")
    assert shown(again) == ["a"], "what the call shows already may stay on its screen"


async def test_what_one_interaction_presents_twice_counts_once(careful: Client) -> None:
    customer = somebody()
    for call in range(CAP):
        for _ in range(2):
            answer = await asked(careful, customer, interaction_id=f"visit-{call}")
            assert shown(answer) == ["a"]
            done = await careful.outcome(answer.decision_id, "a", event_pb2.OUTCOME_PRESENTED)
            assert done == Status.STATUS_STORED
    refused = await asked(careful, customer, interaction_id="visit-9")
    assert drops(refused)["a"] == "CONTACT_LIMIT"


async def test_no_is_no_in_the_interaction_that_said_it(url: str) -> None:
    refused = Limit("no_means_no", 0, "30d", "rejected", action="a")
    async with serving(url, of=capped(limits=[refused])) as client:
        customer = somebody()
        answer = await asked(client, customer, interaction_id="call-1")
        assert shown(answer) == ["a"]
        await client.outcome(answer.decision_id, "a", event_pb2.OUTCOME_PRESENTED)
        await client.outcome(answer.decision_id, "a", event_pb2.OUTCOME_REJECTED)
        again = await asked(client, customer, interaction_id="call-1")
        assert drops(again)["a"] == "CONTACT_LIMIT"


async def test_many_interactions_at_once_never_take_it_past_its_cap(careful: Client) -> None:
    customer = somebody()
    calls = [f"call-{number % 10}" for number in range(40)]
    answers = await asyncio.gather(
        *(asked(careful, customer, interaction_id=call) for call in calls)
    )
    showing = {call for call, one in zip(calls, answers, strict=True) if shown(one) == ["a"]}
    assert len(showing) == CAP


async def test_a_conversation_that_outlasts_a_window_holds_no_more_than_the_cap(url: str) -> None:
    one = Limit("one", 1, "1h", per="customer")
    of = shop([thing("a", 9.0), thing("b", 8.0)], {"max_actions": 2}, limits=[one])
    async with serving(url, of=of) as client:
        customer = somebody()
        ago = now() - 2 * HOUR
        for name in ("a", "b"):
            seen = {"type": "outcome", "action": name, "outcome": event_pb2.OUTCOME_PRESENTED}
            await client.record(
                event(customer, channel="phone", interaction_id="c", occurred_at=stamp(ago), **seen)
            )
        answer = await asked(client, customer, interaction_id="c")
        assert shown(answer) == ["a"]
        assert drops(answer)["b"] == "LIMIT_FULL", "its own contact has left the window"


async def test_what_is_held_is_not_forgotten_when_the_interaction_shows_it_again(url: str) -> None:
    of = capped(limits=[Limit("one", 1, "1s", action="a")])
    async with serving(url, of=of) as client:
        customer = somebody()
        an_hour = duration_pb2.Duration(seconds=3_600)
        await asked(client, customer, interaction_id="x", hold_for=an_hour)
        again = await asked(client, customer, interaction_id="x")
        await client.outcome(again.decision_id, "a", event_pb2.OUTCOME_PRESENTED)
        await asyncio.sleep(1.1)
        assert shown(await asked(client, customer, interaction_id="y")) != ["a"]


async def test_a_screen_that_asks_all_day_holds_one_place_and_the_longest(
    careful: Client,
) -> None:
    customer = somebody()
    long = duration_pb2.Duration(seconds=7_200)
    await asked(careful, customer, interaction_id="s", hold_for=long)
    for _ in range(30):
        assert shown(await asked(careful, customer, interaction_id="s")) == ["a"]
    _, ledger = decode((await careful.store.read(customer)).ledger)
    assert [float(one["value"]) for one in ledger] == [7_200.0]


def crowded() -> Business:
    """Eight that share tight limits with one another, in all the ways there are."""
    return shop(
        [
            thing("a", 9.0, "sales", issue="grow"), thing("b", 8.0, "sales", issue="grow"),
            thing("c", 7.0, "more", issue="grow"), thing("p", 6.0, "more", issue="retain"),
            thing("x", 6.0, "care", parts=["p", "q"]), thing("q", 3.0, "sales"),
            thing("m", 2.0, "care", mandatory=True), thing("e", 1.0, "more", issue="grow"),
        ],
        {"max_actions": 3, "defaults": ["e"],
         "exploration": Exploration(hold_back=0.05, temperature=1.0, floor=0.5)},
        {"max_actions": 2, "defaults": ["e"], "exploration": Exploration(floor=1.0)},
        limits=[
            Limit("grow_few", 3, "7d", issue="grow", per="issue"),
            Limit("group_few", 4, "7d", per="group"),
            Limit("by_phone", 5, "7d", channel="phone", per="channel"),
            Limit("all", 11, "7d", per="customer"),
            Limit("p_twice", 2, "7d", action="p"),
        ],
    )  # fmt: skip


@pytest.mark.parametrize("recounts", [True, False])
async def test_on_an_idle_store_nothing_that_was_drawn_is_refused(
    url: str, recounts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if recounts:  # what the store grants unseen elsewhere, it would grant after counting as well
        reserve = RedisStore.reserve
        monkeypatch.setattr(
            RedisStore,
            "reserve",
            lambda store, customer, now, holds, read_at: reserve(store, customer, now, holds),
        )
    dice = random.Random(20261122)
    seen = Counter[str]()
    async with serving(url, of=crowded(), greedy=False) as client:
        for _ in range(25):
            customer = somebody()
            for _ in range(8):
                on_phone = dice.random() < 0.7
                both = dice.sample(["hint", "banner"], 2)
                answer = await client.decide(
                    customer,
                    channel="phone" if on_phone else "chat",
                    placements=dice.choice([both, ["hint"]]) if on_phone else ["hint"],
                    interaction_id=dice.choice(["", "call", "other"]),
                    timeout=10,
                )
                assert "RESERVATION_FAILED" not in codes(answer)
                seen.update(drops(answer).values())
                seen["shown"] += len(shown(answer))
                for name in shown(answer):
                    if dice.random() < 0.3:
                        presented = event_pb2.OUTCOME_PRESENTED
                        await client.outcome(answer.decision_id, name, presented)
    assert seen["LIMIT_FULL"] > 20
    assert seen["CONTACT_LIMIT"] > 50
    assert seen["shown"] > 200
