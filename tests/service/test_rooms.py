from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import duration
from features.duration import DAY, HOUR
from features.ledger import contact, held_until
from features.record import EMPTY, RECORD, RESERVED, SIZE, Records, interaction_hash, pack
from features.vocabulary import Outcome
from service.business import Business
from service.catalogue import Action
from service.causes import rows_of
from service.declared import Limit
from service.exploration import Fate
from service.inputs import Inputs, Known
from service.pipeline import Pipeline
from service.rooms import Room, full
from service.slates import Answer
from service.weighed import Reply, Weighed
from tests.chain import NOW, chained
from tests.service.test_pipeline import (
    STRANGER,
    WILLING,
    WORDS,
    advised,
    businesses,
    decide,
    given_,
    names,
    shop,
    shown_before,
    thing,
)

# A slow reference: contacts counted one by one, as the store does


def counted_for(limit: Limit, action: Action, of: Business) -> set[str]:
    """What showing an action counts for, its parts included."""
    found = set()
    for one in (action, *(of.by_name[part] for part in action.parts)):
        about = (limit.action, limit.group, limit.issue)
        if all(
            a in (None, b) for a, b in zip(about, (one.name, one.group, one.issue), strict=True)
        ):
            names_ = {"action": one.name, "group": one.group, "issue": one.issue}
            found.add(names_.get(limit.per, ""))
    return found


def contacts(records: Records, now: int) -> Iterator[tuple[int, int, float]]:
    """Action, channel and moment of every contact that a limit on showing may count."""
    known: dict[Any, tuple[int, int, float]] = {}
    packed = records.tobytes()
    for number, one in enumerate(records):
        held = one["outcome"] == RESERVED
        if held and now >= float(held_until(records[number : number + 1])[0]):
            continue
        if not held and one["outcome"] != Outcome.presented:
            continue
        moment = float("inf") if held else float(one["occurred_at"])
        at = contact(packed[number * SIZE : (number + 1) * SIZE]) or number
        before = known.get(at, (0, 0, 0.0))[2]
        known[at] = int(one["action"]), int(one["channel"]), max(moment, before)
    yield from known.values()


def counts(records: Records, action: Action, of: Business, channel: str) -> dict[Any, int]:
    """How many contacts count against an action, by limit, and how many may."""
    codes = {code: name for name, code in of.vocabulary.actions.items()}
    here = of.vocabulary.channels[channel]
    found = {}
    for limit in of.policies.limits:
        if limit.outcome != "presented" or limit.channel not in (None, channel):
            continue
        for what in counted_for(limit, action, of):
            found[limit, what] = sum(
                what in counted_for(limit, of.by_name[codes[code]], of)
                and NOW - moment < duration.milliseconds(limit.within)
                and (on == here or not (limit.channel or limit.per == "channel"))
                for code, on, moment in contacts(records, NOW)
            )
    return found


def reserved(inputs: Inputs, name: str) -> bytes:
    """What the store would hold once an action is drawn."""
    question = inputs.question
    return pack(
        occurred_at=NOW, hash=WORDS.actions[name], type=0, outcome=RESERVED, value=600.0,
        interaction=interaction_hash(question.interaction_id), action=WORDS.actions[name],
        channel=WORDS.channels[question.channel],
    )  # fmt: skip


class Ledger:
    """A ledger that takes what is shown, and says which limits that exceeds."""

    def __init__(self, of: Business, inputs: Inputs) -> None:
        assert inputs.known.ledger is not None
        self._of, self._inputs = of, inputs
        self._packed = inputs.known.ledger.tobytes()

    def _with(self, more: bytes = b"") -> Records:
        return _parsed(self._packed + more)

    def exceeded(self, name: str) -> list[Any]:
        """Limits that showing an action would exceed."""
        action, channel = self._of.by_name[name], self._inputs.question.channel
        before = counts(self._with(), action, self._of, channel)
        after = counts(self._with(reserved(self._inputs, name)), action, self._of, channel)
        return [at for at in after if before[at] < after[at] > at[0].at_most]

    def show(self, name: str) -> None:
        assert self.exceeded(name) == []
        self._packed += reserved(self._inputs, name)


