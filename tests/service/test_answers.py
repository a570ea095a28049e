from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.profile import Profile, Told
from features.record import EMPTY, NEVER, LogId
from rapport.v1 import decision_pb2 as pb
from service import VERSION, answers, trace
from service.answers import Answers
from service.business import Business
from service.catalogue import Exploration, Price, Treatment
from service.declared import ControlGroups, Limit, Release, Resource
from service.factors import Factors
from service.facts import Fact
from service.inputs import Known, MemberKnown
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.rooms import Room
from service.slates import Answer
from service.weighed import Reply, Weighed, Weighing
from tests.chain import NOW, Event, chained
from tests.service import former_answers
from tests.service.test_pipeline import (
    STRANGER,
    WILLING,
    decide,
    given_,
    scoring,
    shop,
    situations,
    thing,
)

READ = Known(
    chained([Event(NOW - 1)]), EMPTY, WILLING, LogId(5, 1), profile_id=LogId(6, 0),
    members=[MemberKnown("bob", LogId(4, 2)), MemberKnown("cid", LogId(0, 0))],
)  # fmt: skip
SAID = Treatment("say", ["hint", "banner"], text="Only {price}", locale="en",
                 kind="talk_track", disclosures=["Costs apply"])  # fmt: skip


def sold() -> Business:
    prices = [Price(-4.5, "Members", "customer.member", "month"), Price(8.0)]
    of = shop(
        [thing("a", 9.0, prices=prices, treatments=[SAID]), thing("x", 8.0, parts=["b", "c"]),
         thing("b", 1.0), thing("c", 1.0), thing("m", 0.5, mandatory=True)],
        {"max_actions": 3, "defaults": ["b"]},
        public_attributes=["member"],
        limits=[Limit("once", 1, "7d", action="x")],
        resources={"z": Resource("minutes"), "b": Resource("visits")},
    )  # fmt: skip
    return msgspec.structs.replace(of, release=Release("2026.11", "ann", "bob"))


class Odd(Weighed):
    """A decision of which a test says what was seen."""

    intents: Any = ()
    told: Any = ()
    rooms: Any = ()


class Doctored(Weighing):
    """A placement that asks for what a test says, of which the log tells."""

    def __init__(self, one: Weighing, slots: int, nothing: float) -> None:
        super().__init__(one.choice, one.number, one.placing)
        self.placing = one.placing._replace(slots=slots, nothing=nothing)


def plainly(answer: Answer, weighed: Weighed | None = None) -> Answer:
    """An answer that is written slate by slate, by no kernel."""
    return Answer(weighed or answer.weighed, answer.slates, answer.replies, answer.advisories)


def response(answer: Answer, of: Business) -> pb.DecideResponse:
    return pb.DecideResponse.FromString(Answers(of).written(answer, "id"))


def test_an_answer_says_all_that_was_found() -> None:
    of = sold()
    built = response(decide(of, given_("hint", "banner", known=READ, locale="en")), of)
    assert built.decision_id == "id"
    assert answers.milliseconds(built.decided_at) == NOW
    assert built.rung == pb.RUNG_WITHOUT_MODELS
    assert [one.code for one in built.advisories] == ["NO_MODEL", "NOTHING_QUALIFIED"]
    assert all(one.message for one in built.advisories)
    assert [slate.placement for slate in built.slates] == ["hint", "banner"]
    must, first, bundle = built.slates[0].recommendations
    assert [one.rank for one in (must, first, bundle)] == [1, 2, 3]
    assert (must.action, must.mandatory, first.mandatory) == ("m", True, False)
    assert (first.action, first.title) == ("a", "A")
    assert first.treatment == pb.Treatment(
        name="say", text="Only 8.00 EUR", locale="en", kind="talk_track",
        disclosures=["Costs apply"],
    )  # fmt: skip
    assert first.price == pb.Price(amount=8.0, currency="EUR", condition="Everybody")
    assert not bundle.HasField("price")
    assert list(bundle.parts) == ["b", "c"]
    assert first.factors.priority == pytest.approx(9.0)
    assert [reason.code for reason in first.reasons] == ["VALUE"]
    assert first.selection_probability == 1.0
    assert built.slates[0].selection_probability == 1.0
    assert not built.slates[0].held_back
    assert not built.trace
    assert not built.HasField("features")
    assert built.versions == pb.Versions(
        code=VERSION, catalogue=of.digest, vocabulary=of.vocabulary.digest, release="2026.11",
        author="ann", approver="bob",
    )  # fmt: skip
    assert built.control_group == ""


def test_a_price_is_that_of_who_meets_its_condition_and_is_worded_without_its_sign() -> None:
    of = sold()
    member = STRANGER._replace(profile=Profile({"member": Told(True, 0)}, []))
    (_, first, _) = response(decide(of, given_(known=member)), of).slates[0].recommendations
    assert first.price == pb.Price(
        amount=-4.5, currency="EUR", per="month", condition="Members"
    )  # fmt: skip
    assert first.treatment.text == "Only 4.50 EUR"


