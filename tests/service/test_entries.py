"""Log entries hold what they should, byte for byte as protobuf writes it."""

from __future__ import annotations

import copy
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import definitions as declared
from features.definitions import Definitions
from features.duration import DAY, HOUR
from features.profile import Profile, Told
from features.record import EMPTY, RESERVED
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import deliberation
from service.answers import Answers
from service.business import Business, complete
from service.catalogue import Exploration, Placement, Rule
from service.declared import ControlGroups, Limit, Policies, Ranking, Suppression
from service.entries import Entries
from service.inputs import Inputs, Known
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.slates import Answer
from service.weighed import Reply
from tests.chain import NOW, Event, chained
from tests.service import former_answers
from tests.service.test_answers import models_of, odd, plainly, response, sold, words
from tests.service.test_choice import asked, models, pipeline, tight
from tests.service.test_pipeline import (
    WORDS,
    decide,
    given_,
    scoring,
    thing,
)
from tests.service.test_rooms import crowded


def logged(answer: Answer, of: Business, request: pb.DecideRequest) -> log_pb2.LogEntry:
    packed = Entries(of).written(
        answer,
        request.SerializeToString(deterministic=True),
        Answers(of).written(answer, "id"),
        "ivr",
    )
    entry = log_pb2.LogEntry.FromString(packed)
    assert entry.SerializeToString(deterministic=True) == packed, "as protobuf writes it"
    return entry


def test_what_is_logged_is_what_it_takes_to_compute_it_again() -> None:
    of = sold()
    request = pb.DecideRequest(channel="phone", utterance="hello")
    why = Reason("MODELS_SKIPPED", "late")
    late = Known(None, None, None, unread=Reason("TIMELINE_LATE", "too late"))
    answer = decide(
        of, given_(known=late, seed=2**64 - 1, unscored=why, prices={"z": 1.0, "b": 2.0})
    )
    entry = logged(answer, of, request)
    assert entry.customer_id == "ann"
    decision = entry.decision
    assert (decision.request, decision.caller) == (request, "ivr")
    assert decision.response == response(answer, of)
    inputs = decision.inputs
    assert (inputs.seed, inputs.clock, inputs.greedy) == (2**64 - 1, NOW, False)
    assert inputs.unread == pb.Reason(code="TIMELINE_LATE", text="too late")
    assert inputs.unscored == pb.Reason(code="MODELS_SKIPPED", text="late")
    assert [one.name for one in inputs.prices] == ["b", "z"]
    assert not decision.vector
    assert not decision.feature_digest
    assert not decision.action_vectors


def test_what_did_not_come_late_is_absent() -> None:
    of = sold()
    inputs = logged(decide(of, given_()), of, pb.DecideRequest()).decision.inputs
    assert not inputs.HasField("unread")
    assert not inputs.HasField("unscored")


def test_the_bits_that_the_models_saw_are_logged_of_what_was_shown() -> None:
    of = sold()
    answer = decide(of, given_(), models=models_of(of))
    decision = logged(answer, of, pb.DecideRequest()).decision
    assert answer.weighed.vector is not None
    assert decision.vector == answer.weighed.vector.tobytes()
    assert decision.feature_digest == "plan"
    assert {one.action for one in decision.action_vectors} == {"m", "a", "x"}
    for one in decision.action_vectors:
        saw = answer.weighed.saw(of.rows[one.action])
        assert saw is not None
        assert one.vector == saw.tobytes()


# As protobuf writes it, whatever there is to say


def alike(
    entries: Entries, answer: Answer, of: Business, request: pb.DecideRequest | None = None,
    caller: str = "ivr",
) -> bytes:  # fmt: skip
    request = pb.DecideRequest() if request is None else request
    packed = Answers(of).written(answer, "id")
    expected = former_answers.logged(answer, request, packed, of, caller)
    compared = former_answers.deliberation(answer.weighed, len(of.actions))
    for _ in range(2):  # made, and then remembered
        assert (
            entries.written(answer, request.SerializeToString(deterministic=True), packed, caller)
            == expected
        )
        assert deliberation.written(answer.weighed, len(of.actions)) == compared
    return expected


def settled(of: Pipeline, inputs: Inputs, used: Models | None, refused: int = 0) -> Answer:
    weighed = of.weigh(inputs, used)
    replies = [Reply("CAPPED" if refused >> n & 1 else "") for n in range(len(weighed.wants))]
    return of.settle(weighed, replies)


