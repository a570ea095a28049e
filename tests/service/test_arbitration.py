from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY
from service.arbitration import HOLD_OUT, NO_MODEL, PROBABILITY_ONLY, RANDOM, Arbiter, Scores
from service.business import Business
from service.catalogue import Action, Validity
from service.causes import rows_of
from service.declared import (
    ContextWeight,
    Goal,
    IntentMatch,
    Lever,
    Ranking,
    Resource,
    Target,
    When,
)
from service.factors import Factors, Ranked
from service.reasons import Reasons
from service.situation import NOBODY, Situation, holds
from tests.business import ACTIONS, action, business
from tests.chain import NOW

CALM = Situation("phone", {}, {}, NOW)
TODAY = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC).date()
ONE_DAY = datetime.timedelta(days=1)
NAN = math.nan


def ranked(
    actions: Sequence[Action] = ACTIONS,
    acceptance: Sequence[float] | None = None,
    situation: Situation = CALM,
    group: str = NOBODY,
    evidence: Sequence[float] | None = None,
    uplift: Sequence[tuple[float, float, float]] | None = None,
    **declared: Any,
) -> dict[str, Factors]:
    """The numbers of each action, best first."""
    scores = Scores(*(None if one is None else np.array(one) for one in (acceptance, evidence)))
    if uplift is not None:
        scores = scores._replace(uplift=np.array(uplift))
    found = Arbiter(business(actions, **declared)).rank(
        (1 << len(actions)) - 1, scores, situation, group
    )
    return {actions[row].name: found.factors(n) for n, row in enumerate(found.rows)}


def priorities(*args: Any, **given: Any) -> dict[str, float]:
    return {name: one.priority for name, one in ranked(*args, **given).items()}


def texts(
    one: Action, factors: Factors | None = None, situation: Situation = CALM, **declared: Any
) -> list[str]:
    found = business([one], **declared)
    if factors is None:
        factors = Arbiter(found).rank(0b1, Scores(), situation).factors(0)
    return [f"{why.code}: {why.text}" for why in Reasons(found).of(one, factors, situation)]


# Priority


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_actions_are_ranked_by_acceptance_times_value(acceptance: list[float]) -> None:
    found = priorities(acceptance=acceptance)
    wanted = {
        one.name: p * (one.value - one.cost) for one, p in zip(ACTIONS, acceptance, strict=True)
    }
    assert found == wanted
    assert [*found] == sorted(wanted, key=lambda name: (-wanted[name], name))


def test_equals_are_ranked_by_name_whatever_their_order() -> None:
    actions = [action(name) for name in ("tablet", "insurance", "callback")]
    assert [*ranked(actions)] == ["callback", "insurance", "tablet"]


def test_only_what_is_asked_for_is_ranked() -> None:
    arbiter = Arbiter(business())
    scores = Scores(np.array([0.1, 0.2, 0.3, 0.4]))
    found = arbiter.rank(0b1010, scores, CALM)
    assert found.rows.tolist() == [3, 1]
    assert found.acceptance.tolist() == [0.4, 0.2]
    assert found.value.tolist() == [20.0, 10.0]
    assert arbiter.rank(0, scores, CALM).priority.tolist() == []


def test_the_cost_of_presenting_is_taken_off_the_value() -> None:
    (one,) = ranked([action(value=10.0, cost=4.0)], [0.5]).values()
    assert one.value == 6.0
    assert one.priority == 3.0


def test_without_a_model_the_declared_prior_counts() -> None:
    (one,) = ranked([action(prior=0.3)]).values()
    assert (one.acceptance_probability, one.model, one.evidence) == (0.3, None, None)


# Smoothing


