"""Rules mean what the C++ engine says they mean: random rules, random customers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.rules import Checked, Source, check, fuse, specialise
from tests.service.rules.expressions import (
    ENVIRONMENT,
    ROOT,
    RULES,
    WHOLE,
    Roots,
    inputs,
    oracle,
    typed_oracle,
    verdict,
)

MANY = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


def checked(rule: str) -> Checked | None:
    """The checked rule, or None if the check found that it can never be evaluated."""
    try:
        return check([Source(rule, "test")], ENVIRONMENT)[0]
    except ConfigurationError as error:
        if "can never be evaluated" in str(error):
            return None
        raise


@MANY
@given(RULES, st.lists(inputs(), min_size=1, max_size=4))
def test_a_rule_answers_as_the_engine_does(rule: str, customers: list[Roots]) -> None:
    found = checked(rule)
    answers = fuse([found], ENVIRONMENT) if found else None
    for values in customers:
        ours = verdict(answers(values)[0]) if answers else None
        assert ours == oracle(rule, values), (rule, values)


@MANY
@given(RULES, inputs(WHOLE))
def test_of_a_whole_customer_the_typed_engine_says_the_same(rule: str, values: Roots) -> None:
    found = checked(rule)
    answer = verdict(fuse([found], ENVIRONMENT)(values)[0]) if found else None
    assert answer == typed_oracle(rule, values) == oracle(rule, values)


@MANY
@given(RULES, ROOT, st.lists(ROOT, min_size=1, max_size=3))
def test_a_specialised_rule_answers_as_the_engine_does_with_the_constants(
    rule: str, action: dict[str, Any], customers: list[dict[str, Any]]
) -> None:
    found = checked(rule)
    assume(found is not None)
    assert found is not None
    special = specialise(found, {"action": action})
    assert not any(name.startswith("action.") for name in special.reads)
    answers = fuse([special], ENVIRONMENT)
    for customer in customers:
        expected = oracle(rule, {"customer": customer, "action": action})
        assert verdict(answers({"customer": customer})[0]) == expected, (rule, action, customer)


@MANY
@given(RULES, inputs())
def test_a_rule_with_all_constants_is_one(rule: str, values: Roots) -> None:
    found = checked(rule)
    assume(found is not None)
    assert found is not None
    special = specialise(found, values)
    assert special.reads == []
    assert type(special.tree).__name__ in {"Flag", "Fail"}
    assert verdict(fuse([special], ENVIRONMENT)({})[0]) == oracle(rule, values)


@settings(MANY, max_examples=150)
@given(st.lists(RULES, min_size=2, max_size=25), st.lists(inputs(), min_size=1, max_size=4))
def test_fused_rules_answer_as_each_alone(rules: list[str], customers: list[Roots]) -> None:
    # Repeating parts in other rules makes some of them shared.
    more = [f"({one}) && !({other})" for one, other in pairwise(rules)]
    texts = [rule for rule in rules * 2 + more * 2 if len(rule) < 1_500]
    kept = [one for one in map(checked, texts) if one is not None]
    together = fuse(kept, ENVIRONMENT)
    alone = [fuse([one], ENVIRONMENT) for one in kept]
    for values in customers:
        answers = together(values)
        assert answers == [function(values)[0] for function in alone]
        for one, answer in zip(kept, answers, strict=True):
            assert verdict(answer) == oracle(one.text, values), (one.text, values)


@settings(MANY, max_examples=150)
@given(RULES, inputs())
def test_a_rule_survives_publishing(rule: str, values: Roots) -> None:
    found = checked(rule)
    assume(found is not None)
    assert found is not None
    for one in (found, specialise(found, {"action": values["action"]})):
        again = msgspec.json.decode(msgspec.json.encode(one), type=Checked)
        assert again == one
        assert hash(again.tree) == hash(one.tree)
        assert fuse([again], ENVIRONMENT)(values) == fuse([one], ENVIRONMENT)(values)


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("customer.calls / -1 == 0", {"calls": -(2**63)}),
        ("customer.calls % -1 == 0", {"calls": -(2**63)}),
        ("-customer.calls == 0", {"calls": -(2**63)}),
        ("-7 / 2 == -3 && -7 % 2 == -1", {}),
        ("customer.calls % 3 == -1", {"calls": -7}),
        ("int(customer.age) > 0", {"age": 9.223372036854775807e18}),
        ("int(customer.age) < 0", {"age": -9.223372036854775808e18}),
        ("int(customer.age) == -2", {"age": -2.7}),
        ("customer.age in [customer.age]", {"age": float("nan")}),
        ("customer.age != customer.age", {"age": float("nan")}),
        ("[customer.age] == [customer.age]", {"age": float("nan")}),
        ("customer.scores == customer.scores", {"scores": {"a": float("nan")}}),
        ("1.0 / customer.age < 0.0", {"age": -0.0}),
        ("size(customer.segment) == 2", {"segment": "é😀"}),
        ("customer.tags[-1] == 'b'", {"tags": ["a", "b"]}),
        ("customer.segment < '\\U0001F600'", {"segment": "\uffff"}),
        ("1 / customer.calls > 0 && customer.vip", {"calls": 0, "vip": False}),
        ("customer.vip && 1 / customer.calls > 0", {"calls": 0, "vip": True}),
        ("(customer.vip || customer.open) == true", {"vip": True}),
    ],
)
def test_where_python_differs(rule: str, values: dict[str, Any]) -> None:
    roots = {"customer": values}
    found = checked(rule)
    assert found is not None
    assert verdict(fuse([found], ENVIRONMENT)(roots)[0]) == oracle(rule, {**roots, "action": {}})