@settings(max_examples=300, deadline=None)
@given(odd(), words, words)
def test_whatever_its_types_allow(
    decided: tuple[Business, Answer], caller: str, utterance: str
) -> None:
    of, answer = decided
    alike(Entries(of), answer, of, pb.DecideRequest(utterance=utterance), caller)


@settings(max_examples=200, deadline=None)
@given(asked(), st.integers(0, 7))
def test_the_bank(of: tuple[str, Inputs, Models | None], refused: int) -> None:
    group, inputs, used = of
    alike(Entries(tight(group)), settled(pipeline(group), inputs, used, refused), tight(group))


@settings(max_examples=300, deadline=None)
@given(crowded(), st.integers(0, 7))
def test_a_shop_whose_limits_are_near(situation: tuple[Business, Inputs], refused: int) -> None:
    of, inputs = situation
    alike(Entries(of), settled(Pipeline(of), inputs, None, refused), of)


@settings(max_examples=50, deadline=None)
@given(asked(), st.sets(st.integers(0, 20), max_size=3))
def test_what_models_do_not_see_of_an_action_is_not_logged_as_seen(
    of: tuple[str, Inputs, Models | None], felt: set[int]
) -> None:
    group, inputs, _ = of
    blind = copy.copy(models())
    hiding = (np.arange(len(blind.names)) + 1) % 2
    blind.usual = blind.usual._replace(hiding=hiding, felt=np.array(sorted(felt), np.int64))
    answer = settled(pipeline(group), inputs, blind)
    alike(Entries(tight(group)), answer, tight(group))


# Catalogues of more than one word


@cache
def wide(count: int, *, group: str = "", hold_back: float = 0.0, uplift: bool = False) -> Business:
    """All under limits, some for adults or members, two of them bundles."""
    names = [f"action{number}" for number in range(count)]
    adults = Rule("adults", "customer.age >= 18.0", "Not an adult")
    members = Rule("members", "has(customer.member) && customer.member", "m" * 130)
    parts = {count - 1: names[1:3], count // 2: [names[-2], names[0]]}
    actions = [
        thing(
            name, 1.0 + number % 11, eligibility=[adults] if number % 3 == 0 else [],
            suitability=[members] if number % 5 == 4 else [], parts=parts.get(number, []),
            queue_priority=number % 4 == 1,
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    policies = Policies(
        limits=[Limit("week", 1, "7d", group="care"), Limit("phone", 1, "1d", channel="phone"),
                Limit("each", 2, "30d", per="channel"), Limit("no", 0, "30d", outcome="rejected")],
        suppressions=[Suppression("left alone", "rejected", 2, "30d", "60d", per="customer")],
        control=msgspec.convert({group: 1.0} if group else {}, ControlGroups),
        ranking={"service": Ranking("uplift")} if uplift else {},
    )  # fmt: skip
    vocabulary = msgspec.structs.replace(
        WORDS, actions={name: code for code, name in enumerate(names, 1)}
    )
    chance = Exploration(hold_back, 0.5, 0.1)
    placements = {
        "hint": Placement(["phone", "chat"], max_actions=20, per_group=20, exploration=chance),
        "banner": Placement(["phone"], max_actions=3, per_group=3, exploration=chance),
    }
    definitions = Definitions([declared.Count(name="events")])
    return complete(Business(vocabulary, definitions, actions, placements, policies))


@cache
def shops(count: int, group: str, hold_back: float, uplift: bool) -> Pipeline:
    return Pipeline(wide(count, group=group, hold_back=hold_back, uplift=uplift))


SIZES = (63, 64, 65, 127, 128, 129, 130)
ODDS = st.integers(0, 2**64 - 1)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Pipeline, Inputs, Models | None]:
    count = draw(st.sampled_from(SIZES))
    uplift = draw(st.booleans())
    pipeline = shops(
        count, draw(st.sampled_from(["", "", "hold_out", "no_model", "random"])),
        draw(st.sampled_from([0.0, 0.5])), uplift,
    )  # fmt: skip
    of = pipeline.business
    outcomes = st.sampled_from([Outcome.presented, Outcome.rejected, RESERVED])
    past = [
        Event(
            NOW - draw(st.sampled_from([1, HOUR, 3 * DAY, 40 * DAY])), "outcome",
            draw(st.sampled_from(["phone", "chat"])), action=draw(st.integers(1, count)),
            outcome=draw(outcomes), value=600.0, id=str(number),
            interaction=draw(st.sampled_from(["", "call"])),
        )
        for number in range(draw(st.integers(0, 4)))
    ]  # fmt: skip
    attributes = {"age": Told(draw(st.sampled_from([17.0, 18.0])), 0), "member": Told(True, 0)}
    told = {name: attributes[name] for name in draw(st.sets(st.sampled_from(sorted(attributes))))}
    names = list(of.rows)
    inputs = given_(
        *draw(st.sampled_from([["hint"], ["hint", "banner"], ["banner"], []])),
        known=Known(EMPTY, chained(sorted(past, key=lambda one: one.at)), Profile(told, [])),
        seed=draw(ODDS), interaction_id=draw(st.sampled_from(["", "call"])),
        max_actions=draw(st.sampled_from([None, 1])),
        allow=draw(st.sampled_from([(), (), tuple(names[1:]), (names[-1],)])),
        block=draw(st.sampled_from([(), (), tuple(names), tuple(names[::2])])),
    )  # fmt: skip
    lifts = dict.fromkeys(names[::2], (3.0, 1.0, 5.0)) if uplift else None
    used = draw(st.sampled_from([None, scoring(of, lambda row: 0.01 * (row % 7 + 1), lifts)]))
    return pipeline, inputs, used


@settings(max_examples=300, deadline=None)
@given(crowds(), st.integers(0, 2**23))
def test_a_catalogue_of_more_than_one_word(
    decided: tuple[Pipeline, Inputs, Models | None], refused: int
) -> None:
    of, inputs, used = decided
    alike(Entries(of.business), settled(of, inputs, used, refused), of.business)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_100_000])
