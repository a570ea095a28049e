from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec
import pytest

from service.business import Business, load, published
from service.catalogue import Price, Rule, Treatment, Validity
from service.config_diff import differences
from service.declared import (
    Ceiling,
    Goal,
    Lever,
    Limit,
    StageRule,
    StageRules,
    Suppression,
    Target,
)
from tests.business import ACTIONS, action, business

ROOT = Path(__file__).parents[2]
SAMPLE = load(ROOT / "config")


def told(old: Business, new: Business) -> list[str]:
    return [one.text for one in differences(old, new)]


def policies(**changes: Any) -> Business:
    return business(**changes)


class Changed(NamedTuple):
    """Something with one leaf changed."""

    whole: Any
    before: Any
    after: Any
    names: tuple[str, ...]  # of what it is in, outermost first


def changes(whole: Any, kind: Any, names: tuple[str, ...] = ()) -> Iterator[Changed]:
    """Every way to change one leaf."""
    if isinstance(whole, msgspec.Struct):
        yield from changed_struct(whole, (*names, *named(whole)))
    elif isinstance(whole, dict) and whole:
        (_, inside) = get_args(of(kind))
        for key, value in whole.items():
            for one in changes(value, inside, (*names, key)):
                yield one._replace(whole={**whole, key: one.whole})
    elif isinstance(whole, list | tuple) and whole:
        for place, value in enumerate(whole):
            for one in changes(value, str, names):
                altered = [*whole[:place], one.whole, *whole[place + 1 :]]
                yield one._replace(whole=type(whole)(altered))
    elif isinstance(whole, dict):
        if of(get_args(of(kind))[1]) in (int, float):  # an empty mapping of structs has no leaf
            yield Changed({"another": 7}, None, 7, (*names, "another"))
    elif isinstance(whole, list | tuple):
        if get_args(of(kind))[0] is str or get_origin(get_args(of(kind))[0]) is Literal:
            yield Changed(["another"], whole, ["another"], names)
    else:
        after = other(whole, kind)
        yield Changed(after, whole, after, names)


def changed_struct(whole: msgspec.Struct, names: tuple[str, ...]) -> Iterator[Changed]:
    for field in fields(type(whole)):
        if field.name == "checked":
            continue
        for one in changes(getattr(whole, field.name), field.type, names):
            altered = copy.copy(whole)
            msgspec.structs.force_setattr(altered, field.name, one.whole)
            yield one._replace(whole=altered)


@cache
def fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def named(whole: msgspec.Struct) -> tuple[str, ...]:
    """What a person calls it."""
    name = getattr(whole, "name", getattr(whole, "condition", None))
    return () if not name or type(whole).__name__ == "Release" else (name,)