@pytest.mark.parametrize(
    ("evidence", "declared", "drawn"),
    [
        (0.0, None, 0.1),
        (50.0, None, 0.3),
        (150.0, None, 0.4),
        (50.0, 0.0, 0.5),
        (0.0, 0.0, 0.1),  # nothing is known of either
        (10.0, 30.0, 0.2),
    ],
)
def test_the_model_is_drawn_to_the_prior_while_there_is_little_evidence(
    evidence: float, declared: float | None, drawn: float
) -> None:
    (one,) = ranked([action(evidence=declared)], [0.5], evidence=[evidence]).values()
    assert one.acceptance_probability == pytest.approx(drawn)
    assert (one.model, one.evidence) == (0.5, evidence)
    assert one.priority == one.acceptance_probability * 10


def test_a_model_that_does_not_tell_its_evidence_is_taken_at_its_word() -> None:
    (one,) = ranked(acceptance=[0.5], actions=[action()]).values()
    assert (one.acceptance_probability, one.model, one.evidence) == (0.5, 0.5, None)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_what_is_drawn_lies_between_prior_and_model(
    prior: float, model: float, evidence: float, worth: float
) -> None:
    (one,) = ranked([action(prior=prior, evidence=worth)], [model], evidence=[evidence]).values()
    low, high = sorted([prior, model])
    assert low - 1e-12 <= one.acceptance_probability <= high + 1e-12


# Goals and capacity


def test_goals_add_up_in_one_currency_by_the_weights_of_the_segment() -> None:
    goals = {
        "value": Goal(worth=1.0, weights={"home": 2.0}),
        "churn": Goal(worth=100.0, unit="customers", weights={"office": 0.5}),
        "nps": Goal(worth=3.0),
    }
    one = action(value=10.0, cost=1.0, goals={"churn": 0.2, "nps": -2.0})

    def value(segment: str) -> float:
        (found,) = ranked(
            [one], situation=CALM._replace(segment=segment), goals=goals, segment_by="segment"
        ).values()
        return found.value

    assert value("") == 10 + 20 - 6 - 1
    assert value("home") == 20 + 20 - 6 - 1
    assert value("office") == 10 + 10 - 6 - 1
    assert value("never heard of") == value("")


def test_value_counts_for_the_first_goal_that_is_written() -> None:
    goals = {"z": Goal(worth=2.0), "a": Goal(worth=100.0)}
    (one,) = ranked([action(value=10.0)], goals=goals).values()
    assert one.value == 20.0


def test_scarce_resources_cost_what_they_cost_now() -> None:
    resources = {"agents": Resource("minute", 1.0), "slots": Resource("slot")}
    uses = {"agents": 3.0, "slots": 1.0}
    situation = CALM._replace(prices={"agents": 2.0, "slots": 0.0})
    (one,) = ranked([action(uses=uses)], [0.5], situation, resources=resources).values()
    assert one.capacity == 6.0
    assert one.value == 4.0
    assert one.priority == 2.0
    (free,) = ranked([action(uses=uses)], [0.5], resources=resources).values()
    assert (free.capacity, free.value) == (0.0, 10.0)


# Context weights and levers


def weight(factor: float, target: Target, **when: Any) -> ContextWeight:
    return ContextWeight(f"w{factor:g}", When(**when), target, factor, f"because of {factor:g}")


def test_weights_multiply_where_their_situation_and_target_are_at_hand() -> None:
    weights = [
        weight(3.0, Target(group="sales"), channel="phone"),
        weight(0.5, Target(action="tablet"), channel="phone"),
        weight(9.0, Target(), channel="web"),
        weight(9.0, Target(issue="retain"), channel="phone"),
    ]
    found = ranked(context_weights=weights)
    assert {name: one.context_weight for name, one in found.items()} == {
        "discount": 3.0, "tablet": 1.5, "callback": 1.0, "insurance": 1.0,
    }  # fmt: skip
    told = texts(ACTIONS[2], context_weights=weights)
    assert "CONTEXT_WEIGHT: because of 3" in told
    assert not any("0.5" in one or "9" in one for one in told), "no reason for it"


