from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from google.protobuf import duration_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.duration import DAY
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import event_pb2
from service import questions
from service.callers import EVERYBODY, Caller, Scope
from service.errors import Denied, InvalidRequest, RapportError
from service.inputs import Question
from service.intake import Named
from tests.business import business
from tests.chain import NOW
from tests.integration.serving import key, named, stamp, value

NOBODY = {"agent_id": "", "skill": "", "queue": ""}


def read(caller: Caller = EVERYBODY, **fields: Any) -> tuple[Named, Question]:
    request = pb.DecideRequest(**{"customer": key("ann"), "channel": "phone", **fields})
    return questions.read(request, business(), caller, NOW)


def wrong(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return {one.field: one.description for one in caught.value.violations}


def test_what_is_not_said_has_its_default() -> None:
    who, question = read()
    assert who == Named("ann")
    assert question == Question(
        "ann", "phone", int(Direction.inbound), ["hint"], contact=NOBODY, allow=[], block=[]
    )
    assert question.recorded
    assert question.assurance == pb.ASSURANCE_NONE


def test_what_is_said_is_passed_on() -> None:
    who, question = read(
        customer=named("phone", "+31 6 123"),
        channel="chat",
        direction=2,
        placements=["hint"],
        assurance=pb.ASSURANCE_VERIFIED,
        locale="nl-NL",
        utterance="hello",
        context={"wait": value(3.5), "tone": value("angry")},
        max_actions=2,
        as_of=stamp(NOW - DAY),
        agent_id="a7",
        skill="cards",
        queue="gold",
        allow_actions=["tablet", "discount", "tablet"],
        block_actions=["callback"],
        hold_for=duration_pb2.Duration(seconds=90, nanos=500_000_000),
        dry_run=True,
        seed=2**64 - 1,
    )
    assert who.customer_id is None
    assert who.identifier is not None
    assert who.identifier[0] == "phone"
    assert question == Question(
        "", "chat", 2, ["hint"], 3, "nl-NL", "hello", {"wait": 3.5, "tone": "angry"},
        {"agent_id": "a7", "skill": "cards", "queue": "gold"}, "", 2, NOW - DAY,
        ["tablet", "discount"], ["callback"], 90_500, True, 2**64 - 1,
    )  # fmt: skip
    assert not question.recorded


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = wrong(
        customer=key(""),
        channel="fax",
        direction=9,
        placements=["hint", "hint", "banner", "other"],
        assurance=9,
        context={"wait": value("long"), "waits": value(1.0)},
        max_actions=0,
        utterance="x" * 2_001,
        as_of=stamp(NOW + DAY),
        allow_actions=["tablet", "tablets"],
        block_actions=["nothing"],
        hold_for=duration_pb2.Duration(seconds=-1),
        queue="q" * 129,
    )
    assert set(found) == {
        "allow_actions[1]", "block_actions[0]", "hold_for", "queue",
        "customer.customer_id", "channel", "direction", "assurance", "utterance", "max_actions",
        "as_of", "placements[0]", "placements[1]", "placements[2]", "placements[3]",
        "context.wait", "context.waits",
    }  # fmt: skip
    assert "twice" in found["placements[1]"]


def test_a_context_value_of_null_is_none() -> None:
    assert read(context={"wait": value(None)})[1].context == {}


def test_a_context_of_sixty_four_is_read_and_one_more_is_not() -> None:
    found = wrong(context={f"c{i}": value(1.0) for i in range(64)})
    assert len(found) == 64
    assert list(wrong(context={f"c{i}": value(1.0) for i in range(65)})) == ["context"]


def test_a_moment_needs_its_scope_whatever_it_is() -> None:
    caller = Caller("ivr", frozenset({"decide"}))
    with pytest.raises(Denied, match="replay"):
        read(caller, as_of=stamp(NOW + DAY))


def test_a_channel_without_placements_asks_for_nothing() -> None:
    assert read(channel="ivr")[1].placements == []


@pytest.mark.parametrize(
    ("seconds", "nanos", "held"),
    [(0, 1_000_000, 1), (0, 0, None), (0, 999_999, None), (30 * 86_400, 0, 30 * DAY),
     (30 * 86_400, 1_000_000, None)],
)  # fmt: skip
def test_an_answer_may_be_held_for_up_to_thirty_days(
    seconds: int, nanos: int, held: int | None
) -> None:
    sent: dict[str, Any] = {"hold_for": duration_pb2.Duration(seconds=seconds, nanos=nanos)}
    if held is None:
        assert set(wrong(**sent)) == {"hold_for"}
    else:
        assert read(**sent)[1].hold_for == held


def test_only_what_records_nothing_may_choose_its_chance() -> None:
    assert set(wrong(seed=1)) == {"seed"}
    assert set(wrong(seed=0)) == {"seed"}
    assert read(seed=0, dry_run=True)[1].seed == 0
    assert read(seed=7, as_of=stamp(NOW))[1].seed == 7
    assert read(dry_run=True)[1].seed is None


def test_a_dry_run_and_a_moment_record_nothing() -> None:
    assert [read(**one)[1].recorded for one in ({}, {"dry_run": True}, {"as_of": stamp(NOW)})] == [
        True, False, False,
    ]  # fmt: skip


def test_a_dry_run_needs_no_scope_of_its_own() -> None:
    caller = Caller("ivr", frozenset({"decide"}))
    assert read(caller, dry_run=True, seed=1)[1].dry_run


def test_a_thousand_actions_may_be_named_and_no_more() -> None:
    many = ["tablet"] * 1_000
    assert read(allow_actions=many, block_actions=many)[1].allow == ["tablet"]
    assert list(wrong(allow_actions=[*many, "tablet"])) == ["allow_actions"]
    assert list(wrong(block_actions=[*many, "tablet"])) == ["block_actions"]


def test_answers_for_each_placement_are_one_to_twenty() -> None:
    assert [read(max_actions=n)[1].max_actions for n in (1, 20)] == [1, 20]
    for n in (0, 21):
        assert set(wrong(max_actions=n)) == {"max_actions"}


# What most requests say is read in fewer steps: everything comes out as if all had been looked at

GOOD = {"customer": key("ann"), "channel": "phone"}
TEXTS = ["", "a7", "x" * 128, "x" * 129, "a\x00b", "x\u00e9" * 64]
TRIED: dict[str, list[Any]] = {
    "customer": [
        key("x" * 128), key("x" * 129), key(""), key(" "), key("a\x00"), None,
        named("phone", "1"), named("fax", "1"), event_pb2.CustomerKey(),
    ],
    "channel": ["chat", "ivr", "fax", ""],
    "direction": [0, 1, 2, 3, 4, 5, -1],
    "placements": [
        [], ["hint"], ["hint", "hint"], ["banner"], ["tile"], [""], ["hint", "banner"],
        ["hint"] * 9, ["hint", "banner", "hint"],
    ],
    "assurance": [0, 1, 2, 3, 4, -1],
    "include_trace": [True],
    "include_features": [True],
    "dry_run": [True],
    **dict.fromkeys(
        ["locale", "interaction_id", "parent_interaction_id", "agent_id", "skill", "queue"], TEXTS
    ),
    "utterance": ["hello"],
    "context": [{"wait": value(1.0)}, {"waits": value(1.0)}],
    "max_actions": [0, 1, 20, 21],
    "as_of": [stamp(NOW), stamp(NOW + DAY)],
    "allow_actions": [["tablet"], ["tablets"]],
    "block_actions": [["tablet"], ["tablets"]],
    "hold_for": [duration_pb2.Duration(seconds=seconds) for seconds in (-1, 9)],
    "seed": [0, 9],
}  # fmt: skip


def found(read: Callable[..., tuple[Any, ...]], request: pb.DecideRequest, scope: Scope) -> object:
    """What comes of a request: a question, or an error."""
    try:
        return read(request, business(), Caller("ivr", frozenset({scope})), NOW)
    except RapportError as error:
        return type(error), str(error)


def agreed(fields: Mapping[str, Any], scope: Scope = "decide") -> None:
    request = pb.DecideRequest(**fields)
    assert found(questions.read, request, scope) == found(questions.checked, request, scope)


@pytest.mark.parametrize("field", TRIED)
def test_the_usual_way_and_the_thorough_one_agree_on_every_field(field: str) -> None:
    for tried in TRIED[field]:
        agreed({**GOOD, field: tried})


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([(name, tried) for name, some in TRIED.items() for tried in some]),
        max_size=4,
    ),
    st.sampled_from(["decide", "decide", "record", "replay"]),
)
@example([], "record")
def test_the_usual_way_and_the_thorough_one_agree_on_all_of_them(
    said: list[tuple[str, Any]], scope: Scope
) -> None:
    agreed({**GOOD, **dict(said)}, scope)


def test_the_usual_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(questions, "checked")
    assert read(agent_id="a7", placements=["hint"], assurance=2)[1].contact["agent_id"] == "a7"