def _parsed(packed: bytes) -> Records:
    return np.frombuffer(packed, RECORD)


# Whatever is limited


LIMITS = st.builds(
    Limit,
    st.sampled_from(["first", "second", "third"]),
    st.integers(1, 3),
    st.sampled_from(["7d", "1d", "2h"]),
    group=st.sampled_from([None, None, "care"]),
    issue=st.sampled_from([None, "grow", "service"]),
    channel=st.sampled_from([None, None, "phone", "chat"]),
    per=st.sampled_from(["action", "group", "issue", "channel", "customer"]),
)


@st.composite
def crowded(draw: st.DrawFn) -> tuple[Business, Inputs]:
    """A decision under limits that are near their end."""
    of = draw(businesses())
    limits = draw(st.lists(LIMITS, min_size=1, max_size=3, unique_by=lambda one: one.name))
    of = msgspec.structs.replace(of, policies=msgspec.structs.replace(of.policies, limits=limits))
    past = [
        shown_before(
            draw(st.sampled_from(list(of.rows))),
            draw(st.sampled_from([1, 1_000, HOUR, 3 * HOUR, 3 * DAY])),
            channel=draw(st.sampled_from(["phone", "chat"])),
            interaction=draw(st.sampled_from(["", "call", "other"])),
            outcome=draw(st.sampled_from([Outcome.presented, Outcome.clicked, RESERVED])),
            value=600.0,
            id=str(number),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    return of, given_(
        *draw(st.sampled_from([["hint", "banner"], ["banner", "hint"], ["hint"]])),
        known=Known(EMPTY, chained(sorted(past, key=lambda one: one.at)), WILLING),
        seed=draw(st.integers(0, 2**64 - 1)),
        max_actions=draw(st.sampled_from([None, None, 1, 20])),
        interaction_id=draw(st.sampled_from(["", "call"])),
    )


def drawn(weighed: Weighed) -> list[list[int]]:
    return [
        [int(one.ranked.rows[slot.place]) for slot in one.drawn.slots] for one in weighed.weighings
    ]


@settings(max_examples=400, deadline=None)
@given(crowded())
def test_whatever_is_drawn_exceeds_no_limit_and_what_is_left_out_for_one_would(
    situation: tuple[Business, Inputs],
) -> None:
    of, inputs = situation
    weighed = Pipeline(of).weigh(inputs, None)
    ledger = Ledger(of, inputs)
    for weighing, rows in zip(weighed.weighings, drawn(weighed), strict=True):
        for row in rows:
            ledger.show(of.actions[row].name)
        for row, fate in zip(weighing.ranked.rows.tolist(), weighing.drawn.fates, strict=True):
            if fate is Fate.limit_full:
                assert ledger.exceeded(of.actions[row].name)
            elif fate is Fate.ranked_lower:
                assert len(rows) == weighing.slots, "it would have been shown"
    for room in weighed.rooms:
        assert room.left(rows_of(row for rows in drawn(weighed) for row in rows)) >= 0


@settings(max_examples=300, deadline=None)
@given(crowded(), st.data())
def test_no_default_that_stands_in_exceeds_a_limit(
    situation: tuple[Business, Inputs], data: st.DataObject
) -> None:
    of, inputs = situation
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(inputs, None)
    refused = [data.draw(st.sampled_from(["", "CAPPED", "UNAVAILABLE"])) for _ in weighed.wants]
    answer = pipeline.settle(weighed, [Reply(why) for why in refused])
    spent = {
        at
        for want, why in zip(weighed.wants, refused, strict=True)
        if why == "CAPPED"
        for at in counts(EMPTY, of.actions[want.row], of, "phone")
    }
    ledger = Ledger(of, inputs)
    shown = [one for slate in answer.slates for one in slate.shown]
    for one in sorted(shown, key=lambda one: one.instead_of is not None):
        ledger.show(of.actions[one.row].name)
        if one.instead_of is not None:
            assert not spent & set(counts(EMPTY, of.actions[one.row], of, "phone"))


# One by one


FEW = Limit("few", 2, "7d", issue="grow", per="issue")


def grow(name: str, priority: float = 5.0, **fields: Any) -> Action:
    return thing(name, priority, issue="grow", **fields)


def known(*events: Any) -> Known:
    return STRANGER._replace(ledger=chained(list(events)))


def rooms(of: Business, inputs: Inputs) -> list[Room]:
    return list(Pipeline(of).weigh(inputs, None).rooms)


FOUR = [grow("a", 9.0), grow("b", 8.0), grow("c", 7.0), thing("d", 1.0)]


def test_nothing_is_looked_at_while_a_limit_is_far_from_its_end() -> None:
    of = shop(FOUR, {"max_actions": 2}, {"max_actions": 1}, limits=[FEW])
    assert rooms(of, given_()) == []
    assert rooms(of, given_("hint", "banner")) == [Room("few", 0b0111, 2)]
    assert rooms(of, given_(max_actions=3)) == [Room("few", 0b0111, 2)]
    assert rooms(of, given_(known=known(shown_before("c")))) == [Room("few", 0b0111, 1)]
    both = known(shown_before("b"), shown_before("c", HOUR - 1))
    assert rooms(of, given_(known=both)) == [], "a filter has dropped them all"
    assert rooms(of, given_(known=STRANGER._replace(ledger=None))) == []
    alone = [Limit("each", 1, "7d", issue="grow"), Limit("b", 1, "7d", action="b", per="customer")]
    assert rooms(shop(FOUR, {"max_actions": 4}, limits=alone), given_()) == []
    pair = [grow("a", 9.0), grow("b", 8.0), thing("c", 7.0)]
    assert rooms(shop(pair, {"max_actions": 3}, limits=[FEW]), given_()) == [], "two need no more"


def test_the_best_take_the_places_and_others_stand_below_them() -> None:
    of = shop(FOUR, {"max_actions": 3}, limits=[FEW])
    answer = decide(of, given_(known=known(shown_before("c"))))
    assert names(answer, of) == {"hint": ["a", "d"]}
    assert "RESERVATION_FAILED" not in advised(answer)
    (weighing,) = answer.weighed.weighings
    assert [fate.name for fate in weighing.drawn.fates] == [
        "shown", "limit_full", "limit_full", "shown",
    ]  # fmt: skip


def test_a_place_that_one_placement_takes_is_gone_in_the_next() -> None:
    of = shop(FOUR, {"max_actions": 2}, {"max_actions": 2}, limits=[FEW])
    assert names(decide(of, given_("hint", "banner")), of) == {"hint": ["a", "b"], "banner": ["d"]}


def test_what_must_be_shown_takes_a_place_and_needs_one() -> None:
    must = [grow("m", 1.0, mandatory=True), grow("n", 0.5, mandatory=True), *FOUR]
    of = shop(must, {"max_actions": 4}, limits=[FEW])
    assert names(decide(of, given_()), of) == {"hint": ["m", "n", "d"]}
    assert names(decide(of, given_(known=known(shown_before("c")))), of) == {"hint": ["m", "d"]}


@pytest.mark.parametrize(("own", "shown"), [("call", ["a", "c", "d"]), ("other", ["a", "d"])])
def test_what_the_contact_shows_already_takes_no_place(own: str, shown: list[str]) -> None:
    of = shop(FOUR, {"max_actions": 3}, limits=[FEW])
    before = known(shown_before("c", HOUR, channel="phone", interaction=own))
    answer = decide(of, given_(known=before, interaction_id="call"))
    assert names(answer, of) == {"hint": shown}


def test_what_the_contact_showed_before_the_window_takes_a_place_again() -> None:
    hourly = Limit("hourly", 1, "1h", issue="grow", per="issue")
    of = shop(FOUR, {"max_actions": 3}, limits=[hourly])
    for age, shown in ((HOUR - 1, ["a", "d"]), (HOUR, ["a", "d"])):
        before = known(shown_before("a", age, channel="phone", interaction="call"))
        answer = decide(of, given_(known=before, interaction_id="call"))
        assert names(answer, of) == {"hint": shown}
        takes = answer.weighed.rooms[0]
        assert takes == Room("hourly", 0b0111 if age == HOUR else 0b0110, int(age == HOUR))
    before = known(
        *(shown_before(name, HOUR, channel="phone", interaction="call") for name in "ab")
    )
    assert names(decide(of, given_(known=before, interaction_id="call")), of) == {
        "hint": ["a", "d"]
    }


@pytest.mark.parametrize(("left", "room"), [(1, (0b0011, 1)), (0, (0b0111, 2))])
def test_what_the_contact_holds_no_longer_takes_a_place_again(
    left: int, room: tuple[int, int]
) -> None:
    of = shop(FOUR, {"max_actions": 3}, limits=[FEW])
    held = shown_before("c", 600_000 - left, channel="phone", interaction="call",
                        outcome=RESERVED, value=600.0)  # fmt: skip
    assert rooms(of, given_(known=known(held), interaction_id="call")) == [Room("few", *room)]


def test_a_bundle_takes_the_places_of_its_parts_and_one_alone() -> None:
    bundle = grow("x", 9.5, parts=["p", "q"])
    of = shop([bundle, thing("p", 3.0), thing("q", 3.0), grow("a"), grow("b")],
              {"max_actions": 3}, limits=[FEW, Limit("p", 1, "7d", action="p")])  # fmt: skip
    assert names(decide(of, given_()), of) == {"hint": ["x", "a"]}
    parts = Limit("care", 1, "7d", group="care", per="group")
    of = shop([bundle, thing("p", 3.0), thing("q", 3.0), thing("s", 2.0), grow("a", group="sales")],
              {"max_actions": 3}, limits=[parts])  # fmt: skip
    assert names(decide(of, given_()), of) == {"hint": ["x", "a"]}


def test_a_bundle_needs_a_place_of_its_own_though_its_part_stands_already() -> None:
    bundle = thing("x", 9.5, "sales", parts=["p", "q"])
    of = shop([bundle, thing("p", 3.0), thing("q", 2.0)], {"max_actions": 3},
              limits=[Limit("p_once", 1, "7d", action="p")])  # fmt: skip
    before = known(shown_before("p", HOUR, channel="phone", interaction="call"))
    answer = decide(of, given_(known=before, interaction_id="call"))
    assert names(answer, of) == {"hint": ["p", "q"]}
    assert answer.weighed.rooms == [Room("p_once", 0b001, 0)]


def test_a_default_takes_the_last_place_and_another_may_not() -> None:
    of = shop(
        [thing("z", 9.0, "sales"), thing("y", 8.0, "sales"), *FOUR],
        {"max_actions": 2, "defaults": ["a", "b", "d"]},
        limits=[FEW, Limit("own", 1, "7d", group="sales")],
    )
    inputs = given_(known=known(shown_before("c")))
    assert names(decide(of, inputs, ["z", "y"]), of) == {"hint": ["a", "d"]}


def test_where_the_store_knew_better_no_default_is_shown_under_the_same_limit() -> None:
    of = shop(FOUR, {"max_actions": 1, "defaults": ["b", "d"]}, limits=[FEW])
    assert names(decide(of, given_(), ["a"]), of) == {"hint": ["d"]}
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(given_(), None)
    late: Answer = pipeline.settle(weighed, [Reply("UNAVAILABLE")])
    assert names(late, of) == {"hint": ["b"]}, "it said nothing of any limit"


def test_a_set_of_rows_is_full_once_a_limit_is() -> None:
    some: Sequence[Room] = [Room("one", 0b0011, 1), Room("two", 0b1110, 2)]
    assert full(some, 0) == 0
    assert full(some, 0b0001) == 0b0011
    assert full(some, 0b0110) == 0b1111
    assert full([Room("none", 0b0100, 0)], 0) == 0b0100
    assert some[0].left(0b0111) == -1


def test_limits_of_another_channel_leave_what_they_like() -> None:
    once = Limit("by_chat", 1, "7d", issue="grow", channel="chat", per="issue")
    of = shop(FOUR, {"max_actions": 3}, limits=[once])
    pipeline = Pipeline(of)
    assert names(decide(pipeline, given_()), of) == {"hint": ["a", "b", "c"]}
    chat = given_()._replace(question=given_().question._replace(channel="chat"))
    assert names(decide(pipeline, chat), of) == {"hint": ["a", "d"]}
    unread = given_()._replace(known=given_().known._replace(ledger=None))
    assert list(pipeline.weigh(unread, None).rooms) == [], "nothing was counted"
