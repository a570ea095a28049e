from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.vocabulary import Attribute
from service.business import Business, complete, load
from service.catalogue import ASSURANCE, Action, Price
from service.conditions import Conditions
from service.declared import StageRule, StageRules, Target
from service.policies import Policies
from service.rules import Unknown, fuse
from service.rules import Value as RuleValue
from service.variables import environment, of_action
from tests.business import ACTIONS, action, business, rule

NOTHING: dict[str, dict[str, RuleValue]] = {
    "customer": {}, "context": {}, "journey": {}, "intent": {},
}  # fmt: skip


def of_all(when: str, actions: Any = ACTIONS) -> Policies:
    """Policies with one rule over everything."""
    staged = StageRules(suitability=[StageRule(rule(when))])
    return Policies(business(actions, rules=staged))


def test_without_conditions_there_is_nothing_to_evaluate() -> None:
    conditions = Conditions(business())
    assert len(conditions) == 0
    assert conditions.evaluate(NOTHING) == ()
    assert conditions.prices == [[], [], [], []]


def test_a_rule_that_does_not_read_its_action_is_evaluated_once() -> None:
    assert len(of_all("customer.age > 18.0").conditions) == 1


def test_a_rule_over_a_group_becomes_the_few_in_which_its_actions_differ() -> None:
    assert len(of_all("action.issue == 'grow' || customer.member").conditions) == 2
    assert len(of_all("customer.balance > action.value").conditions) == 3, "10, 20 and 50"


def test_equal_conditions_are_evaluated_once_however_they_are_written() -> None:
    one = action(
        eligibility=[rule("customer.age > 18.0")],
        applicability=[rule("customer.age>18.0")],
        suitability=[rule("(customer.age > 18.0)"), rule("customer.age > 18.5")],
        prices=[Price(1.0, when="customer.age > 18.0"), Price(2.0)],
    )
    other = action("tablet", eligibility=[rule("customer.age > 18.0")])
    conditions = Policies(business([one, other])).conditions
    assert len(conditions) == 2
    assert conditions.evaluate({**NOTHING, "customer": {"age": 18.2}}).count(True) == 1


def test_a_number_and_a_count_are_not_equal() -> None:
    one = action(
        eligibility=[rule("customer.age > 1.0")], suitability=[rule("journey.channel_hops > 1")]
    )
    assert len(Policies(business([one])).conditions) == 2


def test_each_place_holds_the_result_of_what_was_put_there() -> None:
    found = business([action(eligibility=[rule("customer.member"), rule("customer.age > 1.0")])])
    conditions = Conditions(found)
    second, first = (
        conditions.place("customer.age > 1.0", 0),
        conditions.place("customer.member", 0),
    )
    assert conditions.place("customer.age > 1.0", 0) == second
    results = conditions.evaluate({**NOTHING, "customer": {"member": False, "age": 2.0}})
    assert results[first] is False
    assert results[second] is True
    (unknown, _) = (results := conditions.evaluate(NOTHING))[first], results[second]
    assert unknown == Unknown("customer.member is not known")


def test_prices_point_to_their_conditions() -> None:
    prices = [Price(1.0, when="customer.member"), Price(2.0)]
    conditions = Conditions(business([action("tablet"), action(prices=prices)]))
    assert conditions.prices == [[], [(0, prices[0]), (None, prices[1])]]


TEXTS = [
    "action.value < 20.0",
    "customer.balance > action.value - action.cost",
    "action.group == 'sales' || customer.member",
    "has(action.purpose) && customer.age > 18.0",
    "action.purpose == 'marketing'",
    "'billing' in action.intents || intent.probability > 0.5",
    "action.issue + action.group == 'growsales'",
    "size(action.intents) > 1 && action.name != context.channel",
    "!action.queue_priority && action.prior * 100.0 >= customer.age",
]
VALUES: Any = st.fixed_dictionaries(
    {
        "customer": st.fixed_dictionaries(
            {},
            optional={
                "age": st.sampled_from([10.0, 18.0, 50.0]),
                "balance": st.sampled_from([9.0, 10.0, 100.0]),
                "member": st.booleans(),
            },
        ),
        "context": st.fixed_dictionaries({}, optional={"channel": st.just("phone")}),
        "journey": st.just({}),
        "intent": st.fixed_dictionaries({}, optional={"probability": st.sampled_from([0.4, 0.6])}),
    }
)
SOME: Any = st.lists(
    st.builds(
        lambda name, issue, group, value, purpose, intents, first: action(
            name, issue=issue, group=group, value=value, purpose=purpose, intents=intents,
            queue_priority=first, prior=value / 100,
        ),
        st.sampled_from(["discount", "callback", "tablet", "insurance"]),
        st.sampled_from(["grow", "service"]),
        st.sampled_from(["care", "sales"]),
        st.sampled_from([10.0, 20.0, 30.0]),
        st.sampled_from([None, "marketing"]),
        st.lists(st.sampled_from(["billing", "moving"]), unique=True),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.name,
)  # fmt: skip


@given(SOME, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4, unique=True), VALUES)
def test_a_rule_over_many_actions_says_of_each_what_it_says_of_it_alone(
    actions: list[Action], texts: list[str], values: Any
) -> None:
    staged = [StageRule(rule(text), Target()) for text in texts]
    found = business(actions, rules=StageRules(suitability=staged))
    conditions = Conditions(found)
    places = {
        (text, row): conditions.place(text, row) for text in texts for row in range(len(actions))
    }
    results = conditions.evaluate(values)
    assert len(results) == len(conditions) <= len(places)
    for (text, row), place in places.items():
        alone = fuse([found.checked[text]], environment(found.vocabulary))
        (wanted,) = alone({**values, "action": of_action(actions[row])})
        assert results[place] == wanted