def test_what_stands_in_for_another_says_so() -> None:
    of = sold()
    built = response(decide(of, given_(), ["x"]), of)
    *_, last = built.slates[0].recommendations
    assert (last.action, last.instead_of) == ("b", "x")
    assert last.reasons[0].code == "FALLBACK"


def test_a_control_group_and_a_hold_back_are_told() -> None:
    of = shop([thing("a")], control=ControlGroups(random=1.0))
    assert response(decide(of, given_()), of).control_group == "random"
    of = shop([thing("a")], {"exploration": Exploration(hold_back=0.5)})
    built = [response(decide(of, given_(seed=n)), of).slates[0] for n in range(20)]
    assert {(one.held_back, len(one.recommendations)) for one in built} == {(True, 0), (False, 1)}
    assert {one.selection_probability for one in built} == {0.5}


def test_five_intents_at_most_and_facts_name_what_is_behind_them() -> None:
    of = sold()
    found = decide(of, given_())
    weighed = Odd(*found.weighed)
    weighed.intents = [(f"intent{i}", 0.1) for i in range(7)]
    weighed.told = [
        Fact("mood", "Bad mood", -0.5),
        Fact("repeat_contact", "Again", 2, NOW, "billing", ("ivr", "phone")),
    ]
    built = response(plainly(found, weighed), of)
    assert [one.intent for one in built.intents] == [f"intent{i}" for i in range(5)]
    mood, again = built.facts
    assert not mood.HasField("newest")
    assert not mood.intent
    assert answers.milliseconds(again.newest) == NOW
    assert list(again.channels) == ["ivr", "phone"]


def test_what_was_read_is_named_by_the_ids_of_the_log() -> None:
    of = sold()
    read = response(decide(of, given_(known=READ)), of).read
    assert (read.timeline, read.ledger, read.profile, read.events) == ("5-1", "", "6-0", 1)
    assert [(one.customer_id, one.timeline) for one in read.members] == [
        ("bob", "4-2"),
        ("cid", ""),
    ]
    late = Known(None, None, None, unread=Reason("TIMELINE_LATE", "late"))
    assert response(decide(of, given_(known=late)), of).read == pb.ReadIds()


def models_of(of: Business) -> Models:
    return scoring(of, lambda row: 0.5)


def test_the_vector_has_the_names_and_the_digest_of_the_plan() -> None:
    of = sold()
    answer = decide(of, given_(), models=models_of(of))
    told = Answers(of).written(answer, "id") + answers.features(answer.weighed)
    seen = pb.DecideResponse.FromString(told).features
    assert seen == pb.FeatureVector(digest="plan", names=["events"], values=[1.0])
    assert answers.features(decide(of, given_()).weighed) == b""


# As protobuf writes it, whatever there is to say


numbers = st.floats() | st.sampled_from([0.0, -0.0, 1.0])
words = st.text(max_size=3) | st.sampled_from(["", "x" * 130, "\U0001f600" * 5_000])
reasons = st.builds(Reason, words, words)
maybe = st.none() | reasons
ids = st.builds(LogId, st.integers(0, 2**48), st.integers(0, 3)) | st.just(NEVER)
moments = st.integers(-(2**40), 2**42)
facts = st.builds(
    Fact, words, words, numbers | st.integers(0, 9), st.none() | moments, words,
    st.lists(words, max_size=2).map(tuple),
)  # fmt: skip
uplifts = st.none() | st.tuples(numbers, numbers, numbers)
factors = st.builds(
    Factors, numbers, numbers, numbers, numbers, numbers, st.none() | numbers,
    st.none() | numbers, numbers, uplifts,
)  # fmt: skip
members = st.builds(MemberKnown, words, ids)


