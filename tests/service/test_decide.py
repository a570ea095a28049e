from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from features import profile as profiles
from features.duration import DAY, HOUR
from features.plan import Context
from features.profile import Consent, Profile
from features.record import RECORD, LogId, encode, pack
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from service.arbitration import Reason
from service.budget import Budget
from service.business import Business
from service.catalogue import Action, Placement
from service.decide import Answer, Decider, Question, Seen, in_time
from service.declared import ContextWeight, Limit, Target, When
from service.errors import StoreUnavailable
from service.models import Models
from service.store import Snapshot
from tests.business import action, business
from tests.chain import NOW, Event, chained
from tests.integration.serving import business as bank
from tests.integration.serving import sealed
from tests.integration.shelf import Shelf

ACTIONS = (
    action("discount", issue="grow", group="sales", purpose="marketing", value=40.0),
    action("callback", value=10.0),
    action("tablet", issue="grow", group="sales", value=50.0),
    action("insurance", issue="grow", group="care", value=20.0, assurance="verified"),
)
LIMIT = Limit("grow_each", 1, "7d", issue="grow")


def question(**fields: Any) -> Question:
    asked: dict[str, Any] = {
        "customer_id": "ann",
        "channel": "phone",
        "direction": 1,
        "placements": ["hint"],
        **fields,
    }
    return Question(**asked)


def stored(
    events: Sequence[Event] = (),
    ledger: Sequence[Event] = (),
    consents: Sequence[Consent] = (),
) -> Snapshot:
    header = encode(LogId(NOW, 3), chained([]))
    return Snapshot(
        encode(LogId(NOW, 1), chained(events)),
        encode(LogId(NOW, 2), chained(ledger)),
        header + profiles.encode(Profile(consents=list(consents))),
    )


def plenty() -> Budget:
    return Budget(10.0, lambda: 0.0)


