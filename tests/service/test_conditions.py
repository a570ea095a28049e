from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.catalogue import Action, Price
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
