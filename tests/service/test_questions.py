from __future__ import annotations

from typing import Any

import pytest

from features.duration import DAY
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service import questions
from service.callers import EVERYBODY, Caller
from service.decide import Question
from service.errors import Denied, InvalidRequest
from service.intake import Named
from tests.business import business
from tests.chain import NOW
from tests.integration.serving import key, named, stamp, value


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
    assert question == Question("", "phone", int(Direction.inbound), ["hint"])
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
    )
    assert who.customer_id is None
    assert who.identifier is not None
    assert who.identifier[0] == "phone"
    assert question == Question(
        "", "chat", 2, ["hint"], 3, "nl-NL", "hello", {"wait": 3.5, "tone": "angry"}, 2, NOW - DAY
    )


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
    )
    assert set(found) == {
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