@st.composite
def odd(draw: st.DrawFn) -> tuple[Business, Answer]:
    """A decision in which anything may be that its types allow."""
    of, inputs = draw(situations())
    of = msgspec.structs.replace(
        of, release=draw(st.sampled_from([Release(), Release("2026.11", "ann", "bob")]))
    )
    models = draw(st.sampled_from([None, models_of(of)]))
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(inputs, models)
    replies = [draw(st.sampled_from([Reply(), Reply("CAPPED")])) for _ in weighed.wants]
    answer = pipeline.settle(weighed, replies)
    known = weighed.inputs.known._replace(
        timeline_id=draw(ids), ledger_id=draw(ids), profile_id=draw(ids),
        members=draw(st.lists(members, max_size=2)), unread=draw(maybe),
        unreadable=draw(st.lists(reasons, max_size=2)),
    )  # fmt: skip
    said = weighed.inputs._replace(
        known=known, seed=draw(st.integers(0, 2**64 - 1)), clock=draw(moments),
        unscored=draw(maybe), prices=draw(st.dictionaries(words, numbers, max_size=3)),
        full_ceilings=draw(st.frozensets(words, max_size=3)), greedy=draw(st.booleans()),
        question=weighed.inputs.question._replace(customer_id=draw(words)),
    )  # fmt: skip
    weighed = Odd(*weighed._replace(
        inputs=said, now=draw(moments), group=draw(words), events=draw(st.integers(0, 2**32 - 1)),
        rung=draw(st.sampled_from(pb.Rung.values())),
        weighings=[
            Doctored(one, draw(st.integers(0, 300)), draw(numbers)) for one in weighed.weighings
        ],
    ))  # fmt: skip
    weighed.intents = draw(st.lists(st.tuples(words, numbers), max_size=7))
    weighed.told = draw(st.lists(facts, max_size=3))
    weighed.rooms = draw(st.lists(st.builds(Room, words, st.integers(0, 1), st.integers(0, 300))))
    slates = [
        one._replace(
            probability=draw(numbers), held_back=draw(st.booleans()),
            shown=[
                shown._replace(
                    factors=draw(factors), reasons=draw(st.lists(reasons, max_size=2)),
                    probability=draw(numbers),
                    instead_of=draw(st.sampled_from([None, 0])),
                    price=draw(st.sampled_from([None, Price(-0.0), Price(0.0, "All", per="day")])),
                )
                for shown in one.shown
            ],
        )
        for one in answer.slates
    ]  # fmt: skip
    answered = [
        (want._replace(probability=draw(numbers)), Reply(draw(words))) for want, _ in answer.replies
    ]
    told = draw(st.lists(reasons, max_size=2))
    return of, Answer(weighed, slates, answered, told)


@settings(max_examples=300)
@given(odd(), words)
def test_answers_are_what_protobuf_would_write(
    decided: tuple[Business, Answer], decision_id: str
) -> None:
    of, answer = decided
    writer = Answers(of)
    for _ in range(2):  # made, and then remembered
        packed = writer.written(answer, decision_id)
        built = former_answers.response(answer, decision_id, of)
        assert packed == built.SerializeToString(deterministic=True)


def alike(writer: Answers, answer: Answer, of: Business) -> None:
    packed = writer.written(answer, "id")
    assert packed == former_answers.response(answer, "id", of).SerializeToString(deterministic=True)


@settings(max_examples=300)
@given(factors)
@example(Factors(0.5, 10.0, 1.0, 1.0, 5.0, 0.4, 20.0, 1.5, (3.0, 2.0, 4.0)))
@example(Factors(0.5, 10.0, 1.0, 1.0, 5.0, 0.4, 20.0))
@example(Factors(0.5, 10.0, 1.0, 1.0, 5.0, 0.4, capacity=-0.0))
@example(Factors(0.5, 10.0, 1.0, 1.0, 5.0, evidence=0.0))
def test_factors_are_what_protobuf_would_write(told: Factors) -> None:
    built = pb.Factors()
    former_answers.factors(told, built)
    assert trace.factors(told) == built.SerializeToString(deterministic=True)


def test_zero_and_minus_zero_are_not_taken_for_one_another() -> None:
    of = sold()
    writer, answer = Answers(of), decide(of, given_())
    for size in (0.0, -0.0, 0, 2, 2.0):
        weighed = Odd(*answer.weighed)
        weighed.told = [Fact("mood", "Neither", size)]
        alike(writer, plainly(answer, weighed), of)


def test_an_action_has_the_price_of_whoever_asks() -> None:
    of = sold()
    writer = Answers(of)
    member = STRANGER._replace(profile=Profile({"member": Told(True, 0)}, []))
    for known in (STRANGER, member, STRANGER):
        alike(writer, decide(of, given_(known=known)), of)


def test_what_another_bundle_decides_names_it() -> None:
    of = sold()
    writer = Answers(of)
    for models in (None, models_of(of), None):
        alike(writer, decide(of, given_(), models=models), of)


def test_what_is_appended_belongs_to_the_answer() -> None:
    of = sold()
    packed = Answers(of).written(decide(of, given_()), "id")
    late, candidate = Reason("LATE", "It came late"), pb.Candidate(action="a", rank=2)
    told = pb.DecideResponse.FromString(
        packed + answers.advisory(late) + answers.traced([candidate])
    )
    before = pb.DecideResponse.FromString(packed)
    before.advisories.add(code="LATE", message="It came late")
    before.trace.append(candidate)
    assert told == before


@pytest.mark.parametrize("ms", [0, 1, 999, 1_000, NOW, NOW + 1])
def test_a_moment_survives_the_api(ms: int) -> None:
    assert answers.milliseconds(answers.timestamp(ms)) == ms