def test_lengths_of_one_byte_and_of_more(size: int) -> None:
    of = sold()
    writer, answer = Entries(of), decide(of, given_(), models=models_of(of))
    text = "x" * size
    request = pb.DecideRequest(utterance=text)
    asked = answer.weighed.inputs.question._replace(customer_id=text)
    inputs = answer.weighed.inputs._replace(question=asked)
    named = plainly(answer, answer.weighed._replace(inputs=inputs))
    alike(writer, named, of, request, caller=text)
    alike(writer, answer, of)


MEMBER = Profile({"age": Told(18.0, 0), "member": Told(True, 0)}, [])
"""Of whom every rule is known: a loop cannot tell why one is not, and leaves all to Python."""


@pytest.mark.parametrize("count", [*SIZES, 300])
def test_each_row_is_told_apart(count: int) -> None:
    pipeline = shops(count, "", 0.0, uplift=False)
    of = pipeline.business
    for row in {0, 62, 63, 64, count - 1} & set(range(count)):
        name = of.actions[row].name
        past = chained([Event(NOW - HOUR, "outcome", action=row + 1, outcome=Outcome.presented)])
        inputs = given_(known=Known(EMPTY, past, MEMBER), block=[name])
        answer = settled(pipeline, inputs, None)
        read = log_pb2.LogEntry.FromString(alike(Entries(of), answer, of)).decision.deliberation
        blocked = next(one for one in read.causes if one.code == "BLOCKED")
        assert int.from_bytes(blocked.actions, "little") == 1 << row
        assert any(one.code == "CONTACT_LIMIT" for one in read.causes)


@pytest.mark.parametrize(("age", "told"), [(60 * DAY, False), (60 * DAY - 1, True)])
def test_a_suppression_that_ends_just_now_is_no_cause_beside_a_limit(age: int, told: bool) -> None:
    pipeline = shops(64, "", 0.0, uplift=False)
    past = [
        Event(NOW - age, "outcome", outcome=Outcome.rejected, action=1, id="rejected"),
        Event(NOW - age, "outcome", outcome=Outcome.rejected, action=2, id="again"),
        Event(NOW - HOUR, "outcome", "chat", outcome=Outcome.presented, action=3, id="shown"),
    ]
    answer = settled(pipeline, given_(known=Known(EMPTY, chained(past), MEMBER)), None)
    packed = alike(Entries(pipeline.business), answer, pipeline.business)
    read = log_pb2.LogEntry.FromString(packed).decision.deliberation
    codes = {one.code for one in read.causes}
    assert "CONTACT_LIMIT" in codes
    assert ("SUPPRESSED" in codes) == told
    assert bool(answer.rows) != told


def test_prices_are_those_of_the_decision_and_minus_zero_is_not_zero() -> None:
    of = sold()
    entries = Entries(of)
    for price in (0.0, -0.0, 1.5, 1.5, 0.0):
        alike(entries, decide(of, given_(prices={"z": price, "b": 2.0})), of)
