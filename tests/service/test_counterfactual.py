from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.declared import (
    ContextWeight,
    ControlGroups,
    Limit,
    Ranking,
    Resource,
    Target,
    When,
)
from service.inputs import Inputs
from service.models import Models
from service.slates import Answer
from tests.service.test_explain import explained, held_back, held_out, not_drawn, told
from tests.service.test_pipeline import businesses, decide, given_, names, scoring, shop, thing


def applied(of: Business, name: str, change: pb.Change, less: float = 1.0) -> Business:
    """The business in which a factor of an action is what a change says, or a bit less."""
    actions = []
    for one in of.actions:
        if one.name != name:
            actions.append(one)
        else:
            (factor,) = change.factors
            to = change.to * less
            if factor == "acceptance_probability":
                assert one.prior == pytest.approx(getattr(change, "from"))
                actions.append(msgspec.structs.replace(one, prior=to))
            elif factor == "value":
                assert one.value - one.cost == pytest.approx(getattr(change, "from"))
                actions.append(msgspec.structs.replace(one, value=to + one.cost))
            else:
                pytest.fail(f"{factor} is not what is least here")
    return msgspec.structs.replace(of, actions=actions)


@st.composite
def rivals(draw: st.DrawFn) -> tuple[Business, Inputs]:
    of = draw(businesses())
    actions = [
        msgspec.structs.replace(
            one,
            prior=draw(st.sampled_from([0.05, 0.3, 0.9])),
            cost=draw(st.sampled_from([0.0, 0.0, 1.0])),
            value=draw(st.sampled_from([2.0, 5.0, 5.0, 20.0])),
        )
        for one in of.actions
    ]
    control = msgspec.convert(
        draw(st.sampled_from([{}, {}, {"hold_out": 1.0}])), ControlGroups
    )  # fmt: skip
    policies = msgspec.structs.replace(of.policies, control=control)
    of = msgspec.structs.replace(of, actions=actions, policies=policies)
    return of, given_("hint", seed=draw(st.integers(0, 99)), greedy=draw(st.booleans()))


def greedily(of: Business, inputs: Inputs) -> list[str]:
    """The answer without chance and control groups, but for the one that ranks in another way."""
    if of.policies.control.probability_only:
        return names(decide(of, inputs._replace(greedy=True)), of)["hint"]
    policies = msgspec.structs.replace(of.policies, control=ControlGroups())
    plain = msgspec.structs.replace(of, policies=policies)
    return names(decide(plain, inputs._replace(greedy=True)), of)["hint"]


@settings(max_examples=150)
@given(rivals())
def test_the_change_brings_it_into_the_greedy_answer_and_a_bit_less_does_not(
    rivals: tuple[Business, Inputs],
) -> None:
    of, inputs = rivals
    before = greedily(of, inputs)
    for one in explained(decide(of, inputs), of):
        if not one.rank or not one.reason.code:
            continue
        if one.change.HasField("to"):
            assert one.action not in before
            assert one.change.to > getattr(one.change, "from")
            assert one.action in greedily(applied(of, one.action, one.change), inputs)
            assert one.action not in greedily(applied(of, one.action, one.change, 0.999), inputs)
            told_to = f"{one.change.to:.4g}"
            assert f" {told_to} instead of" in one.change.text or (
                f"a hair above {told_to}" in one.change.text
            )
        elif one.action in before:
            assert one.change.text.startswith("Nothing: without chance")
        else:
            assert one.change.text.startswith("No priority is enough")
            best = msgspec.structs.replace(of.by_name[one.action], prior=1.0, value=1e9)
            actions = [best if a.name == best.name else a for a in of.actions]
            raised = msgspec.structs.replace(of, actions=actions)
            assert one.action not in greedily(raised, inputs)


def test_one_of_equals_that_lost_by_its_name_needs_a_hair_more() -> None:
    of = shop([thing("a", 5.0), thing("b", 5.0)], {"max_actions": 1})
    one = told(decide(of, given_()), of, "b")
    assert one.change.factors == ["acceptance_probability"]
    assert 0.5 < one.change.to < 0.500001