def of(kind: Any) -> Any:
    """A type without its bounds, and of several the first that is something."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    if type(None) in get_args(kind):
        return of(next(one for one in get_args(kind) if one is not type(None)))
    return kind


def other(value: Any, kind: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.125
        case datetime.date():
            return value + datetime.timedelta(days=1)
        case datetime.time():
            return value.replace(minute=(value.minute + 1) % 60)
    plain = of(kind)
    if get_origin(plain) is Literal:
        return next(one for one in get_args(plain) if one != value and one)
    if value and re.fullmatch(r"\d+[smhd]", value):
        return f"{int(value[:-1]) + 1}{value[-1]}"
    if plain is datetime.date:
        return datetime.date(2027, 3, 4)
    if plain in (int, float, bool):
        return {int: 7, float: 0.75, bool: True}[plain]
    return f"{value or ''}x"


def ways_to_say(value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"yes" if value else "no"}
    if isinstance(value, int | float):
        return {f"{value:.15g}", f"{value * 100:.12g} %"}
    if isinstance(value, datetime.date | datetime.time):
        return {value.isoformat()}
    if isinstance(value, list | tuple | dict):
        return {" ".join(value)} if value else {"none"}
    return {" ".join(value.split())} if value else {"none"}


def test_every_leaf_of_the_sample_yields_one_line_with_its_thing_and_both_values() -> None:
    count = 0
    for one in changed_struct(SAMPLE, ()):
        count += 1
        found = differences(SAMPLE, one.whole)
        assert len(found) == 1, (one.names, one.before, one.after, found)
        (line,) = found
        assert "\n" not in line.text
        for name in one.names:
            assert name in line.text, (line.text, name)
        sides = re.split(r" -> | is now called ", line.text)
        assert len(sides) == 2, line.text
        for side, value in zip(sides, (one.before, one.after), strict=True):
            assert any(way in side for way in ways_to_say(value)), (line.text, value)
        assert line.part in ("Release", "Actions", "Placements", "Policies", "Features",
                             "Vocabulary")  # fmt: skip
    assert count > 4_000


def test_equal_configurations_do_not_differ_however_they_were_read() -> None:
    assert told(SAMPLE, SAMPLE) == []
    assert told(SAMPLE, published(SAMPLE.written())) == []
    assert told(SAMPLE, load(ROOT / "config")) == []


def test_every_field_of_a_configuration_is_compared() -> None:
    compared = {one.part for one in differences(SAMPLE, load(ROOT / "config/examples/bpi2012"))}
    assert compared == {"Release", "Actions", "Placements", "Policies", "Features", "Vocabulary"}
    assert len(fields(Business)) == len(compared) + 1, "all of them, and what follows from them"


def test_amounts_are_told_in_the_currency_and_shares_in_percent() -> None:
    dearer = business([*ACTIONS[:-1], action("insurance", issue="grow", value=9.5, prior=0.25)])
    assert told(business(), dearer) == [
        "Action insurance: value 20 -> 9.5 EUR",
        "Action insurance: prior 10 % -> 25 %",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (Limit("l", 6, "7d"), Limit("l", 4, "7d"),
         "Limit l: at most 6 -> 4 within 7d (tighter)"),
        (Limit("l", 6, "7d"), Limit("l", 9, "7d"),
         "Limit l: at most 6 -> 9 within 7d (looser)"),
        (Limit("l", 6, "7d"), Limit("l", 6, "200h"),
         "Limit l: within 7d -> 200h (tighter)"),
        (Limit("l", 6, "7d"), Limit("l", 6, "7d", channel="phone"),
         "Limit l: channel none -> phone"),
        (Suppression("l", "rejected", 2, "7d", "9d"), Suppression("l", "rejected", 2, "7d", "8d"),
         "Suppression l: for 9d -> 8d (looser)"),
        (Suppression("l", "rejected", 2, "7d", "9d"), Suppression("l", "rejected", 3, "7d", "9d"),
         "Suppression l: after 2 -> 3 (looser)"),
        (Ceiling("l", "day", budget=20), Ceiling("l", "day", budget=5),
         "Ceiling l: budget 20 -> 5 EUR (tighter)"),
        (Lever("l", Target(), 1.2, Validity(until=datetime.date(2027, 1, 31))),
         Lever("l", Target(), 1.2, Validity(until=datetime.date(2027, 2, 28))),
         "Lever l: ends 2027-01-31 -> 2027-02-28"),
        (Lever("l", Target(group="care"), 1.2), Lever("l", Target(group="sales"), 1.2),
         "Lever l: group care -> sales"),
    ],
)  # fmt: skip
def test_a_changed_policy_says_which_way_it_went(
    old: msgspec.Struct, new: msgspec.Struct, line: str
) -> None:
    field = {Limit: "limits", Suppression: "suppressions", Ceiling: "ceilings", Lever: "levers"}
    name = field[type(old)]
    assert told(policies(**{name: [old]}), policies(**{name: [new]})) == [line]


ADULTS = StageRule(Rule("adults_only", "customer.age >= 18.0", "Only adults"), Target(group="care"))


def test_a_new_rule_is_told_with_whom_it_is_about_and_what_it_asks() -> None:
    ruled = policies(rules=StageRules(eligibility=[ADULTS]))
    line = "Eligibility rule adults_only is new for group care: customer.age >= 18.0"
    assert told(policies(), ruled) == [line]
    assert told(ruled, policies()) == ["Eligibility rule adults_only is gone"]
    everybody = StageRules(eligibility=[StageRule(ADULTS.rule)])
    assert "is new for every action: " in told(policies(), policies(rules=everybody))[0]


def test_what_is_in_an_action_is_told_with_it() -> None:
    ruled = [action("discount", suitability=[ADULTS.rule]), *ACTIONS[1:]]
    plain = [action("discount"), *ACTIONS[1:]]
    priced = [action("discount", prices=[Price(4.5, per="month")]), *ACTIONS[1:]]
    assert told(business(plain), business(ruled)) == [
        "Action discount, suitability rule adults_only is new: customer.age >= 18.0"
    ]
    assert told(business(plain), business(priced)) == [
        "Action discount, price Everybody is new: amount 4.5 EUR, per month"
    ]


def test_actions_come_and_go() -> None:
    assert told(business(), business(ACTIONS[:-1])) == ["Action insurance is gone"]
    (line,) = told(business(ACTIONS[:-1]), business())
    assert line == (
        "Action insurance is new: title Insurance, issue grow, group care, value 20 EUR, "
        "treatments say"
    )


def test_another_name_is_no_other_thing() -> None:
    renamed = [*ACTIONS[:-1], msgspec.structs.replace(ACTIONS[-1], name="cover")]
    assert told(business(), business(renamed)) == ["Action insurance is now called cover"]
    twins = [Limit("a", 1, "1d"), Limit("b", 1, "1d")]
    others = [Limit("c", 1, "1d"), Limit("d", 1, "1d"), Limit("e", 1, "1d")]
    assert told(policies(limits=twins), policies(limits=others)) == [
        "Limit a is now called c",
        "Limit b is now called d",
        "Limit e is new: at most 1, within 1d",
    ]


def test_two_of_one_name_are_kept_apart() -> None:
    second = StageRule(ADULTS.rule, Target(issue="grow"))
    before = policies(rules=StageRules(eligibility=[ADULTS, second]))
    after = StageRules(eligibility=[ADULTS, msgspec.structs.replace(second, target=Target())])
    assert told(before, policies(rules=after)) == [
        "Eligibility rule adults_only (2): issue grow -> none"
    ]


def test_another_order_is_a_change_where_order_counts() -> None:
    treatments = [Treatment("say", ["hint"]), Treatment("show", ["hint"])]
    before = business([action(treatments=treatments), *ACTIONS[1:]])
    after = business([action(treatments=treatments[::-1]), *ACTIONS[1:]])
    assert told(before, after) == ["Action discount: treatments in another order, from say -> show"]
    goals = {"margin": Goal(1.0), "minutes": Goal(0.5)}
    turned = dict(reversed(goals.items()))
    assert told(policies(goals=goals), policies(goals=turned)) == [
        "Policies: goals in another order, from margin -> minutes"
    ]


def test_parts_are_told_in_the_same_order_always() -> None:
    parts = [one.part for one in differences(SAMPLE, load(ROOT / "config/examples/bpi2012"))]
    assert list(dict.fromkeys(parts)) == [
        "Release", "Actions", "Placements", "Policies", "Features", "Vocabulary",
    ]  # fmt: skip
    assert parts == sorted(parts, key=list(dict.fromkeys(parts)).index)