def test_conditions_are_compiled_when_the_configuration_loads_and_not_while_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = of_all("customer.member")
    monkeypatch.setattr("service.conditions.Program", None)
    assert policies.conditions.evaluate({**NOTHING, "customer": {"member": True}}) == [True]


def test_what_is_placed_later_is_compiled_too() -> None:
    found = business([action(eligibility=[rule("customer.member"), rule("customer.age > 1.0")])])
    conditions = Conditions(found)
    for number, text in enumerate(["customer.member", "customer.age > 1.0"], start=1):
        conditions.place(text, 0)
        assert len(conditions.evaluate(NOTHING)) == number


@pytest.mark.parametrize("times", [1, 2])
def test_evaluating_again_answers_anew(times: int) -> None:
    policies = of_all("customer.member")
    for member in [True, False] * times:
        results = policies.conditions.evaluate({**NOTHING, "customer": {"member": member}})
        assert list(results) == [member]


ROOT = Path(__file__).parents[2]
MEMBERS = [
    Price(5.0, "Members over 60", "customer.member && customer.age > 60.0"),
    Price(7.0, "Members", "customer.member"),
    Price(9.0),
]
PRICED = business([action(prices=MEMBERS), action("callback")], public_attributes=["member", "age"])


@pytest.mark.parametrize(
    ("customer", "amount"),
    [
        ({"member": True, "age": 61.0}, 5.0),
        ({"member": True, "age": 60.0}, 7.0),
        ({"member": True}, 7.0),  # the first one cannot be evaluated, so it is not met
        ({"member": False, "age": 70.0}, 9.0),
        ({}, 9.0),
    ],
)
def test_the_first_price_whose_condition_is_met_counts(
    customer: dict[str, RuleValue], amount: float
) -> None:
    policies = Policies(PRICED)
    results = policies.conditions.evaluate({**NOTHING, "customer": customer})
    price = policies.conditions.price(0, results)
    assert price is not None
    assert price.amount == amount
    assert policies.conditions.price(1, results) is None, "it has no price"


def valued(declared: Mapping[str, Attribute]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        name: st.booleans()
        if one.kind == "flag"
        else st.sampled_from([*one.values])
        if one.values
        else st.floats(-1e6, 1e6)
        for name, one in declared.items()
    }


@cache
def _priced() -> Mapping[str, tuple[Business, Policies]]:
    """The sample business, with prices where it has none, and a small one."""
    sample = load(ROOT / "config")
    public = dict.fromkeys([*sample.policies.public_attributes, "value_tier", "age"])
    own_prices = [
        Price(2.0, "Premium", "customer.value_tier == 'premium'"),
        Price(3.0, "Older", "customer.age > 50.0 && has(customer.value_tier)"),
        Price(4.0),
    ]
    sample = complete(
        msgspec.structs.replace(
            sample,
            actions=[
                one if one.prices else msgspec.structs.replace(one, prices=own_prices)
                for one in sample.actions
            ],
            policies=msgspec.structs.replace(sample.policies, public_attributes=[*public]),
        )
    )
    return {one: (found, Policies(found)) for one, found in (("sample", sample), ("small", PRICED))}


@pytest.mark.parametrize("name", ["sample", "small"])
@settings(max_examples=60)
@given(st.data())
def test_customers_who_agree_in_public_pay_the_same_whatever_else_differs(
    name: str, data: st.DataObject
) -> None:
    one, policies = _priced()[name]
    words, public = one.vocabulary, one.policies.public_attributes
    attributes = valued(words.attributes)
    shared = data.draw(
        st.fixed_dictionaries({}, optional={each: attributes.pop(each) for each in public})
    )

    def somebody() -> list[float | None]:
        contact = {
            "channel": st.sampled_from([*words.channels]),
            "direction": st.sampled_from(["inbound", "outbound"]),
            "assurance": st.sampled_from([*ASSURANCE]),
            "agent_id": st.text(max_size=3), "skill": st.text(max_size=3),
            "queue": st.text(max_size=3), "locale": st.sampled_from(["nl-NL", "en-GB"]),
            "hour_of_day": st.integers(0, 23), "day_of_week": st.integers(1, 7),
        }  # fmt: skip
        journey = {
            "failed_self_service": st.integers(0, 5), "repeat_contact": st.integers(0, 5),
            "channel_hops": st.integers(0, 5), "unresolved_contacts": st.integers(0, 5),
            "unanswered_question": st.integers(0, 5), "sentiment_trend": st.floats(-1, 1),
            "relationship": st.sampled_from(["friend", "enemy", "love_hate", "neutral"]),
            "lifetime_stage": st.sampled_from(["new", "lapsed"]),
        }  # fmt: skip
        intents = st.dictionaries(st.sampled_from([*words.intents]), st.floats(0, 1), max_size=3)
        values: Any = {
            "customer": {
                **data.draw(st.fixed_dictionaries({}, optional=attributes)),
                **shared,
            },
            "context": data.draw(
                st.fixed_dictionaries({}, optional={**valued(words.context), **contact})
            ),
            "journey": data.draw(st.fixed_dictionaries({}, optional=journey)),
            "intent": {"name": "x", "probability": 0.5, "all": data.draw(intents)},
        }
        results = policies.conditions.evaluate(values)
        prices = [policies.conditions.price(row, results) for row in range(len(one.actions))]
        return [None if price is None else price.amount for price in prices]

    first = somebody()
    assert any(amount is not None for amount in first)
    assert somebody() == first


def test_unknown_results_are_no_prices_and_no_passes() -> None:
    policies = Policies(PRICED)
    assert policies.conditions.price(0, [Unknown("x"), Unknown("y")]) == MEMBERS[2]
