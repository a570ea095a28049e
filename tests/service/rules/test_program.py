"""The compact program says what the fused function says, and that says what the C++ engine says."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.rules import Answers, Checked, Program, Source, Unknown, check, fuse
from service.rules.tree import Call, Count, Field, Flag, Number, Text
from tests.service.rules.expressions import ENVIRONMENT, RULES, Roots, inputs, oracle, verdict
from tests.service.rules.test_oracle import MANY
from tests.service.rules.test_oracle import checked as fitting


def answered(program: Program, known: Any) -> Answers:
    return program.answers(*program.told(known), known)


def checked(*texts: str) -> list[Checked]:
    return check([Source(text, "test") for text in texts], ENVIRONMENT)


NOT_OPEN: Roots = {"customer": {"visits": 1, "segment": "b", "tags": []}}


@settings(MANY, max_examples=400)
@given(st.lists(RULES, min_size=1, max_size=6), st.lists(inputs(), min_size=1, max_size=3))
@example(['(customer.visits < {"a": 1}[customer.segment]) == customer.open'], [NOT_OPEN])
@example(
    ["customer.tags[0].contains(customer.tags[1])", "customer.tags[1] in [customer.tags[0]]"],
    [NOT_OPEN],
)
@example(['customer.open == (customer.visits < {"a": 1}[customer.segment])'], [NOT_OPEN])
def test_a_program_answers_as_the_function_and_the_engine_do(
    texts: list[str], customers: list[Roots]
) -> None:
    kept = [one for one in map(fitting, texts) if one is not None]
    program, function = Program(kept, ENVIRONMENT), fuse(kept, ENVIRONMENT)
    for values in customers:
        answers = answered(program, values)
        assert answers == function(values), "reasons included"
        for one, answer in zip(kept, answers, strict=True):
            assert verdict(answer) == oracle(one.text, values), (one.text, values)


@given(
    st.lists(st.tuples(RULES, st.integers(0, 2**130)), max_size=8),
    inputs(),
)
@settings(MANY, max_examples=100)
def test_what_does_not_hold_drops_its_rows(ruled: list[tuple[str, int]], values: Roots) -> None:
    kept = [(one, rows) for text, rows in ruled if (one := fitting(text)) is not None]
    drops = [(place, rows) for place, (_, rows) in enumerate(kept)]
    answers = answered(Program([one for one, _ in kept], ENVIRONMENT, drops), values)
    dropped = 0
    for answer, (_, rows) in zip(answers, kept, strict=True):
        dropped |= 0 if answer is True else rows
    assert answers.dropped == dropped


@pytest.mark.parametrize(
    ("text", "instructions"),
    [
        ("customer.age > 0.0", 1),
        ("customer.segment in ['a', 'b', 'c']", 5),
        ("has(customer.scores.x) && customer.scores.x > 0.0", 3),
        ("customer.age * 2.0 + double(customer.visits) > 1.0 ? customer.vip : customer.open", 5),
        ("customer.segment.startsWith('a') && customer.vip", 1),  # the text's part is Python's
        ("customer.visits + 1 > 0", 0),
        ("customer.tags == ['a']", 0),
        ("customer.segment == customer.city", 0),
    ],
)
def test_few_instructions_do(text: str, instructions: int) -> None:
    assert Program(checked(text), ENVIRONMENT).instructions == instructions


def test_equal_parts_of_any_rules_run_once() -> None:
    one = Program(checked("customer.age > 18.0 && customer.vip"), ENVIRONMENT)
    more = checked(
        "customer.age > 18.0 && customer.vip",
        "customer.age > 18.0 || customer.open",
        "!(customer.age > 18.0 && customer.vip)",
    )
    assert Program(more, ENVIRONMENT).instructions == one.instructions + 2


def test_answers_are_a_sequence() -> None:
    rules = checked("customer.vip", "customer.age > 1.0", "false")
    answers = answered(Program(rules, ENVIRONMENT), {"customer": {"vip": True}})
    assert list(answers) == [True, Unknown("customer.age is not known"), False]
    assert answers[1:] == [Unknown("customer.age is not known"), False]
    assert len(answers) == 3
    assert answers[-1] is False
    with pytest.raises(IndexError):
        answers[3]


def test_requests_leave_nothing_behind() -> None:
    program = Program(checked("customer.age > 1.0", "customer.vip"), ENVIRONMENT)
    first = answered(program, {"customer": {"age": 2.0, "vip": True}})
    assert answered(program, {}) == [
        Unknown("customer.age is not known"),
        Unknown("customer.vip is not known"),
    ]
    assert first == [True, True]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Field("customer", "nobody", "flag"), "customer.nobody was a flag"),
        (Call("exec", (Flag(True),)), "no operation 'exec' here"),
        (Call("less", (Number("1.0.0"), Number("1.0"))), "cannot be translated"),
        (Call("less", (Count(2**70), Count(1))), "cannot be translated"),
    ],
)
def test_a_tree_from_elsewhere_is_verified(tree: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Program([Checked("odd", tree, [])], ENVIRONMENT)


def test_too_many_rules_are_refused() -> None:
    chance = random.Random(1)
    age = Field("customer", "age", "number")
    rules = [
        Checked("many", Call("less", (age, Number(repr(chance.random())))), [])
        for _ in range(33_000)
    ]
    with pytest.raises(ConfigurationError, match="have fewer"):
        Program(rules, ENVIRONMENT)


def test_texts_are_compared_by_code_only_where_a_rule_names_one() -> None:
    city, segment = Field("customer", "city", "text"), Field("customer", "segment", "text")
    same = Checked("same", Call("equal", (city, segment)), [])
    named = Checked("named", Call("equal", (city, Text("x"))), [])
    program = Program([same, named], ENVIRONMENT)
    told = {"customer": {"city": "neither", "segment": "of these"}}
    assert answered(program, told) == [False, False]
    assert answered(program, {"customer": {"city": "x", "segment": "x"}}) == [True, True]


def test_no_rules_give_no_answers() -> None:
    answers = answered(Program([], ENVIRONMENT), {})
    assert len(answers) == 0
    assert answers.dropped == 0
    assert not np.any(answers.verdicts)
