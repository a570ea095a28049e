"""One function for all rules: what it says, and what it cannot do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from service.errors import ConfigurationError
from service.rules import Checked, Environment, Source, Unknown, check, fuse
from service.rules.parts import SHARED
from service.rules.translate import _Writer
from service.rules.tree import Call, Count, Field, Flag, Has, Number, Text
from tests.service.rules.expressions import ENVIRONMENT


def checked(*texts: str) -> list[Checked]:
    return check([Source(text, "test") for text in texts], ENVIRONMENT)


def answer(text: str, **customer: Any) -> bool | Unknown:
    return fuse(checked(text), ENVIRONMENT)({"customer": customer})[0]


@pytest.mark.parametrize(
    ("text", "customer", "what"),
    [
        ("customer.age > 0.0", {}, "customer.age is not known"),
        ("customer.age != 0.0", {}, "customer.age is not known"),
        ("customer.age != 0.0", {"age": None}, "customer.age is not known"),
        ("customer.segment != 'blocked'", {}, "customer.segment is not known"),
        ("!(customer.segment in ['blocked'])", {}, "customer.segment is not known"),
        ("!('a' in customer.tags)", {}, "customer.tags is not known"),
        ("!('a' in customer.scores)", {}, "customer.scores is not known"),
        ("customer.scores['x'] > 0.0", {}, "customer.scores is not known"),
        ("customer.scores['x'] > 0.0", {"scores": {}}, "no key 'x' in customer.scores"),
        (
            "customer.scores[customer.city] > 0.0",
            {"scores": {"a": 1.0}, "city": "b"},
            "no key 'b' in customer.scores",
        ),
        ("customer.tags[1] == 'a'", {"tags": ["a"]}, "no item 1 in customer.tags"),
        ("customer.visits + 1 > 0", {"visits": 2**63 - 1}, "integer overflow"),
        ("1 % customer.visits == 0", {"visits": 0}, "division by zero"),
        ("int(customer.age) > 0", {"age": 1e300}, "1e+300 has no room in a count"),
        ("customer.vip && customer.open", {"vip": True}, "customer.open is not known"),
        ("customer.vip || customer.open", {"open": False}, "customer.vip is not known"),
        ("customer.vip ? true : false", {}, "customer.vip is not known"),
    ],
)
def test_an_unknown_says_why(text: str, customer: dict[str, Any], what: str) -> None:
    assert answer(text, **customer) == Unknown(what)


@pytest.mark.parametrize(
    ("text", "customer", "expected"),
    [
        ("has(customer.age) && customer.age > 0.0", {}, False),
        ("customer.age == null || customer.age > 0.0", {}, True),
        ("customer.age > 0.0 && customer.vip", {"vip": False}, False),
        ("customer.age > 0.0 || customer.vip", {"vip": True}, True),
        ("customer.vip ? customer.age > 0.0 : true", {"vip": False}, True),
        ("has(customer.scores.x) && customer.scores.x > 0.0", {"scores": {}}, False),
        ("has(customer.tags)", {"tags": []}, True),
        ("customer.age == 0.0", {"age": 0.0}, True),
    ],
)
def test_what_can_be_decided_without_it_is(
    text: str, customer: dict[str, Any], expected: bool
) -> None:
    assert answer(text, **customer) is expected


def test_answers_come_in_the_order_of_the_rules_and_equal_rules_run_once() -> None:
    rules = checked("customer.vip", "true", "!customer.vip", "customer.vip", "false")
    assert fuse(rules, ENVIRONMENT)({"customer": {"vip": True}}) == [True, True, False, True, False]
    source = _Writer([rule.tree for rule in rules]).source()
    assert source.count("= f0\n") == 1


def test_what_enough_rules_have_in_common_runs_once() -> None:
    texts = [f"customer.segment == 'gold' && customer.visits > {n}" for n in range(SHARED)]
    trees = [rule.tree for rule in checked(*texts)]
    assert "s0 = (f0 == ('gold'))" in _Writer(trees).source()
    assert "s0" not in _Writer(trees[1:]).source()


def test_no_rules_give_no_answers() -> None:
    assert fuse([], ENVIRONMENT)({}) == []


def test_the_function_has_no_builtins_and_few_names() -> None:
    function: Any = fuse(checked("customer.segment == '__builtins__'"), ENVIRONMENT)
    assert function.__globals__["__builtins__"] == {}
    with pytest.raises(NameError):
        exec("open('x')", function.__globals__)  # noqa: S102


@pytest.mark.parametrize(
    "text", ["'); import os; ('", "\n import os", "{0}", "f'{1}'", "\\", '"', "\\'", "\0", "U1"]
)
def test_texts_stay_texts(text: str) -> None:
    rule = f"customer.segment == {json.dumps(text)}"
    assert answer(rule, segment=text) is True
    assert answer(rule, segment="other") is False


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Call("__import__", (Text("os"),)), "no operation '__import__' here"),
        (Field("customer", "x); import os", "flag"), "not declared"),
        (Field("customer", "age", "flag"), "is number"),
        (Has("nobody", "age"), "nobody.age is not declared"),
        (Call("less", (Number("import os"), Count(1))), "cannot be translated"),
        (Call("less", (Count(1),)), "cannot be translated"),
    ],
)
def test_a_tree_from_elsewhere_is_verified(tree: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fuse([Checked("a rule", tree, [])], ENVIRONMENT)


def test_a_tree_too_deep_is_refused() -> None:
    tree: Any = Flag(True)
    for _ in range(50):
        tree = Call("not", (tree,))
    with pytest.raises(ConfigurationError, match="nests deeper than 40"):
        fuse([Checked("a rule", tree, [])], ENVIRONMENT)


def test_a_changed_environment_is_noticed() -> None:
    rules = checked("customer.visits > 1")
    changed = Environment({"customer": {"visits": "number"}})
    with pytest.raises(ConfigurationError, match=r"customer\.visits was a count"):
        fuse(rules, changed)


def test_json_that_is_no_tree_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"text":"x","tree":{"type":"python"},"reads":[]}', type=Checked)