class Clock:
    """Seconds that pass at every look."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def __call__(self) -> float:
        return self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]


async def decide(
    shelf: Shelf,
    asked: Question,
    budget: Budget | None = None,
    of: Business | None = None,
    models: Models | None = None,
) -> Answer:
    known = of or business(ACTIONS, limits=[LIMIT])
    decider = Decider(known, shelf, lambda: models, lambda: NOW)
    return await decider.decide(asked, budget or plenty())


def names(answer: Answer) -> list[str]:
    return [one.offer.action.name for slate in answer.slates for one in slate.chosen]


def advised(answer: Answer) -> set[str]:
    return {one.code for one in answer.advisories}


def reasons(answer: Answer) -> dict[str, str]:
    return {one.action: "" if one.drop is None else one.drop.code for one in answer.trace}


def shelf_with(snapshot: Snapshot) -> Shelf:
    shelf = Shelf()
    shelf.snapshots["ann"] = snapshot
    return shelf


async def test_somebody_new_is_ranked_by_priors_and_told_so() -> None:
    answer = await decide(Shelf(), question())
    assert advised(answer) == {"NEW_CUSTOMER", "NO_MODEL"}
    assert answer.rung == pb.RUNG_WITHOUT_MODELS
    assert names(answer) == ["tablet", "callback"]
    assert answer.now == NOW
    assert answer.vector is None
    assert not answer.rows


async def test_consent_and_assurance_open_what_needs_them() -> None:
    shelf = shelf_with(stored(consents=[Consent("marketing", "", True, NOW)]))
    assert names(await decide(shelf, question(assurance=3))) == ["tablet", "discount", "insurance"]
    assert reasons(await decide(shelf, question()))["insurance"] == "ASSURANCE_TOO_LOW"
    assert reasons(await decide(Shelf(), question()))["discount"] == "NO_CONSENT"


async def test_a_limit_counts_the_ledger_and_not_the_timeline() -> None:
    shown = Event(NOW - HOUR, "outcome", action="tablet", outcome=Outcome.presented)
    assert "tablet" in names(await decide(shelf_with(stored([shown])), question()))
    answer = await decide(shelf_with(stored(ledger=[shown])), question())
    assert reasons(answer)["tablet"] == "CONTACT_LIMIT"


async def test_the_moment_is_never_before_the_newest_event() -> None:
    fast = Event(NOW + HOUR)
    answer = await decide(shelf_with(stored([Event(NOW - 1), fast])), question())
    assert answer.now == NOW + HOUR
    assert answer.known.records is not None
    assert len(answer.known.records) == 2


async def test_as_of_sees_nothing_that_came_later() -> None:
    noon = NOW - DAY
    shown = Event(NOW - HOUR, "outcome", action="tablet", outcome=Outcome.presented)
    shelf = shelf_with(
        stored(
            [Event(noon), Event(noon + 1)],
            ledger=[shown],
            consents=[Consent("marketing", "", True, noon + 1)],
        )
    )
    answer = await decide(shelf, question(as_of=noon, assurance=3))
    assert answer.now == noon
    assert answer.known.records is not None
    assert len(answer.known.records) == 1
    assert "tablet" in names(answer)
    assert reasons(answer)["discount"] == "NO_CONSENT"
    assert "NEW_CUSTOMER" not in advised(answer)


async def test_a_store_that_is_away_leaves_what_needs_neither_consent_nor_count() -> None:
    shelf = shelf_with(stored(consents=[Consent("marketing", "", True, NOW)]))
    shelf.away = True
    answer = await decide(shelf, question(assurance=3))
    assert advised(answer) == {"STORE_UNAVAILABLE", "NO_MODEL"}
    assert names(answer) == ["callback"]
    assert reasons(answer) == {
        "callback": "",
        "discount": "CONSENT_UNREADABLE",
        "tablet": "LEDGER_UNREADABLE",
        "insurance": "LEDGER_UNREADABLE",
    }


async def test_a_store_that_is_late_is_left_and_its_read_goes_on() -> None:
    shelf = Shelf()
    shelf.waits = asyncio.Event()
    answer = await decide(shelf, question(), Budget(0.05, asyncio.get_running_loop().time))
    assert "TIMELINE_LATE" in advised(answer)
    assert names(answer) == ["callback"]
    shelf.away = True
    shelf.waits.set()
    await asyncio.sleep(0.01)  # the read ends in an error that is nobody's business


async def test_who_could_not_be_looked_up_is_not_read_at_all() -> None:
    shelf = Shelf()
    answer = await decide(shelf, question(unread=Reason("TIMELINE_LATE", "late")))
    assert shelf.reads == 0
    assert "TIMELINE_LATE" in advised(answer)
    assert "NEW_CUSTOMER" not in advised(answer)


async def test_each_part_that_cannot_be_read_is_named_and_the_others_count() -> None:
    good = stored([Event(NOW - 1)])
    answer = await decide(shelf_with(good._replace(profile=b"x")), question())
    assert "PROFILE_UNREADABLE" in advised(answer)
    assert names(answer) == ["tablet", "callback"]
    answer = await decide(shelf_with(good._replace(ledger=b"x")), question())
    assert "LEDGER_UNREADABLE" in advised(answer)
    assert names(answer) == ["callback"]
    answer = await decide(shelf_with(good._replace(timeline=b"x")), question())
    assert "TIMELINE_UNREADABLE" in advised(answer)
    assert answer.known.records is None
    assert not answer.facts


async def test_an_utterance_is_said_to_be_unread_also_when_nothing_is_known() -> None:
    shelf = Shelf()
    shelf.away = True
    for one in (Shelf(), shelf):
        answer = await decide(one, question(utterance="my card"))
        assert "UTTERANCE_NOT_READ" in advised(answer)


async def test_with_no_time_left_only_the_defaults_are_candidates() -> None:
    known = business(ACTIONS)
    known.placements["hint"] = Placement(["phone"], defaults=["callback"])
    answer = await decide(Shelf(), question(), Budget(0.001, lambda: 0.0), known)
    assert answer.rung == pb.RUNG_DEFAULTS
    assert "OUT_OF_TIME" in advised(answer)
    assert names(answer) == ["callback"]
    assert set(reasons(answer)) == {"callback"}


async def test_the_models_see_the_customer_and_every_action_of_the_answer_is_kept() -> None:
    models = Models(sealed(), bank())
    asked = question(placements=["agent_hint"], assurance=3)
    answer = await decide(Shelf(), asked, of=bank(), models=models)
    assert answer.rung == pb.RUNG_FULL
    assert answer.vector is not None
    assert abs(sum(p for _, p in answer.intents) - 1) < 1e-9
    assert set(answer.rows) == set(names(answer))
    chosen = answer.slates[0].chosen[0]
    row = answer.rows[chosen.offer.action.name].reshape(1, -1)
    assert models.acceptance(row)[0] == chosen.factors.acceptance_probability


async def test_models_that_no_time_is_left_for_are_skipped() -> None:
    models = Models(sealed(), bank())
    asked = question(placements=["agent_hint"])
    budget = Budget(0.008, lambda: 0.0)  # a first guess of the cost is five milliseconds
    answer = await decide(Shelf(), asked, budget, of=bank(), models=models)
    assert answer.rung == pb.RUNG_WITHOUT_MODELS
    assert "MODELS_SKIPPED" in advised(answer)
    assert names(answer)


async def test_without_the_timeline_the_models_see_somebody_without_history() -> None:
    shelf = shelf_with(Snapshot(b"nonsense", None, None))
    models = Models(sealed(), bank())
    asked = question(placements=["agent_hint"])
    answer = await decide(shelf, asked, of=bank(), models=models)
    assert answer.rung == pb.RUNG_WITHOUT_TIMELINE
    nobody = await decide(Shelf(), asked, of=bank(), models=models)
    assert answer.vector is not None
    assert nobody.vector is not None
    assert answer.vector.tobytes() == nobody.vector.tobytes()


def told(answer: Answer) -> dict[tuple[str, str], Seen]:
    return {(one.placement, one.action): one for one in answer.trace}


async def test_what_is_shown_in_one_placement_is_not_shown_in_another() -> None:
    known = business(ACTIONS)
    known.placements["banner"] = Placement(["phone"])
    answer = await decide(Shelf(), question(placements=["hint", "banner"], max_actions=1), of=known)
    assert names(answer) == ["tablet", "callback"]
    seen = told(answer)["banner", "tablet"]
    assert seen.drop is not None
    assert (seen.drop.code, seen.rank) == ("SHOWN_ELSEWHERE", 1)
    seen = told(answer)["hint", "callback"]
    assert seen.drop is not None
    assert (seen.drop.code, seen.drop.text) == ("RANKED_LOWER", "1 other action ranks higher")


async def test_what_its_group_keeps_out_is_told_so_though_it_ranks_higher() -> None:
    actions: list[Action] = [
        action("discount", value=30.0, group="sales"),
        action("tablet", value=20.0, group="sales"),
        action("callback", value=10.0),
    ]
    known = business(actions)
    known.placements["hint"] = Placement(["phone"], per_group=1)
    answer = await decide(Shelf(), question(), of=known)
    assert names(answer) == ["discount", "callback"]
    assert reasons(answer) == {"discount": "", "tablet": "GROUP_FULL", "callback": ""}
    answer = await decide(Shelf(), question(max_actions=1), of=known)
    assert reasons(answer)["tablet"] == "RANKED_LOWER"


async def test_a_weight_of_nothing_keeps_an_action_out_of_a_slot_that_stays_empty() -> None:
    never = ContextWeight("never", When(channel="phone"), Target(action="tablet"), 0.0, "Not now")
    known = business([action("tablet", value=20.0)], context_weights=[never])
    answer = await decide(Shelf(), question(), of=known)
    assert names(answer) == []
    assert reasons(answer) == {"tablet": "NO_PRIORITY"}
    assert "NOTHING_QUALIFIED" in [one.code for one in answer.advisories]


async def test_what_the_chain_shows_weighs_in_and_is_told() -> None:
    weight = ContextWeight(
        "struggling",
        When(fact="failed_self_service"),
        Target(action="callback"),
        30.0,
        "Help first",
    )
    failed = Event(NOW - HOUR, "failed", "web")
    known = business(ACTIONS, context_weights=[weight])
    before = await decide(Shelf(), question(), of=known)
    after = await decide(shelf_with(stored([failed])), question(), of=known)
    assert names(before)[0] == "tablet"
    assert names(after)[0] == "callback"
    assert {one.kind for one in after.facts} >= {"failed_self_service"}


async def test_a_read_that_is_given_up_is_not_cancelled() -> None:
    released = asyncio.Event()
    done = []

    async def slow() -> int:
        await released.wait()
        done.append(True)
        return 1

    found = await in_time(slow(), 0.01)
    assert isinstance(found, Reason)
    assert found.code == "TIMELINE_LATE"
    released.set()
    await asyncio.sleep(0.01)
    assert done == [True]
    assert await in_time(slow(), 0.01) == 1


async def test_a_read_that_fails_says_why_and_other_errors_are_no_secret() -> None:
    async def away() -> int:
        raise StoreUnavailable("gone fishing")

    async def broken() -> int:
        raise ZeroDivisionError

    assert await in_time(away(), 1.0) == Reason("STORE_UNAVAILABLE", "gone fishing")
    with pytest.raises(ZeroDivisionError):
        await in_time(broken(), 1.0)


async def test_the_models_see_the_journey_through_the_windows_they_were_trained_with() -> None:
    of = bank()
    blind = msgspec.structs.replace(of.definitions.journey, failed_self_service="1ms")
    narrowed = msgspec.structs.replace(
        of, definitions=msgspec.structs.replace(of.definitions, journey=blind)
    )
    models = Models(sealed(), narrowed)
    code = of.vocabulary.type_codes["self_service_failed"]
    failed = pack(occurred_at=NOW - HOUR, hash=1, type=code, direction=1)
    shelf = Shelf()
    timeline = encode(LogId(NOW, 1), np.frombuffer(failed, RECORD))
    shelf.snapshots["ann"] = Snapshot(timeline, None, None)
    answer = await decide(shelf, question(placements=["agent_hint"]), of=narrowed, models=models)
    assert answer.vector is not None
    records = np.frombuffer(failed, RECORD)
    context = Context(of.vocabulary.channels["phone"], 1)
    replayed = models.plan.customer(records, profiles.EMPTY, context, NOW)
    assert answer.vector.tobytes() == replayed.tobytes()
    assert answer.facts[0].kind == "failed_self_service"
