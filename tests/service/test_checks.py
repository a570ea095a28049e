from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY, MINUTE
from rapport.v1 import event_pb2
from service.checks import EARLIEST, Checks
from service.errors import InvalidRequest, Violation
from tests.chain import NOW, VOCABULARY


def why(checks: Checks) -> str:
    """The one complaint, or nothing."""
    assert len(checks.violations) <= 1
    return checks.violations[0].description if checks.violations else ""


def test_complaints_carry_the_path_of_their_message() -> None:
    checks = Checks("events[3].")
    checks.wrong("type", "is absent")
    checks.code("channel", "fone", VOCABULARY.channels)
    assert [one.field for one in checks.violations] == ["events[3].type", "events[3].channel"]
    with pytest.raises(InvalidRequest) as refused:
        checks.finish()
    assert refused.value.violations == tuple(checks.violations)


def test_without_complaints_there_is_nothing_to_raise() -> None:
    Checks().finish()


@pytest.mark.parametrize(
    ("value", "required", "told"),
    [
        ("", False, ""),
        ("", True, "is absent; send 1 to 128 characters"),
        (" \t\n", True, "is absent; send 1 to 128 characters"),
        ("x" * 128, True, ""),
        ("x" * 129, False, "has 129 characters; send at most 128"),
        ("a\x00b", False, "holds a NUL character; leave it out"),
        ("日本", True, ""),
    ],
)
def test_a_text_has_its_length(value: str, required: bool, told: str) -> None:
    checks = Checks()
    assert checks.text("f", value, required=required) == value
    assert why(checks) == told


@pytest.mark.parametrize(
    ("value", "required", "code", "told"),
    [
        ("", False, 0, ""),
        ("", True, 0, "is absent; send one of: phone, ivr, chat, web, app"),
        ("app", True, 7, ""),
        ("apq", True, 0, "'apq' is not declared; did you mean 'app'?"),
        ("App", False, 0, "'App' is not declared; did you mean 'app'?"),
        ("zzz", False, 0, "'zzz' is not declared; send one of: phone, ivr, chat, web, app"),
    ],
)
def test_a_name_is_declared_or_told_with_the_nearest(
    value: str, required: bool, code: int, told: str
) -> None:
    checks = Checks()
    assert checks.code("f", value, VOCABULARY.channels, required=required) == code
    assert why(checks) == told


def test_where_nothing_is_declared_it_says_so() -> None:
    checks = Checks()
    checks.code("f", "x", {})
    assert why(checks).endswith("send one of: none is declared")


def test_a_complaint_about_a_long_text_is_short() -> None:
    checks = Checks()
    checks.code("f", "x" * 1_000_000, {f"name{n}": n for n in range(1, 500)})
    checks.value("context.x", struct_pb2.Value(), None, ("x" * 100,) * 2_000)
    assert all(len(one.description) < 1_700 for one in checks.violations)


@pytest.mark.parametrize("value", [0, 3])
def test_an_enum_holds_one_of_its_numbers(value: int) -> None:
    assert Checks().enumerated("f", value, {0, 3}) == value


@given(st.integers(-(2**31), 2**31 - 1))
def test_any_other_number_is_no_value_of_an_enum(value: int) -> None:
    checks = Checks()
    assert checks.enumerated("f", value, {0, 3}) in (0, 3)
    assert bool(why(checks)) == (value not in (0, 3))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (-1.0, ""),
        (1.0, ""),
        (1.0000001, "is out of range; send -1 to 1"),
        (math.nan, "nan is not finite; leave the field out where it is not known"),
        (math.inf, "inf is not finite"),
        (-math.inf, "-inf is not finite"),
    ],
)
def test_a_number_is_finite_and_in_range(value: float, told: str) -> None:
    checks = Checks()
    found = checks.finite("f", value, -1, 1)
    assert told in why(checks)
    assert bool(why(checks)) == bool(told)
    assert found == (0.0 if told else value)


