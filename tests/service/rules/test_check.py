"""What is refused, and how that is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from service.errors import ConfigurationError
from service.rules import Environment, Source, check
from service.rules.lower import OVERLOADS
from service.rules.values import OPERATIONS

ENVIRONMENT = Environment(
    {
        "customer": {
            "age": "number",
            "visits": "count",
            "vip": "flag",
            "segment": "text",
            "tags": "texts",
        },
        "intent": {"all": "numbers", "name": "text"},
    }
)
WHERE = "config/policies.yaml:12:15"


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check([Source(text, WHERE)], ENVIRONMENT)
    return str(caught.value).removeprefix(f"{WHERE}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "customer.agee > 1.0",
            "customer.agee > 1.0 (column 9): customer.agee is not known; did you mean "
            "'customer.age'?",
        ),
        ("age > 1.0", "age > 1.0 (column 1): age is not known; did you mean 'customer.age'?"),
        (
            "custmer.age > 1.0",
            "custmer.age > 1.0 (column 8): custmer.age is not known; did you mean 'customer.age'?",
        ),
        (
            "zzz.qqq == 1",
            "zzz.qqq == 1 (column 4): zzz.qqq is not known; known are customer, intent",
        ),
        (
            "intent.zzzzz == 'x'",
            "intent.zzzzz == 'x' (column 7): intent.zzzzz is not known; known are all, name",
        ),
        (
            "customer.age > 18",
            "customer.age > 18 (column 14): > does not take number and count; write a number with "
            "its point, as in 18.0, or convert one side with double() or int()",
        ),
        (
            "customer.age in [1, 2]",
            "customer.age in [1, 2] (column 14): in does not take number and list of counts; write "
            "a number with its point, as in 18.0, or convert one side with double() or int()",
        ),
        (
            "customer.vip == 'true'",
            "customer.vip == 'true' (column 14): == does not take flag and text; a flag is true or "
            "false, without quotes",
        ),
        (
            "customer.age\n  > 'x'",
            "customer.age > 'x' (line 2, column 3): > does not take number and text; write a "
            "number without quotes",
        ),
        ("customer.age", "customer.age (column 9): is a number; a rule must be true or false"),
        ("null", "null (column 1): is null; a rule must be true or false"),
        ("now() > 1", "now() > 1 (column 4): there is no function now()"),
        ("", " (column 1): cannot be read: mismatched input '<EOF>'"),
        (
            "1 / 0 > 1",
            "1 / 0 > 1 (column 1): can never be evaluated: division by zero",
        ),
        (
            "customer.segment == null || null == null",
            "customer.segment == null || null == null (column 34): compare null with a field "
            "alone, or use has()",
        ),
        (
            "customer.tags == null",
            "customer.tags == null (column 15): == does not take list of texts and null; ask "
            "whether a field is set with has()",
        ),
    ],
)
def test_a_mistake_is_named_with_its_column_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "column", "remedy"),
    [
        ("customer.segment.matches('a+')", 25, "use startsWith(), endsWith(), contains() or in"),
        ("customer.tags.all(t, t == 'a')", 18, "ask with in"),
        ("customer.tags.exists(t, t == 'a')", 21, "ask with in"),
        ("customer.tags.filter(t, t == 'a') == ['a']", 21, "ask with in"),
        ("customer.tags.map(t, t + 'a') == ['a']", 18, "ask with in"),
        ("customer == customer", 1, "name one of its fields"),
        ("rules.customer{} == customer", 1, "compare fields one by one"),
        ("1u == 1u", 1, "use a number or a text"),
        ("b'a' == b'a'", 1, "use a number or a text"),
        (
            "timestamp('2020-01-01T00:00:00Z') < timestamp('2021-01-01T00:00:00Z')",
            35,
            "not allowed",
        ),
        ("duration('1s') < duration('2s')", 16, "not allowed"),
        ("type(customer.age) == double", 5, "not allowed"),
        ("dyn(customer.age) == 1", 4, "values of one kind"),
        ("customer.age in [1.0, 'a']", 17, "values of one kind"),
        ("int(customer.segment) == 1", 4, "declare the field as one"),
        ("double(customer.segment) == 1.0", 7, "declare the field as one"),
        ("string(customer.age) == '1'", 7, "compare it as a number"),
        ("customer.tags + ['a'] == ['a']", 15, "with ||"),
        ("[[1]] == [[1]]", 2, "plain values"),
        ("{customer.segment: 1}['a'] == 1", 1, "constants"),
        ("true || null == customer", 14, "null"),
    ],
)
def test_what_is_not_on_the_list_is_refused_with_what_to_use(
    text: str, column: int, remedy: str
) -> None:
    message = refusal(text)
    assert f"(column {column}): " in message
    assert remedy in message


@pytest.mark.parametrize(
    "text",
    ["customer.__class__ == 'a'", "customer.segment.__class__ == 'a'", "__import__('os') == 'a'",
     "customer.segment.format('a') == 'a'", "customer.segment.upper() == 'A'", "known == 'a'",
     "customer.tags.append('a')", "(lambda: true)()", "answers == 'a'", "int64(1) == 1"],
)  # fmt: skip
def test_python_is_out_of_reach(text: str) -> None:
    refusal(text)


def test_all_mistakes_of_all_rules_are_named_one_a_line() -> None:
    rules = [
        Source("customer.age > 18.0", "a"),
        Source("customer.agee > 1.0 || customer.segmnt == 'x'", "b"),
        Source("customer.visits > 1.5", "c"),
    ]
    with pytest.raises(ConfigurationError) as caught:
        check(rules, ENVIRONMENT)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["b", "b", "c"]
    assert "did you mean 'customer.segment'?" in lines[1]


def test_a_rule_has_limits() -> None:
    assert "2001 characters of at most 2000" in refusal("x" * 2_001)
    assert "nests too deep" in refusal("(" * 100 + "true" + ")" * 100)
    assert "nests too deep" in refusal("customer.visits" + " + 1" * 60 + " > 0")
    assert "more than 600 parts" in refusal("customer.visits in [" + "1," * 700 + "1]")
    long = " && ".join(["customer.vip"] * 120)
    assert check([Source(long, WHERE)], ENVIRONMENT)[0].reads == ["customer.vip"]


def test_a_long_rule_is_shown_in_part() -> None:
    assert "... (column" in refusal("customer.vip && " * 20 + "customer.age")


def test_the_fields_that_matter_are_listed() -> None:
    rule = "has(intent.name) && intent.all['a'] > customer.age || (true ? false : customer.vip)"
    assert check([Source(rule, WHERE)], ENVIRONMENT)[0].reads == [
        "customer.age",
        "intent.all",
        "intent.name",
    ]


def test_every_operation_can_be_written_and_every_overload_runs() -> None:
    of_kinds = {"equal_many", "unequal_many", "in_numbers"}
    assert {op for op in OVERLOADS.values() if op} | of_kinds == set(OPERATIONS)


def test_without_the_engine_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    assert check([], ENVIRONMENT) == []
    with pytest.raises(ConfigurationError, match=r"install 'rapport\[rules\]'"):
        check([Source("true", WHERE)], ENVIRONMENT)


def test_published_rules_run_without_the_engine(tmp_path: Path) -> None:
    rules = check([Source("customer.age > 18.0 && customer.segment in ['a']", WHERE)], ENVIRONMENT)
    (tmp_path / "rules.json").write_bytes(msgspec.json.encode([ENVIRONMENT, rules]))
    program = """
import sys
sys.modules["cel_expr_python"] = None
import msgspec
from service.rules import Checked, Environment, fuse, specialise
environment, rules = msgspec.json.decode(
    open(sys.argv[1], "rb").read(), type=tuple[Environment, list[Checked]]
)
print(fuse(rules, environment)({"customer": {"age": 41.0, "segment": "a"}}))
print(specialise(rules[0], {"customer": {"age": 17.0}}).tree)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "rules.json")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3], env=os.environ,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["[True]", "Flag(value=False)"]


def test_only_the_checking_module_knows_the_engine() -> None:
    folder = Path(__file__).parents[3] / "service" / "rules"
    knowing = [path.name for path in folder.glob("*.py") if "import cel" in path.read_text("utf-8")]
    assert knowing == ["check.py"]
