from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY
from service.arbitration import Factors, Ranked, Situation, fill, holds, rank
from service.catalogue import Action, Placement, Validity
from service.declared import ContextWeight, IntentMatch, Lever, Policies, Target, When
from service.policies import Offer
from tests.business import ACTIONS, action
from tests.chain import NOW, VOCABULARY

CALM = Situation("phone", {}, {}, NOW)
TODAY = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC).date()


def offers(*actions: Action) -> list[Offer]:
    return [Offer(one, one.treatments[0]) for one in actions]


def ranked(
    actions: Any = ACTIONS,
    acceptance: Any = (0.5, 0.5, 0.5, 0.5),
    situation: Situation = CALM,
    **declared: Any,
) -> list[Ranked]:
    return rank(offers(*actions), acceptance, situation, Policies(**declared), VOCABULARY)


def names(found: list[Ranked]) -> list[str]:
    return [one.offer.action.name for one in found]


def texts(found: Ranked) -> list[str]:
    return [f"{reason.code}: {reason.text}" for reason in found.reasons]


@given(*[st.floats(0, 1), st.floats(0, 1e9), st.floats(0, 100), st.floats(0.01, 100)])
def test_priority_is_the_product(a: float, b: float, c: float, d: float) -> None:
    assert Factors(a, b, c, d).priority == a * b * c * d


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_actions_are_ranked_by_acceptance_times_value(acceptance: list[float]) -> None:
    found = ranked(acceptance=acceptance)
    wanted = {
        one.name: p * (one.value - one.cost) for one, p in zip(ACTIONS, acceptance, strict=True)
    }
    assert {one.offer.action.name: one.factors.priority for one in found} == wanted
    assert names(found) == sorted(wanted, key=lambda name: (-wanted[name], name))


def test_equals_are_ranked_by_name_whatever_their_order() -> None:
    actions = [action(name) for name in ("b", "c", "a")]
    assert names(ranked(actions, (0.5, 0.5, 0.5))) == ["a", "b", "c"]


def test_the_cost_of_presenting_is_taken_off_the_value() -> None:
    (one,) = ranked([action(value=10.0, cost=4.0)], (0.5,))
    assert one.factors.priority == 3.0


# Context weights and levers


def weight(factor: float, target: Target, **when: Any) -> ContextWeight:
    return ContextWeight("w", When(**when), target, factor, f"because of {factor:g}")


def test_weights_multiply_where_their_situation_and_target_are_at_hand() -> None:
    weights = [
        weight(3.0, Target(group="sales"), channel="phone"),
        weight(0.5, Target(action="tablet"), channel="phone"),
        weight(9.0, Target(), channel="web"),
        weight(9.0, Target(issue="retain"), channel="phone"),
    ]
    found = {one.offer.action.name: one for one in ranked(context_weights=weights)}
    assert {name: one.factors.context_weight for name, one in found.items()} == {
        "discount": 3.0, "tablet": 1.5, "callback": 1.0, "insurance": 1.0,
    }  # fmt: skip
    assert "CONTEXT_WEIGHT: because of 3" in texts(found["tablet"])
    assert "CONTEXT_WEIGHT: because of 0.5" not in texts(found["tablet"]), "no reason for it"


def test_a_weight_of_nothing_takes_an_action_to_the_end() -> None:
    found = ranked(context_weights=[weight(0.0, Target(action="tablet"))])
    assert names(found)[-1] == "tablet"
    assert found[-1].factors.priority == 0


@pytest.mark.parametrize(
    ("when", "situation", "at_hand"),
    [
        ({}, CALM, True),
        ({"channel": "web"}, CALM, False),
        ({"intent": "billing"}, CALM, False),
        ({"intent": "billing", "at_least": 0.4}, CALM._replace(intents={"billing": 0.4}), True),
        ({"intent": "billing", "at_least": 0.4}, CALM._replace(intents={"billing": 0.39}), False),
        ({"fact": "channel_hops"}, CALM, False),
        ({"fact": "channel_hops"}, CALM._replace(facts={"channel_hops": 1.0}), True),
        ({"fact": "channel_hops", "magnitude": 2}, CALM._replace(facts={"channel_hops": 1}), False),
        ({"fact": "sentiment_trend", "magnitude": -0.5},
         CALM._replace(facts={"sentiment_trend": -0.6}), True),
        ({"fact": "sentiment_trend", "magnitude": -0.5},
         CALM._replace(facts={"sentiment_trend": -0.4}), False),
        ({"fact": "sentiment_trend", "magnitude": -0.5},
         CALM._replace(facts={"sentiment_trend": math.nan}), False),
        ({"fact": "sentiment_trend", "magnitude": 0.5},
         CALM._replace(facts={"sentiment_trend": math.nan}), False),
        ({"channel": "phone", "fact": "channel_hops"}, CALM, False),
    ],
)  # fmt: skip
def test_a_situation_holds_where_all_that_it_says_does(
    when: dict[str, Any], situation: Situation, at_hand: bool
) -> None:
    assert holds(When(**when), situation) is at_hand


