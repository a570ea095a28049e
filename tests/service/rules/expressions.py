"""Random well-typed rules and random inputs, and the C++ engine to say what is right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from cel_expr_python import cel
from google.protobuf import message_factory
from hypothesis import strategies as st

from service.rules import Environment, Kind, Unknown, Value
from service.rules.check import declared

Roots = Mapping[str, Mapping[str, Value]]

FIELDS: dict[str, Kind] = {
    "age": "number",
    "income": "number",
    "visits": "count",
    "calls": "count",
    "vip": "flag",
    "open": "flag",
    "segment": "text",
    "city": "text",
    "scores": "numbers",
    "all": "numbers",
    "tags": "texts",
}
ENVIRONMENT = Environment({"customer": FIELDS, "action": FIELDS})

TEXTS = ["", "a", "b", "ab", "gold", "é", "😀x", 'q"\\', "true", "None"]
NUMBERS = [0.0, -0.0, 1.0, -1.5, 2.5, 1e308, 5e-324, 9007199254740993.0, 9.223372036854775807e18]
COUNTS = [0, 1, -1, 2, 7, -7, 2**62, 2**63 - 1, -(2**63)]
ODD = [math.nan, math.inf, -math.inf, -9.223372036854775808e18, 9223372036854774784.0]

ORDER = ["<", "<=", ">", ">=", "==", "!="]


def fields(*kinds: Kind) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [
            f"{root}.{name}"
            for root in ("customer", "action")
            for name, k in FIELDS.items()
            if k in kinds
        ]
    )


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pair(operators: list[str], one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(one, st.sampled_from(operators), one).map(lambda p: f"({p[0]} {p[1]} {p[2]})")


def _many(one: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[str]:
    return st.lists(one, min_size=least, max_size=3).map(lambda items: f"[{', '.join(items)}]")


def _joined(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: form.format(*found))


@cache
def numbers(depth: int) -> st.SearchStrategy[str]:
    literal = st.sampled_from([repr(n) for n in NUMBERS])
    if depth == 0:
        return fields("number") | literal
    below = numbers(depth - 1)
    return (
        fields("number")
        | literal
        | _pair(["+", "-", "*", "/"], below)
        | _joined("(-({}))", below)
        | _joined("double({})", counts(depth - 1) | below)
        | _joined("({} ? {} : {})", flags(depth - 1), below, below)
        | _joined("{}[{}]", fields("numbers"), texts(depth - 1))
        | _joined("{}[{}]", fields("numbers"), st.sampled_from(TEXTS).map(_text))
        | _joined("{}.a", fields("numbers"))
        | _joined("{}[{}]", _many(below, 1), counts(depth - 1))
    )


@cache
def counts(depth: int) -> st.SearchStrategy[str]:
    literal = st.sampled_from([str(n) for n in COUNTS])
    if depth == 0:
        return fields("count") | literal
    below = counts(depth - 1)
    return (
        fields("count")
        | literal
        | _pair(["+", "-", "*", "/", "%"], below)
        | _joined("(-({}))", below)
        | _joined("int({})", numbers(depth - 1) | below)
        | _joined("size({})", texts(depth - 1) | fields("texts", "numbers"))
        | _joined("{}.size()", texts(depth - 1))
        | _joined("({} ? {} : {})", flags(depth - 1), below, below)
        | _joined('{{"a": 1, "gold": 2}}[{}]', texts(depth - 1))
        | _joined("{}[{}]", _many(below, 1), below)
    )


@cache
def texts(depth: int) -> st.SearchStrategy[str]:
    literal = st.sampled_from(TEXTS).map(_text)
    if depth == 0:
        return fields("text") | literal
    below = texts(depth - 1)
    return (
        fields("text")
        | literal
        | _pair(["+"], below)
        | _joined("string({})", counts(depth - 1) | flags(depth - 1) | below)
        | _joined("({} ? {} : {})", flags(depth - 1), below, below)
        | _joined("{}[{}]", fields("texts"), counts(depth - 1))
    )


@cache
def flags(depth: int) -> st.SearchStrategy[str]:
    every = fields(*set(FIELDS.values()))
    leaf = (
        fields("flag")
        | st.sampled_from(["true", "false"])
        | _joined("has({})", every)
        | _joined(
            "({} {} null)", fields("number", "count", "flag", "text"), st.sampled_from(["==", "!="])
        )
    )
    if depth == 0:
        return leaf
    below = flags(depth - 1)
    number, count, text = numbers(depth - 1), counts(depth - 1), texts(depth - 1)
    return (
        leaf
        | _pair(["&&", "||"], below)
        | _pair(["&&", "||"], below)
        | _joined("({} && {} && {})", below, below, below)
        | _joined("(!{})", below)
        | _joined("({} ? {} : {})", below, below, below)
        | _pair(ORDER, number)
        | _pair(ORDER, count)
        | _pair(ORDER, text)
        | _pair(ORDER, below)
        | _joined("({} in {})", number, _many(number))
        | _joined("({} in {})", count, _many(count))
        | _joined("({} in {})", text, _many(text) | fields("texts", "numbers"))
        | _joined('({} in {{"a": 1.0, "é": 2.0}})', text)
        | _joined("has({}.a)", fields("numbers"))
        | _joined("{}.{}({})", text, st.sampled_from(["startsWith", "endsWith", "contains"]), text)
        | _pair(["==", "!="], _many(text, 1) | fields("texts"))
        | _pair(["==", "!="], _many(number, 1))
        | _pair(["==", "!="], fields("numbers"))
    )


RULES = st.integers(0, 4).flatmap(flags).filter(lambda rule: len(rule) < 1_500)

_VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    "number": st.sampled_from([*NUMBERS, *ODD]) | st.floats(),
    "count": st.sampled_from(COUNTS) | st.integers(-(2**63), 2**63 - 1),
    "flag": st.booleans(),
    "text": st.sampled_from(TEXTS),
    "numbers": st.dictionaries(st.sampled_from(TEXTS), st.sampled_from([*NUMBERS, *ODD])),
    "texts": st.lists(st.sampled_from(TEXTS), max_size=3),
}
ROOT = st.fixed_dictionaries({}, optional={name: _VALUES[kind] for name, kind in FIELDS.items()})
# Protobuf has no empty list apart from none, so a whole customer has something in each.
WHOLE = st.fixed_dictionaries(
    {
        name: _VALUES[kind].filter(bool) if kind in {"numbers", "texts"} else _VALUES[kind]
        for name, kind in FIELDS.items()
    }
)


def inputs(root: st.SearchStrategy[dict[str, Any]] = ROOT) -> st.SearchStrategy[Roots]:
    return st.fixed_dictionaries({"customer": root, "action": root})


_ENGINE = cel.NewEnv(
    variables={root: cel.Type.Map(cel.Type.STRING, cel.Type.DYN) for root in ENVIRONMENT.roots}
)


def oracle(rule: str, values: Roots) -> bool | None:
    """What the C++ engine says of a rule: true, false, or None for an error.

    Roots are maps to it, and an unset field is an absent key: the one reading in which CEL itself
    never takes unset for a value. A question for null has no meaning there and is asked with has().
    """
    rule = re.sub(r"\((\w+\.\w+) == null\)", r"(!has(\1))", rule)
    rule = re.sub(r"\((\w+\.\w+) != null\)", r"has(\1)", rule)
    found = _ENGINE.compile(rule, disable_check=True).eval(data=values)
    if found.type() == cel.Type.BOOL:
        return bool(found.value())
    assert found.type() == cel.Type.ERROR, found.type()
    return None


_POOL = declared(ENVIRONMENT)
_TYPED = cel.NewEnv(
    _POOL, variables={root: cel.Type(f"rules.{root}") for root in ENVIRONMENT.roots}
)


def typed_oracle(rule: str, values: Roots) -> bool | None:
    """The same of a whole customer as the messages that the check declares, types and all."""
    messages = {}
    for root, fields_ in values.items():
        kind = _POOL.FindMessageTypeByName(f"rules.{root}")
        messages[root] = message = message_factory.GetMessageClass(kind)()
        for name, value in fields_.items():
            match FIELDS[name]:
                case "numbers":
                    getattr(message, name).update(value)
                case "texts":
                    getattr(message, name).extend(value)
                case _:
                    getattr(message, name).value = value
                    getattr(message, name).SetInParent()  # a 0 is no less set than a 1
    found = _TYPED.compile(rule).eval(data=messages)
    if found.type() == cel.Type.BOOL:
        return bool(found.value())
    assert found.type() == cel.Type.ERROR, found.type()
    return None


def verdict(answer: bool | Unknown) -> bool | None:
    """Our answer in the words of the oracle."""
    assert type(answer) in (bool, Unknown)
    return None if isinstance(answer, Unknown) else answer