def test_a_weight_of_nothing_takes_an_action_to_the_end() -> None:
    found = priorities(context_weights=[weight(0.0, Target(action="tablet"))])
    assert [*found][-1] == "tablet"
    assert found["tablet"] == 0


@pytest.mark.parametrize(
    ("when", "situation", "at_hand"),
    [
        ({}, CALM, True),
        ({"channel": "web"}, CALM, False),
        ({"channel": "phone"}, CALM, True),
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
         CALM._replace(facts={"sentiment_trend": NAN}), False),
        ({"fact": "sentiment_trend", "magnitude": 0.5},
         CALM._replace(facts={"sentiment_trend": NAN}), False),
        ({"channel": "phone", "fact": "channel_hops"}, CALM, False),
    ],
)  # fmt: skip
def test_a_situation_holds_where_all_that_it_says_does(
    when: dict[str, Any], situation: Situation, at_hand: bool
) -> None:
    assert holds(When(**when), situation) is at_hand


def test_levers_multiply_on_their_days() -> None:
    levers = [
        Lever("now", Target(action="tablet"), 2.0, Validity(TODAY, TODAY)),
        Lever("always", Target(issue="grow"), 1.5),
        Lever("past", Target(), 9.0, Validity(until=TODAY - ONE_DAY)),
        Lever("future", Target(), 9.0, Validity(TODAY + ONE_DAY)),
    ]
    found = ranked(levers=levers)
    assert {name: one.lever for name, one in found.items()} == {
        "discount": 1.5, "tablet": 3.0, "callback": 1.0, "insurance": 1.5,
    }  # fmt: skip
    told = texts(ACTIONS[2], levers=levers)
    assert "LEVER: Campaign now" in told
    assert not any("past" in one or "future" in one for one in told)
    later = CALM._replace(now=NOW + 3 * DAY)
    assert ranked(situation=later, levers=levers)["tablet"].lever == 9 * 1.5
    midnight = NOW // DAY * DAY
    for moment, lever in ((-1, 1.0), (0, 2.0), (DAY - 1, 2.0), (DAY, 1.0)):
        at = CALM._replace(now=midnight + moment)
        assert ranked(situation=at, levers=levers[:1])["tablet"].lever == lever


# Intents