def test_levers_multiply_on_their_days() -> None:
    day = datetime.timedelta(days=1)
    levers = [
        Lever("now", Target(action="tablet"), 2.0, Validity(TODAY, TODAY)),
        Lever("always", Target(issue="grow"), 1.5),
        Lever("past", Target(), 9.0, Validity(until=TODAY - day)),
        Lever("future", Target(), 9.0, Validity(TODAY + day)),
    ]
    found = {one.offer.action.name: one for one in ranked(levers=levers)}
    assert {name: one.factors.lever for name, one in found.items()} == {
        "discount": 1.5, "tablet": 3.0, "callback": 1.0, "insurance": 1.5,
    }  # fmt: skip
    assert "LEVER: Campaign now" in texts(found["tablet"])
    later = CALM._replace(now=NOW + 3 * DAY)
    assert ranked(situation=later, levers=levers)[0].factors.lever == 9 * 1.5


# Intents


@pytest.mark.parametrize(
    ("intents", "factor"),
    [
        ({}, 1.0),
        ({"moving": 1.0}, 0.5),
        ({"billing": 0.0}, 0.5),
        ({"billing": 1.0}, 5.0),
        ({"billing": 0.5}, 2.75),
        ({"billing": 0.2, "leaving": 0.6}, 0.5 + 4.5 * 0.6),
    ],
)
def test_an_action_weighs_as_much_as_the_likeliest_intent_that_it_answers(
    intents: dict[str, float], factor: float
) -> None:
    answers = action("callback", intents=["billing", "leaving"])
    neutral = action("tablet")
    found = {
        one.offer.action.name: one.factors.context_weight
        for one in ranked([answers, neutral], (0.5, 0.5), CALM._replace(intents=intents))
    }
    assert found == pytest.approx({"callback": factor, "tablet": 1.0})


def test_the_match_is_declared_and_told() -> None:
    (one,) = ranked(
        [action(intents=["billing"])],
        (0.5,),
        CALM._replace(intents={"billing": 0.5}),
        intent_match=IntentMatch(1.0, 3.0),
    )
    assert one.factors.context_weight == 2.0
    assert texts(one)[0].startswith("LIKELY_ACCEPTED"), "five times as likely as its prior"
    assert (
        "INTENT_MATCH: They are here about 'A question about the bill' with 50% probability"
        in texts(one)
    )


def test_an_intent_that_has_no_title_is_told_by_its_name() -> None:
    (one,) = ranked([action(intents=["sent"])], (0.1,), CALM._replace(intents={"sent": 0.9}))
    assert "INTENT_MATCH: They are here about 'sent' with 90% probability" in texts(one)


def test_reasons_come_strongest_first() -> None:
    weights = [weight(2.0, Target()), weight(4.0, Target()), weight(3.0, Target())]
    (one,) = ranked([action(prior=0.5)], (0.5,), context_weights=weights)
    assert texts(one) == [
        "CONTEXT_WEIGHT: because of 4",
        "CONTEXT_WEIGHT: because of 3",
        "CONTEXT_WEIGHT: because of 2",
        "VALUE: Worth 10.00 when accepted",
    ]


# Slates

placements = st.builds(
    Placement, st.just(["phone"]), per_group=st.integers(1, 4), max_actions=st.integers(1, 6)
)


@given(
    st.lists(st.sampled_from(["care", "sales", "other"]), max_size=14),
    placements,
    st.integers(0, 8),
    st.sets(st.integers(0, 14)),
)
def test_a_slate_is_the_best_that_fits_no_action_twice_no_group_too_often(
    groups: list[str], placement: Placement, most: int, shown: set[int]
) -> None:
    actions = [action(f"a{n:02}", group=group) for n, group in enumerate(groups)]
    order = [Ranked(offer, Factors(1, 1, 1, 1), ()) for offer in offers(*actions)]
    taken = {f"a{n:02}" for n in shown}
    before = set(taken)
    chosen = fill(order, placement, most, taken)
    assert len(chosen) <= most
    assert names(chosen) == sorted(set(names(chosen))), "in the order of their rank"
    assert not set(names(chosen)) & before
    assert taken == before | set(names(chosen))
    for group in set(groups):
        of_group = [one for one in chosen if one.offer.action.group == group]
        assert len(of_group) <= placement.per_group
    if len(chosen) < most:
        for one in order:
            found = one.offer.action
            full = sum(c.offer.action.group == found.group for c in chosen) >= placement.per_group
            assert found.name in taken or full, "nothing that fits was left out"


def test_two_placements_of_an_answer_never_show_the_same_action() -> None:
    order, taken = ranked(), set[str]()
    first = fill(order, Placement(["phone"]), 2, taken)
    second = fill(order, Placement(["web"]), 4, taken)
    assert sorted(names(first) + names(second)) == sorted(one.name for one in ACTIONS)
