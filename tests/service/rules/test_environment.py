"""Names that a rule can write."""

from __future__ import annotations

import msgspec
import pytest

from service.rules import Environment, Source, check


@pytest.mark.parametrize(
    "name", ["age-band", "1st", "", "in", "null", "package", "a b", "é", "a\n"]
)
def test_a_name_that_no_rule_can_write_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name in a rule"):
        Environment({"customer": {name: "number"}})
    with pytest.raises(ValueError, match="is no name in a rule"):
        Environment({name: {}})


def test_a_root_is_no_type() -> None:
    with pytest.raises(ValueError, match="is no name in a rule"):
        Environment({"int": {"age": "number"}})


def test_maps_too_like_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"too like customer\.a_b"):
        Environment({"customer": {"a_b": "numbers", "ab": "numbers"}})


def test_any_other_names_get_along() -> None:
    environment = Environment(
        {
            "customer": {
                "a_b": "number", "aB": "number", "AB": "text", "_x": "flag", "int": "count",
                "map": "numbers", "all": "numbers", "size": "texts", "has": "flag",
                "a__b": "numbers",
                "_z": "numbers", "z1": "numbers", "has_age": "flag", "class": "flag", "def": "text",
                "__class__": "text",
            }
        }
    )  # fmt: skip
    kinds = {"number": "== 1.0", "count": "== 1", "text": "== 'a'", "texts": "== ['a']"}
    rules = [
        Source(f"customer.{name} {kinds[kind]}", name)
        for name, kind in environment.roots["customer"].items()
        if kind in kinds
    ]
    assert len(check(rules, environment)) == len(rules)


def test_a_file_names_the_mistake() -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'integer'"):
        msgspec.convert({"roots": {"customer": {"age": "integer"}}}, Environment)


def test_the_nearest_name_is_found() -> None:
    environment = Environment({"customer": {"age": "number"}, "action": {"minimum_age": "number"}})
    assert environment.nearest("customer.agge") == "customer.age"
    assert environment.nearest("customer.minimum_ag") == "action.minimum_age"
    assert environment.nearest("customer.zzzzzz") is None