@pytest.mark.parametrize(
    ("intents", "factor"),
    [
        ({}, 0.5),
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
    found = ranked([answers, action("tablet")], situation=CALM._replace(intents=intents))
    assert {name: one.context_weight for name, one in found.items()} == pytest.approx(
        {"callback": factor, "tablet": 1.0}
    )


def test_the_match_is_declared_and_told() -> None:
    one = action(intents=["billing", "moving"])
    situation = CALM._replace(intents={"billing": 0.5, "moving": 0.1})
    (found,) = ranked([one], None, situation, intent_match=IntentMatch(1.0, 3.0)).values()
    assert found.context_weight == 2.0
    told = "INTENT_MATCH: They are here about 'A question about the bill' with 50% probability"
    assert told in texts(one, situation=situation, intent_match=IntentMatch(1.0, 3.0))
    assert told not in texts(one, situation=situation, intent_match=IntentMatch(0.0, 1.0))


# Uplift

BY_UPLIFT: dict[str, Any] = {"ranking": {"grow": Ranking("uplift")}}
SURE, UNSURE, NONE = (3.0, 1.0, 5.0), (9.0, -2.0, 20.0), (NAN, NAN, NAN)


def test_an_issue_may_be_ranked_by_what_it_brings_over_doing_nothing() -> None:
    actions = [
        action("discount", issue="grow", cost=0.5),
        action("callback"),
        action("tablet", issue="grow", value=50.0),
        action("insurance", issue="grow", value=20.0),
    ]
    found = ranked(actions, uplift=[SURE, SURE, UNSURE, NONE], **BY_UPLIFT)
    assert {name: one.priority for name, one in found.items()} == {
        "discount": 2.5, "insurance": 2.0, "callback": 1.0, "tablet": -2.0,
    }  # fmt: skip
    assert {name: one.uplift for name, one in found.items()} == {
        "discount": SURE, "insurance": None, "callback": None, "tablet": UNSURE,
    }  # fmt: skip


@given(st.floats(-100, -1e-9), st.floats(0, 1e6), st.floats(0.01, 100), st.floats(0, 10))
def test_what_may_do_harm_ranks_below_nothing_however_good_it_looks(
    low: float, mean: float, lever: float, factor: float
) -> None:
    (one,) = priorities(
        [action(issue="grow")],
        uplift=[(mean, low, mean + 1)],
        levers=[Lever("l", Target(), lever)],
        context_weights=[weight(factor, Target())],
        **BY_UPLIFT,
    ).values()
    assert one <= 0


def test_uplift_takes_off_what_presenting_costs_now() -> None:
    (one,) = ranked(
        [action(issue="grow", cost=0.5, uses={"agents": 2.0})],
        uplift=[SURE],
        situation=CALM._replace(prices={"agents": 0.25}),
        resources={"agents": Resource("minute")},
        levers=[Lever("l", Target(), 2.0)],
        **BY_UPLIFT,
    ).values()
    assert one.priority == (3.0 - 0.5 - 0.5) * 2


def test_a_model_of_uplift_is_not_heard_where_nothing_is_ranked_by_it() -> None:
    (one,) = ranked([action(issue="grow")], uplift=[SURE]).values()
    assert one.priority == 1.0
    assert one.uplift is None


# Control groups


def test_the_group_without_models_is_ranked_by_what_was_declared() -> None:
    scores: dict[str, Any] = {
        "acceptance": [0.9, 0.8, 0.7, 0.6], "evidence": [9.0] * 4, "uplift": [SURE] * 4,
    }  # fmt: skip
    found = ranked(group=NO_MODEL, **scores, **BY_UPLIFT)
    assert found == ranked(**BY_UPLIFT)
    assert found != ranked(**scores, **BY_UPLIFT)
    for group in (RANDOM, HOLD_OUT, NOBODY):
        assert ranked(group=group, **scores, **BY_UPLIFT) == ranked(**scores, **BY_UPLIFT)


def test_the_group_of_probability_alone_ranks_by_it_and_keeps_back_what_is_worth_nothing() -> None:
    weights = [weight(0.0, Target(action="insurance")), weight(5.0, Target(action="tablet"))]
    found = priorities(
        [*ACTIONS[:3], action("insurance", issue="grow", value=20.0)],
        acceptance=[0.2, 0.4, 0.1, 0.9], group=PROBABILITY_ONLY, context_weights=weights,
    )  # fmt: skip
    assert [*found.items()] == [
        ("callback", 0.4), ("discount", 0.2), ("tablet", 0.1), ("insurance", 0.0),
    ]  # fmt: skip


# All of it, against a slow reference


class Case(NamedTuple):
    one: Business
    scores: Scores
    situation: Situation
    group: str
    rows: list[int]


UNIT = st.floats(0, 1)
FACTOR = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0])
SPOTS = st.sampled_from([Target(), Target(issue="grow"), Target(group="sales"),
                         Target("tablet"), Target(issue="service", group="care")])  # fmt: skip
