"""Constants go in, and what became constant goes away."""

from __future__ import annotations

import msgspec
import pytest

from service.rules import Checked, Source, Value, check, fuse, specialise
from service.rules.tree import Fail, Flag
from tests.service.rules.expressions import ENVIRONMENT


def rule(text: str) -> Checked:
    return check([Source(text, "test")], ENVIRONMENT)[0]


def special(text: str, **action: Value) -> Checked:
    return specialise(rule(text), {"action": action})


def test_rules_that_ask_the_same_become_equal() -> None:
    one = special("customer.age > action.age && customer.vip", age=18.0)
    other = special("customer.age > action.income - 2.0 && customer.vip", income=20.0)
    written = rule("customer.age > 18.0 && customer.vip")
    assert one.tree == other.tree == written.tree
    assert one.reads == ["customer.age", "customer.vip"]
    assert one.text == "customer.age > action.age && customer.vip"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("action.vip && customer.vip", Flag(False)),
        ("customer.vip && action.vip", Flag(False)),
        ("!action.vip || customer.vip", Flag(True)),
        ("action.segment in ['a', 'b']", Flag(True)),
        ("action.vip ? customer.vip : action.segment.startsWith('a')", Flag(True)),
        ("'gold' in action.scores && action.scores['gold'] > 1.0", Flag(True)),
        ("size(action.tags) == 2 && action.tags[1] == 'y'", Flag(True)),
        ("has(action.city) || action.city == null", Flag(True)),
        ("action.city == 'x'", Fail("action.city is not known")),
        ("action.city == 'x' && action.vip", Flag(False)),
        ("action.city == 'x' || !action.vip", Flag(True)),
        ("action.visits + 9223372036854775807 > 0", Fail("integer overflow")),
        ("1 / (action.visits - 3) > 0", Fail("division by zero")),
        ("action.scores['none'] > 0.0", Fail("no key 'none' in action.scores")),
        ("action.tags[7] == 'x'", Fail("no item 7 in action.tags")),
        ("action.age != action.age", Flag(True)),
    ],
)
def test_what_the_action_decides_is_decided(text: str, expected: Flag | Fail) -> None:
    action: dict[str, Value] = {
        "vip": False, "segment": "a", "scores": {"gold": 2.0}, "tags": ["x", "y"], "visits": 3,
        "age": float("nan"),
    }  # fmt: skip
    assert special(text, **action).tree == expected


def test_an_error_stays_where_a_customer_may_still_decide() -> None:
    left = special("action.city == 'x' && customer.vip")
    answers = fuse([left], ENVIRONMENT)
    assert answers({"customer": {"vip": False}}) == [False]
    assert answers({"customer": {"vip": True}}) == [("action.city is not known",)]


def test_numbers_that_json_lacks_survive_it() -> None:
    for odd in (float("nan"), float("inf"), -0.0):
        one = special("customer.age / action.age > 0.0", age=odd)
        again = msgspec.json.decode(msgspec.json.encode(one), type=Checked)
        assert again == one
        values = {"customer": {"age": 1.0}}
        assert fuse([again], ENVIRONMENT)(values) == fuse([one], ENVIRONMENT)(values)