def test_what_stands_at_nothing_has_to_be_lifted_first() -> None:
    never = ContextWeight("never", When(channel="phone"), Target(action="a"), 0.0, "Not now")
    rival = thing("c", 5.0)
    of = shop([thing("a", 10.0), rival], {"max_actions": 1}, context_weights=[never])
    one = told(decide(of, given_()), of)
    assert (one.reason.code, list(one.change.factors)) == ("NO_PRIORITY", ["context_weight"])
    for weight, wins in ((one.change.to, True), (one.change.to * 0.999, False)):
        some = [msgspec.structs.replace(never, weight=weight)]
        again = shop([thing("a", 10.0), rival], {"max_actions": 1}, context_weights=some)
        assert (names(decide(again, given_()), again) == {"hint": ["a"]}) is wins
    worthless = thing("a", 0.0)
    of = shop([worthless, rival], {"max_actions": 1}, context_weights=[never])
    one = told(decide(of, given_()), of)
    assert not one.change.factors
    assert one.change.text.startswith("No one factor is enough")
    of = shop([worthless, rival], {"max_actions": 1})
    one = told(decide(of, given_()), of)
    assert list(one.change.factors) == ["value"]
    assert "a" in names(decide(applied(of, "a", one.change), given_()), of)["hint"]
    assert "a" not in names(decide(applied(of, "a", one.change, 0.999), given_()), of)["hint"]


def test_a_probability_cannot_be_more_than_one_so_its_value_has_to_grow() -> None:
    of = shop([thing("a", 1.0), thing("c", 9.0)], {"max_actions": 1})
    one = told(decide(of, given_()), of)
    assert list(one.change.factors) == ["value"]
    assert one.change.to == pytest.approx(18.0)


def test_what_ranks_by_uplift_needs_more_of_it() -> None:
    def of() -> Business:
        return shop(
            [thing("a", cost=1.0, uses={"agents": 1.0}), thing("c", cost=0.5)],
            {"max_actions": 1}, ranking={"service": Ranking("uplift")},
            resources={"agents": Resource("minutes")},
        )  # fmt: skip

    inputs = given_(prices={"agents": 0.25})

    def shown(*lift: float) -> tuple[Answer, Models]:
        models = scoring(of(), lambda row: 0.5, {"a": (lift[0], lift[1], lift[0]), "c": (3, 2, 4)})
        return decide(of(), inputs, models=models), models

    for low in (1.0, -1.0):
        answer, _ = shown(2.0, low)
        one = told(answer, of())
        assert list(one.change.factors) == ["uplift"]
        assert getattr(one.change, "from") == 2.0
        assert one.change.to == pytest.approx(2.5 + 1.25, rel=1e-6)
        assert ("harm" in one.change.text) is (low < 0)
        again, _ = shown(one.change.to, one.change.to)
        assert names(again, of()) == {"hint": ["a"]}
        again, _ = shown(one.change.to * 0.999, one.change.to)
        assert names(again, of()) == {"hint": ["c"]}


def test_of_who_is_ranked_by_probability_alone_the_probability_has_to_change() -> None:
    of = shop(
        [thing("a", 50.0), thing("c", 1.0)], {"max_actions": 1},
        control=ControlGroups(probability_only=1.0),
    )  # fmt: skip

    def answered(of_a: float) -> Answer:
        return decide(of, given_(), models=scoring(of, lambda row: (of_a, 0.4)[row]))

    one = told(answered(0.2), of)
    assert list(one.change.factors) == ["acceptance_probability"]
    assert one.change.to == pytest.approx(0.4, rel=1e-6)
    assert names(answered(one.change.to), of) == {"hint": ["a"]}
    assert names(answered(one.change.to * 0.999), of) == {"hint": ["c"]}


def test_what_another_placement_shows_needs_no_change_and_counts_as_taken() -> None:
    of = shop([thing("a", 9.0), thing("c", 5.0), thing("d", 1.0)], {"max_actions": 1},
              {"max_actions": 1})  # fmt: skip
    answer = decide(of, given_("banner", "hint"))
    assert names(answer, of) == {"banner": ["a"], "hint": ["c"]}
    one = told(answer, of)
    assert not one.change.factors
    assert "another placement" in one.change.text
    rival = told(answer, of, "d")
    assert rival.change.to == pytest.approx(10.0), "it need not beat what is taken"


def test_what_was_drawn_elsewhere_and_had_no_fallback_counts_as_taken_too() -> None:
    of = shop([thing("a", 9.0), thing("c", 5.0), thing("d", 1.0)], {"max_actions": 1},
              {"max_actions": 1}, limits=[Limit("limit-l", 1, "7d", action="a")])  # fmt: skip
    answer = decide(of, given_("banner", "hint"), ["a"])
    assert names(answer, of) == {"banner": [], "hint": ["c"]}
    assert told(answer, of, "a", "banner").reason.code == "RESERVATION_FAILED"
    assert told(answer, of, "a", "hint").reason.code == "SHOWN_ELSEWHERE"
    assert told(answer, of, "d").change.to == pytest.approx(10.0)


def test_chance_alone_kept_it_out_and_nothing_has_to_change() -> None:
    for scene in (not_drawn(), held_back(), held_out()):
        one = told(decide(scene.of, scene.inputs), scene.of)
        assert not one.change.factors
        assert one.change.text.startswith("Nothing: without chance and control groups")