WHENS = st.builds(
    When,
    st.sampled_from([None, "billing", "moving"]),
    st.sampled_from([0.0, 0.3, 0.6]),
    st.sampled_from([None, "repeat_contact", "sentiment_trend"]),
    st.sampled_from([-0.5, 0.0, 1.0, 2.0]),
    st.sampled_from([None, "phone", "web"]),
)
VALIDS = st.sampled_from(
    [Validity(), Validity(TODAY), Validity(TODAY + ONE_DAY), Validity(until=TODAY),
     Validity(until=TODAY - ONE_DAY), Validity(TODAY, TODAY)]
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = draw(st.permutations(["discount", "callback", "tablet", "insurance"]))
    actions = [
        action(
            name,
            issue=draw(st.sampled_from(["grow", "service"])),
            group=draw(st.sampled_from(["care", "sales"])),
            value=draw(st.sampled_from([0.0, 1.0, 10.0])),
            cost=draw(st.sampled_from([0.0, 0.5])),
            prior=draw(st.sampled_from([0.0, 0.1, 0.5])),
            evidence=draw(st.sampled_from([None, 0.0, 10.0])),
            goals=draw(st.dictionaries(st.sampled_from(["churn", "nps"]), st.floats(-9, 9))),
            uses=draw(st.dictionaries(st.sampled_from(["agents", "slots"]), st.floats(0, 9))),
            intents=draw(st.lists(st.sampled_from(["billing", "moving", "leaving"]), unique=True)),
        )
        for name in names[: draw(st.integers(1, 4))]
    ]
    weights = st.dictionaries(st.sampled_from(["home", "office"]), FACTOR)
    one = business(
        actions,
        goals={"value": Goal(draw(FACTOR), weights=draw(weights)),
               "churn": Goal(draw(FACTOR), weights=draw(weights)), "nps": Goal(2.0)},
        segment_by=draw(st.sampled_from([None, "segment"])),
        resources={"agents": Resource("minute"), "slots": Resource("slot", 3.0)},
        ranking=draw(st.sampled_from([{}, {"grow": Ranking("uplift")}, {"grow": Ranking()}])),
        intent_match=draw(st.sampled_from([IntentMatch(), IntentMatch(1.0, 3.0)])),
        evidence=draw(st.sampled_from([0.0, 50.0])),
        context_weights=[ContextWeight(f"w{n}", draw(WHENS), draw(SPOTS), draw(FACTOR), "r")
                         for n in range(draw(st.integers(0, 3)))],
        levers=[Lever(f"l{n}", draw(SPOTS), draw(st.sampled_from([0.5, 2.0])), draw(VALIDS))
                for n in range(draw(st.integers(0, 3)))],
    )  # fmt: skip
    n = len(actions)

    def some(each: st.SearchStrategy[Any]) -> Any:
        return np.array(draw(st.lists(each, min_size=n, max_size=n)))

    intervals = st.sampled_from([SURE, UNSURE, NONE, (0.1, 0.0, 0.2), (-1.0, -2.0, 0.0)])
    scores = Scores(
        draw(st.sampled_from([None, some(UNIT)])),
        draw(st.sampled_from([None, some(st.sampled_from([0.0, 5.0, 1e4]))])),
        draw(st.sampled_from([None, some(intervals)])),
    )
    situation = Situation(
        draw(st.sampled_from(["phone", "web"])),
        draw(st.dictionaries(st.sampled_from(["billing", "moving", "leaving"]), UNIT)),
        draw(st.dictionaries(st.sampled_from(["repeat_contact", "sentiment_trend"]),
                             st.sampled_from([-1.0, 0.0, 1.0, 2.0, NAN]))),
        NOW + draw(st.integers(-DAY, DAY)),
        draw(st.sampled_from(["", "home", "office", "x"])),
        draw(st.dictionaries(st.sampled_from(["agents", "slots"]), st.floats(0, 5))),
    )  # fmt: skip
    rows = draw(st.lists(st.integers(0, n - 1), unique=True))
    group = draw(st.sampled_from([NOBODY, RANDOM, PROBABILITY_ONLY, NO_MODEL, HOLD_OUT]))
    return Case(one, scores, situation, group, rows)


def slowly(case: Case, row: int) -> Factors:
    """The numbers of one action, from the words of the declarations."""
    one, policies, at = case.one.actions[row], case.one.policies, case.situation
    scores = Scores() if case.group == NO_MODEL else case.scores
    model = evidence = None
    acceptance = one.prior
    if scores.acceptance is not None:
        acceptance = model = float(scores.acceptance[row])
        if scores.evidence is not None:
            evidence = float(scores.evidence[row])
            k = policies.evidence if one.evidence is None else one.evidence
            acceptance = one.prior
            if k + evidence > 0:
                acceptance = (k * one.prior + evidence * model) / (k + evidence)
    capacity = sum(units * at.prices.get(name, 0.0) for name, units in one.uses.items())
    segment = at.segment if policies.segment_by else ""
    value = -one.cost - capacity
    for n, (name, goal) in enumerate(policies.goals.items()):
        units = one.goals.get(name, 0.0) + (one.value if n == 0 else 0.0)
        value += units * goal.worth * goal.weights.get(segment, 1.0)
    factor = 1.0
    if one.intents and at.intents:
        chance = max(at.intents.get(name, 0.0) for name in one.intents)
        match = policies.intent_match
        factor = match.floor * (1 - chance) + match.ceiling * chance
    elif one.intents:
        factor = policies.intent_match.floor
    for each in policies.context_weights:
        factor *= each.weight if each.target.covers(one) and at_hand(each.when, at) else 1.0
    day = datetime.datetime.fromtimestamp(at.now / 1000, datetime.UTC).date()
    lever = 1.0
    for each_lever in policies.levers:
        days = each_lever.valid
        begun = days.start is None or days.start <= day
        if each_lever.target.covers(one) and begun and (days.until is None or day <= days.until):
            lever *= each_lever.factor
    priority = acceptance * value * factor * lever
    uplift = None
    ranking = policies.ranking.get(one.issue)
    if ranking and ranking.by == "uplift" and scores.uplift is not None:
        mean, low, high = scores.uplift[row].tolist()
        if not math.isnan(mean):
            uplift = (mean, low, high)
            priority = (low if low < 0 else mean - one.cost - capacity) * factor * lever
    if case.group == PROBABILITY_ONLY and priority > 0:
        priority = acceptance
    return Factors(
        acceptance, value, factor, lever, priority, model, evidence, capacity, uplift
    )  # fmt: skip


def at_hand(when: When, at: Situation) -> bool:
    channel = when.channel in (None, at.channel)
    intent = when.intent is None or at.intents.get(when.intent, 0.0) >= when.at_least
    if when.fact is None:
        return channel and intent
    magnitude = at.facts.get(when.fact)
    if magnitude is None or math.isnan(magnitude):
        return False
    sign = -1 if when.magnitude < 0 else 1
    return channel and intent and sign * magnitude >= sign * when.magnitude


@settings(max_examples=200)
@given(cases())
def test_all_at_once_each_action_gets_the_numbers_that_it_gets_alone(case: Case) -> None:
    found: Ranked = Arbiter(case.one).rank(
        rows_of(case.rows), case.scores, case.situation, case.group
    )
    assert sorted(found.rows.tolist()) == sorted(case.rows)
    for place, row in enumerate(found.rows.tolist()):
        fast, slow = found.factors(place), slowly(case, row)
        assert (fast.uplift is None) is (slow.uplift is None)
        if case.group == PROBABILITY_ONLY and (fast.priority > 0) != (slow.priority > 0):
            # Sums in another order: of about nothing, one may be above it and the other not.
            assert min(abs(fast.value), abs(slow.value)) < 1e-9
            product = fast.acceptance_probability * fast.value * fast.context_weight * fast.lever
            own = fast.acceptance_probability if product > 0 else product
            slow = slow._replace(priority=own)
        for one, other in zip(fast[:8], slow[:8], strict=True):
            assert other is None if one is None else one == pytest.approx(other, abs=1e-9)
        if slow.uplift is not None:
            assert fast.uplift == slow.uplift
        elif case.group != PROBABILITY_ONLY:
            product = fast.acceptance_probability * fast.value * fast.context_weight * fast.lever
            assert fast.priority == product
    names = [case.one.actions[row].name for row in found.rows]
    order = [(-p, name) for p, name in zip(found.priority.tolist(), names, strict=True)]
    assert order == sorted(order)