def stamped(ms: float | None, nanos: int | None = None) -> event_pb2.Event:
    event = event_pb2.Event()
    if ms is not None:
        event.occurred_at.seconds = int(ms // 1000)
        event.occurred_at.nanos = int(ms % 1000) * 1_000_000 if nanos is None else nanos
    return event


@pytest.mark.parametrize(
    ("ms", "past", "told"),
    [
        (NOW, False, ""),
        (NOW + 5 * MINUTE, False, ""),
        (NOW + 5 * MINUTE + 1, True, "lies 300 s in the future; check the clock and the unit"),
        (NOW * 1000, False, "s in the future; check the clock and the unit"),
        (NOW - 30 * DAY, False, ""),
        (NOW - 30 * DAY - 1, False, "lies 30 days in the past, more than 30; only callers with"),
        (NOW - 3_000 * DAY, True, ""),
        (EARLIEST, True, ""),
        (EARLIEST - 1, True, "is before 1990; check the unit"),
        (NOW // 1000, True, "is before 1990; check the unit"),
        (0, True, "is before 1990"),
        (-(10**15), True, "is before 1990"),
        (None, True, "is absent; send when it happened"),
    ],
)
def test_a_moment_is_near_enough_to_now(ms: int | None, past: bool, told: str) -> None:
    checks = Checks()
    found = checks.moment("f", stamped(ms), "occurred_at", NOW, past=past)
    assert told in why(checks)
    assert bool(why(checks)) == bool(told)
    assert found == (None if told else ms)


def test_a_moment_that_need_not_be_there_may_be_absent() -> None:
    checks = Checks()
    event = stamped(None)
    assert checks.moment("f", event, "occurred_at", NOW, past=True, required=False) is None
    assert not checks.violations


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, 2**31 - 1, -(2**31)])
def test_malformed_nanoseconds_are_told(nanos: int) -> None:
    checks = Checks()
    assert checks.moment("f", stamped(NOW, nanos), "occurred_at", NOW, past=True) is None
    assert why(checks) == f"has {nanos} nanos; send 0 to 999,999,999"


def test_milliseconds_are_cut_and_not_rounded() -> None:
    event = stamped(NOW // 1000 * 1000, 999_999_999)
    assert Checks().moment("f", event, "occurred_at", NOW, past=True) == NOW // 1000 * 1000 + 999


def value(**fields: Any) -> struct_pb2.Value:
    return struct_pb2.Value(**fields)


@pytest.mark.parametrize(
    ("name", "sent", "found", "told"),
    [
        ("age", value(number_value=30), 30.0, ""),
        ("member", value(bool_value=False), False, ""),
        ("segment", value(string_value="home"), "home", ""),
        ("age", value(null_value=struct_pb2.NULL_VALUE), None, ""),
        ("age", value(), None, ""),
        ("age", value(string_value="30"), None,
         "is a string, and is declared as a number; send number_value"),
        ("member", value(number_value=1), None,
         "is a number, and is declared as a flag; send bool_value"),
        ("segment", value(bool_value=True), None,
         "is a bool, and is declared as a category; send string_value"),
        ("age", value(list_value=struct_pb2.ListValue()), None, "is a list, and is declared"),
        ("age", value(number_value=math.nan), 0.0, "nan is not finite"),
        ("age", value(number_value=1e16), 0.0, "out of range"),
        ("segment", value(string_value="hom"), "hom",
         "'hom' is not declared; did you mean 'home'?"),
        ("segment", value(string_value=""), "", "is absent; send one of: home, office"),
        ("agge", value(number_value=1), None, "is not declared; did you mean 'age'?"),
        ("xyzzy", value(number_value=1), None,
         "is not declared; known: age, balance, segment, member"),
    ],
)  # fmt: skip
def test_a_value_is_of_its_declared_kind(
    name: str, sent: struct_pb2.Value, found: Any, told: str
) -> None:
    checks = Checks()
    known = VOCABULARY.attributes
    assert checks.value(f"context.{name}", sent, known.get(name), known) == found
    assert told in why(checks)
    assert bool(why(checks)) == bool(told)


def test_a_violation_is_a_field_and_a_sentence() -> None:
    error = InvalidRequest([Violation("a", "is absent"), Violation("b", "is too long")])
    assert str(error) == "a: is absent; b: is too long"
    assert timestamp_pb2.Timestamp().seconds == 0
