from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from features import profile as profiles
from features.duration import DAY, HOUR
from features.ledger import held_until
from features.partition import partition
from features.plan import Context
from features.profile import Consent, Profile
from features.record import NEVER, RECORD, RESERVED, LogId, encode, pack, reservation_hash
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import ceilings, outcomes
from service.answers import Answers
from service.budget import Budget
from service.business import Business
from service.catalogue import Exploration
from service.decide import Decider, Decision, World
from service.declared import Ceiling, ContextWeight, Limit, Resource, Target, When
from service.errors import StoreUnavailable
from service.inputs import Question
from service.leases import Leases
from service.models import Models
from service.reasons import Reason
from service.slates import Answer
from service.store import Hold, Snapshot, Store
from tests.chain import NOW, Event, chained
from tests.integration.serving import business as bank
from tests.integration.serving import sealed
from tests.integration.shelf import Shelf
from tests.service.test_pipeline import WORDS, advised, names, question, shop, thing, written


class Reserving(Shelf):
    """A shelf that grants what it is told to."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = {WORDS.actions[name] for name in refused}
        self.asked: list[tuple[str, int, list[Hold]]] = []
        self.read_at: list[LogId | None] = []
        self.flushed: list[int] = []  # how many had been asked each time
        self.deaf = False  # reservations fail
        self.slow: asyncio.Event | None = None  # reservations wait for it

    def reserve(
        self, customer_id: str, now: int, holds: Sequence[Hold], read_at: LogId | None = None
    ) -> Awaitable[list[bool]]:
        self.asked.append((customer_id, now, list(holds)))
        self.read_at.append(read_at)
        return self._granted(holds)

    async def _granted(self, holds: Sequence[Hold]) -> list[bool]:
        if self.slow is not None:
            await self.slow.wait()
        if self.deaf:
            raise StoreUnavailable("gone fishing")
        return [int(records(one)["action"][0]) not in self.refused for one in holds]

    def flush(self) -> None:
        self.flushed.append(len(self.asked))


def records(hold: Hold) -> np.ndarray[Any, Any]:
    return np.frombuffer(hold.record, RECORD)


class Room:
    """Leases with so many units of each ceiling; every call is written down."""

    def __init__(self, **units: int) -> None:
        self.units = units
        self.calls: list[tuple[str, str, str, int]] = []
        self.stale = False  # more room is told than there is

    def room(self, name: str, period: str) -> int:
        self.calls.append(("room", name, period, 0))
        return 1 if self.stale else self.units.get(name, 1_000)

    def take(self, name: str, period: str, amount: int, limit: int) -> bool:
        self.calls.append(("take", name, period, amount))
        if self.units.setdefault(name, 1_000) < amount:
            return False
        self.units[name] -= amount
        return True

    def give_back(self, name: str, period: str, amount: int) -> None:
        self.calls.append(("give back", name, period, amount))
        self.units[name] += amount


def asked(*placements: str, **fields: Any) -> Question:
    return question(*placements, **{"assurance": 1, **fields})


def plenty() -> Budget:
    return Budget(10.0, lambda: 0.0)


def decider(
    store: Shelf, of: Business, room: Room | None = None, models: Models | None = None,
    prices: Mapping[str, float] | None = None, greedy: bool = True,
) -> Decider:  # fmt: skip
    world = World(
        cast(Store, store), lambda: models, lambda: prices or {}, cast(Leases, room or Room()),
        lambda: NOW, "c0de", greedy,
    )  # fmt: skip
    return Decider(of, world)


LIMITS = [Limit("grow_each", 1, "7d", issue="grow")]
THINGS = (
    thing("d", 4.0, "sales", issue="grow", purpose="marketing"),
    thing("c", 1.0),
    thing("t", 5.0, "sales", issue="grow"),
    thing("i", 2.0, issue="grow", assurance="verified"),
)


def store_of(**policies: Any) -> Business:
    """A discount, a callback, a tablet and an insurance."""
    return shop(THINGS, {"defaults": ["c"]}, **{"limits": LIMITS, **policies})


async def decide(
    store: Shelf,
    asked: Question,
    budget: Budget | None = None,
    of: Business | None = None,
    unread: Reason | None = None,
    **world: Any,
) -> Decision:
    return await decider(store, of or store_of(), **world).decide(asked, budget or plenty(), unread)


async def shown(
    store: Shelf, asked: Question, of: Business | None = None, **more: Any
) -> list[str]:
    known = of or store_of()
    answer = (await decide(store, asked, of=known, **more)).answer
    return [name for some in names(answer, known).values() for name in some]


def stored(
    events: Sequence[Event] = (), ledger: Sequence[Event] = (), consents: Sequence[Consent] = ()
) -> Snapshot:
    header = encode(LogId(NOW, 3), chained([]))
    return Snapshot(
        encode(LogId(NOW, 1), chained(events)),
        encode(LogId(NOW, 2), chained(ledger)),
        header + profiles.encode(Profile(consents=list(consents))),
    )


def knowing(snapshot: Snapshot, *refused: str) -> Reserving:
    store = Reserving(*refused)
    store.snapshots["ann"] = snapshot
    return store


WILLING = [Consent("marketing", "", True, NOW)]
SEEN = Event(NOW - HOUR, "outcome", action=WORDS.actions["t"], outcome=Outcome.presented)


# Reading


async def test_somebody_new_is_ranked_by_priors_and_told_so() -> None:
    found = await decide(Reserving(), asked())
    assert set(advised(found.answer)) == {"NEW_CUSTOMER", "NO_MODEL"}
    assert found.answer.weighed.rung == pb.RUNG_WITHOUT_MODELS
    assert await shown(Reserving(), asked()) == ["t", "c"]
    assert found.answer.weighed.now == NOW
    assert found.answer.weighed.vector is None
    assert found.answer.weighed.saw(0) is None


async def test_consent_and_assurance_open_what_needs_them() -> None:
    store = knowing(stored(consents=WILLING))
    assert await shown(store, asked(assurance=3)) == ["t", "d", "i"]
    assert await shown(store, asked()) == ["t", "d", "c"]


async def test_a_limit_counts_the_ledger_and_not_the_timeline() -> None:
    assert "t" in await shown(knowing(stored([SEEN])), asked())
    assert "t" not in await shown(knowing(stored(ledger=[SEEN])), asked())


async def test_a_decision_is_about_the_customer_that_another_was_merged_into() -> None:
    store = knowing(stored()._replace(customer_id="root"))
    found = await decide(store, asked())
    assert found.customer_id == "root"
    assert found.answer.weighed.inputs.question.customer_id == "root"
    assert [customer for customer, _, _ in store.asked] == ["root"]
    assert int(found.decision_id[:2], 16) == partition("root")


async def test_a_store_that_is_away_leaves_what_needs_neither_consent_nor_count() -> None:
    store = knowing(stored(consents=WILLING))
    store.away = True
    found = await decide(store, asked(assurance=3))
    assert set(advised(found.answer)) == {"STORE_UNAVAILABLE", "NO_MODEL"}
    assert names(found.answer, store_of()) == {"hint": ["c"]}
    assert not store.asked


async def test_a_store_that_is_late_is_left_and_its_read_goes_on() -> None:
    store = Reserving()
    store.waits = asyncio.Event()
    found = await decide(store, asked(), Budget(0.05, asyncio.get_running_loop().time))
    assert "TIMELINE_LATE" in advised(found.answer)
    assert names(found.answer, store_of()) == {"hint": ["c"]}
    assert found.customer_id == "ann"
    store.away = True
    store.waits.set()
    await asyncio.sleep(0.01)  # the read ends in an error that is nobody's business


async def test_who_could_not_be_looked_up_is_not_read_at_all() -> None:
    store = Reserving()
    found = await decide(store, asked(), unread=Reason("TIMELINE_LATE", "late"))
    assert store.reads == 0
    assert "TIMELINE_LATE" in advised(found.answer)
    assert "NEW_CUSTOMER" not in advised(found.answer)


async def test_each_part_that_cannot_be_read_is_named_and_the_others_count() -> None:
    good = stored([Event(NOW - 1)])
    for part, code, left in (
        ("profile", "PROFILE_UNREADABLE", ["t", "c"]),
        ("ledger", "LEDGER_UNREADABLE", ["c"]),
        ("timeline", "TIMELINE_UNREADABLE", ["t", "c"]),
    ):
        spoilt = good._replace(**{part: b"x"})  # type: ignore[arg-type]
        found = await decide(knowing(spoilt), asked())
        assert code in advised(found.answer)
        assert names(found.answer, store_of()) == {"hint": left}
    assert found.answer.weighed.inputs.known.records is None
    assert not found.answer.weighed.told


async def test_what_the_chain_shows_weighs_in_and_is_told() -> None:
    weight = ContextWeight(
        "struggling", When(fact="failed_self_service"), Target(action="c"), 30.0, "Help first"
    )
    of = store_of(context_weights=[weight])
    assert (await shown(Reserving(), asked(), of))[0] == "t"
    store = knowing(stored([Event(NOW - HOUR, "failed", "web")]))
    found = await decide(store, asked(), of=of)
    assert names(found.answer, of)["hint"][0] == "c"
    assert {one.kind for one in found.answer.weighed.told} >= {"failed_self_service"}


# Too little time


async def test_with_no_time_left_only_the_defaults_are_candidates() -> None:
    for models in (None, Models(sealed(), bank())):
        of = store_of() if models is None else bank()
        where = asked("hint") if models is None else asked("agent_hint")
        found = await decide(
            Reserving(), where, Budget(0.001, lambda: 0.0), of, models=models, greedy=False
        )
        assert found.answer.weighed.rung == pb.RUNG_DEFAULTS
        assert "OUT_OF_TIME" in advised(found.answer)
        assert "NO_MODEL" not in advised(found.answer)
        (some,) = names(found.answer, of).values()
        assert some
        assert set(some) <= set(of.placements[where.placements[0]].defaults)
        assert found.decision_id


async def test_models_that_no_time_is_left_for_are_skipped() -> None:
    models = Models(sealed(), bank())
    budget = Budget(0.008, lambda: 0.0)  # a first guess of the cost is five milliseconds
    found = await decide(Reserving(), asked("agent_hint"), budget, bank(), models=models)
    assert found.answer.weighed.rung == pb.RUNG_WITHOUT_MODELS
    assert "MODELS_SKIPPED" in advised(found.answer)
    assert names(found.answer, bank())["agent_hint"]


async def test_the_models_see_the_customer_and_every_action_of_the_answer_is_kept() -> None:
    models = Models(sealed(), bank())
    found = await decide(
        Reserving(), asked("agent_hint", assurance=3), of=bank(), models=models
    )  # fmt: skip
    weighed = found.answer.weighed
    assert weighed.rung == pb.RUNG_FULL
    assert weighed.vector is not None
    assert abs(sum(p for _, p in weighed.sight.intents) - 1) < 1e-9
    (slate,) = found.answer.slates
    for one in slate.shown:
        saw = weighed.saw(one.row)
        assert saw is not None
        assert models.acceptance_of(saw) == one.factors.model


async def test_without_the_timeline_the_models_see_somebody_without_history() -> None:
    models = Models(sealed(), bank())
    found = [
        await decide(store, asked("agent_hint"), of=bank(), models=models)
        for store in (knowing(Snapshot(b"nonsense", None, None)), Reserving())
    ]
    assert found[0].answer.weighed.rung == pb.RUNG_WITHOUT_TIMELINE
    seen, nobody = (one.answer.weighed.vector for one in found)
    assert seen is not None
    assert nobody is not None
    assert seen.tobytes() == nobody.tobytes()


async def test_the_models_see_the_journey_through_the_windows_they_were_trained_with() -> None:
    of = bank()
    blind = msgspec.structs.replace(of.definitions.journey, failed_self_service="1ms")
    narrowed = msgspec.structs.replace(
        of, definitions=msgspec.structs.replace(of.definitions, journey=blind)
    )
    models = Models(sealed(), narrowed)
    code = of.vocabulary.type_codes["self_service_failed"]
    failed = pack(occurred_at=NOW - HOUR, hash=1, type=code, direction=1)
    timeline = encode(LogId(NOW, 1), np.frombuffer(failed, RECORD))
    store = knowing(Snapshot(timeline, None, None))
    found = await decide(store, asked("agent_hint"), of=narrowed, models=models)
    context = Context(of.vocabulary.channels["phone"], 1)
    replayed = models.plan.customer(
        np.frombuffer(failed, RECORD), profiles.EMPTY, context, NOW
    )  # fmt: skip
    assert found.answer.weighed.vector is not None
    assert found.answer.weighed.vector.tobytes() == replayed.tobytes()
    assert found.answer.weighed.told[0].kind == "failed_self_service"


# Reserving


async def test_what_is_capped_is_reserved_under_the_decision_before_it_is_shown() -> None:
    store = knowing(stored([Event(NOW + 7)], consents=WILLING))
    found = await decide(store, asked())
    assert names(found.answer, store_of()) == {"hint": ["t", "d", "c"]}
    ((customer, now, holds),) = store.asked
    assert (customer, now, len(holds)) == ("ann", NOW + 7, 2)
    for name, hold in zip("td", holds, strict=True):
        (one,) = records(hold)
        assert one["occurred_at"] == NOW + 7
        assert one["hash"] == reservation_hash(found.decision_id, name)
        assert (one["action"], one["outcome"]) == (WORDS.actions[name], RESERVED)
        assert (one["channel"], one["type"]) == (1, WORDS.type_codes["outcome"])
        assert held_until(records(hold))[0] == NOW + 7 + 30 * 60_000
        assert [(cap.at_most, cap.within, cap.channel) for cap in hold.caps] == [(1, 7 * DAY, 0)]
        entry = log_pb2.LogEntry.FromString(hold.entry)
        assert (entry.customer_id, entry.reserved.decision_id) == ("ann", found.decision_id)
        assert entry.reserved.record == hold.record
    assert [reply.refused for _, reply in found.answer.replies] == ["", ""]


@pytest.mark.parametrize("ledger", [None, encode(LogId(NOW, 9), chained([Event(NOW - 5)]))])
async def test_the_store_is_told_at_once_and_which_ledger_the_decision_has_counted(
    ledger: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = knowing(stored(consents=WILLING)._replace(ledger=ledger))
    on_its_way: list[int] = []

    def written(self: Answers, answer: Answer, decision_id: str) -> bytes:
        on_its_way.append(store.flushed[-1])
        return b"written"

    monkeypatch.setattr(Answers, "written", written)
    assert (await decide(store, asked())).written == b"written"
    assert store.read_at == [LogId(NOW, 9) if ledger else NEVER]
    assert on_its_way == [1], "the answer is written while the question is on its way"


async def test_an_answer_that_the_store_does_not_allow_is_written_again() -> None:
    found = await decide(Reserving("t"), asked())
    read = pb.DecideResponse.FromString(found.written)
    assert [one.code for one in read.advisories] == advised(found.answer)
    assert "RESERVATION_FAILED" in advised(found.answer)
    shown = [one.row for slate in found.answer.slates for one in slate.shown]
    names = [one.name for one in store_of().actions]
    assert [one.action for slate in read.slates for one in slate.recommendations] == [
        names[row] for row in shown
    ]


@pytest.mark.parametrize(("held", "seconds"), [(1, 1), (1_000, 1), (1_001, 2), (30 * DAY, 2592000)])
async def test_an_answer_that_may_wait_is_held_for_as_long(held: int, seconds: int) -> None:
    store = Reserving()
    await decide(store, asked(hold_for=held))
    ((_, _, (hold,)),) = store.asked
    assert held_until(records(hold))[0] == NOW + 1_000 * seconds


async def test_how_long_it_is_held_is_declared() -> None:
    store = Reserving()
    await decide(store, asked(), of=store_of(reserves_for="2h"))
    assert held_until(records(store.asked[0][2][0]))[0] == NOW + 2 * HOUR


def told(found: Decision, of: Business) -> list[tuple[str, str]]:
    return [(of.actions[want.row].name, reply.refused) for want, reply in found.answer.replies]


async def test_what_the_store_refuses_is_replaced_and_the_rest_stays() -> None:
    store = knowing(stored(consents=WILLING), "t")
    found = await decide(store, asked(max_actions=2))
    assert names(found.answer, store_of()) == {"hint": ["c", "d"]}
    assert told(found, store_of()) == [("t", "CAPPED"), ("d", "")]
    assert "RESERVATION_FAILED" in advised(found.answer)


async def test_a_store_that_fails_to_reserve_has_granted_nothing() -> None:
    store = Reserving()
    store.deaf = True
    found = await decide(store, asked(max_actions=1))
    assert told(found, store_of()) == [("t", "UNAVAILABLE")]
    assert names(found.answer, store_of()) == {"hint": ["c"]}


async def test_a_reservation_that_comes_late_is_none() -> None:
    store = Reserving()
    store.slow = asyncio.Event()
    loop = asyncio.get_running_loop()
    start = loop.time()
    found = await decide(store, asked(max_actions=1), Budget(0.06, loop.time))
    assert loop.time() - start < 0.2
    assert told(found, store_of()) == [("t", "UNAVAILABLE")]
    assert names(found.answer, store_of()) == {"hint": ["c"]}
    store.slow.set()
    await asyncio.sleep(0.01)


async def test_what_nothing_caps_is_not_asked_for() -> None:
    store = Reserving()
    assert await shown(store, asked(), store_of(limits=[])) == ["t", "c"]
    assert not store.asked


# Ceilings

DAILY = Ceiling("daily", "day", volume=3, action="t")
SPENT = Ceiling("spent", "month", budget=10.0, issue="grow")


def dear(**policies: Any) -> Business:
    """The tablet costs 2.50 to present."""
    things = [
        msgspec.structs.replace(one, cost=2.5 if one.name == "t" else 0.0, value=one.value + 5)
        for one in THINGS
    ]
    return shop(things, {"defaults": ["c"], "max_actions": 1},
                **{"ceilings": [DAILY, SPENT], **policies})  # fmt: skip


async def test_what_everybody_may_get_is_taken_from_the_lease_and_not_from_the_store() -> None:
    store, room = Reserving(), Room(daily=1, spent=400)
    found = await decide(store, asked(), of=dear(), room=room)
    assert told(found, dear()) == [("t", "")]
    assert room.units == {"daily": 0, "spent": 150}
    assert not store.asked
    zone = decider(store, dear())._zone
    assert ("take", "daily", ceilings.period(DAILY, NOW, zone), 1) in room.calls
    assert ("take", "spent", ceilings.period(SPENT, NOW, zone), 250) in room.calls


async def test_a_ceiling_without_room_drops_the_action_before_the_draw() -> None:
    room = Room(daily=0, spent=400)
    found = await decide(Reserving(), asked(), of=dear(), room=room)
    assert found.answer.weighed.inputs.full_ceilings == {"daily"}
    assert names(found.answer, dear()) == {"hint": ["c"]}
    assert not found.answer.replies
    assert {call for call, *_ in room.calls} == {"room"}


@pytest.mark.parametrize(("units", "left"), [((0, 400), (0, 400)), ((1, 249), (1, 249))])
async def test_a_ceiling_that_fills_up_meanwhile_gives_nothing_and_takes_nothing(
    units: tuple[int, int], left: tuple[int, int]
) -> None:
    room = Room(daily=units[0], spent=units[1])
    room.stale = True
    store = Reserving()
    found = await decide(store, asked(), of=dear(limits=LIMITS), room=room)
    assert told(found, dear()) == [("t", "CEILING")]
    assert names(found.answer, dear()) == {"hint": ["c"]}
    assert room.units == {"daily": left[0], "spent": left[1]}
    assert not store.asked, "there is nothing left to reserve"


@pytest.mark.parametrize("why", ["CAPPED", "UNAVAILABLE"])
async def test_what_the_store_refuses_goes_back_to_the_lease(why: str) -> None:
    store, room = Reserving("t"), Room(daily=1, spent=400)
    store.deaf = why == "UNAVAILABLE"
    found = await decide(store, asked(), of=dear(limits=LIMITS), room=room)
    assert told(found, dear()) == [("t", why)]
    assert room.units == {"daily": 1, "spent": 400}


async def test_what_the_store_grants_is_kept_though_another_is_refused() -> None:
    of = shop(
        [thing("a", 5.0), thing("b", 4.0), thing("c", 1.0)], {"max_actions": 2, "defaults": ["c"]},
        limits=[Limit("each", 1, "7d", action="a"), Limit("other", 1, "7d", action="b")],
        ceilings=[Ceiling("daily", "day", volume=9, action="a"),
                  Ceiling("second", "day", volume=9, action="b")],
    )  # fmt: skip
    room = Room(daily=5, second=5)
    found = await decide(Reserving("a"), asked(), of=of, room=room)
    assert told(found, of) == [("a", "CAPPED"), ("b", "")]
    assert room.units == {"daily": 5, "second": 4}
    room = Room(daily=0, second=5)
    room.stale = True
    store = Reserving()
    found = await decide(store, asked(), of=of, room=room)
    assert told(found, of) == [("a", "CEILING"), ("b", "")]
    assert [int(records(one)["action"][0]) for one in store.asked[0][2]] == [WORDS.actions["b"]]


# What is not recorded, and what it depends on


@pytest.mark.parametrize("fields", [{"dry_run": True}, {"as_of": NOW - 1}])
async def test_what_is_not_recorded_has_no_name_and_reserves_and_takes_nothing(
    fields: dict[str, Any],
) -> None:
    store, room = Reserving("t"), Room(daily=1, spent=400)
    found = await decide(store, asked(**fields), of=dear(limits=LIMITS), room=room)
    assert found.decision_id == ""
    assert names(found.answer, dear()) == {"hint": ["t"]}
    assert not store.asked
    assert room.units == {"daily": 1, "spent": 400}


async def test_a_name_says_where_and_when_and_by_whom_and_is_never_given_twice() -> None:
    given = [(await decide(Reserving(), asked())).decision_id for _ in range(50)]
    assert len(set(given)) == 50
    for one in given:
        assert len(one) == 25
        assert int(one[:2], 16) == partition("ann")
        assert outcomes.taken_at(one) == NOW
        assert one[13:17] == "c0de"


async def test_a_seed_makes_it_reproducible_and_without_one_it_is_chance() -> None:
    of = shop([thing(name) for name in "abcdefgh"], {"exploration": Exploration(temperature=1.0)})
    found = [
        [
            await decide(Reserving(), asked(dry_run=True, seed=seed), of=of, greedy=False)
            for _ in range(5)
        ]
        for seed in (7, 8, None)
    ]
    seven, eight, chance = ({written(one.answer, of) for one in some} for some in found)
    assert (len(seven), len(eight), len(chance)) == (1, 1, 5)
    assert seven != eight
    assert {one.answer.weighed.inputs.seed for one in found[0]} == {7}
    seeds = {one.answer.weighed.inputs.seed for one in found[2]}
    assert len(seeds) == 5
    assert max(seeds) > 2**40
    assert math.log2(max(seeds)) < 64
    certain = await decide(Reserving(), asked(), of=of, greedy=True)
    assert certain.answer.weighed.inputs.greedy
    assert certain.answer.slates[0].probability == 1


async def test_prices_of_now_are_what_it_is_decided_with() -> None:
    of = shop([thing("a", 9.0, uses={"agents": 2.0}), thing("b", 8.0)],
              resources={"agents": Resource("minutes")})  # fmt: skip
    assert await shown(Reserving(), asked(), of, prices={"agents": 1.5}) == ["b", "a"]
    assert await shown(Reserving(), asked(), of, prices={}) == ["a", "b"]
    dear = msgspec.structs.replace(of.policies, resources={"agents": Resource("minutes", 1.5)})
    of = msgspec.structs.replace(of, policies=dear)
    assert await shown(Reserving(), asked(), of, prices={}) == ["b", "a"]


async def test_a_configuration_that_came_while_the_store_was_read_disturbs_nobody() -> None:
    of = shop([thing("a")], resources={"agents": Resource("minutes", 2.0)})
    found = await decide(Reserving(), asked(), of=of, prices={"vans": 3.0})
    assert found.answer.weighed.inputs.prices == {"agents": 2.0}


# Before it serves


async def test_a_rehearsal_asks_for_nothing_and_leaves_every_placement_laid_out() -> None:
    store = Reserving()
    models = Models(sealed(), bank())
    ready = decider(store, bank(), models=models)
    await ready.rehearse()
    assert not store.asked
    laid_out = {one.name for all in ready.pipeline._placings.values() for one in all.each}
    assert laid_out == set(bank().placements)
    late = decider(knowing(Snapshot(None, None, None)), bank())
    await late.rehearse()
