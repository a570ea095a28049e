"""Marram Bank shows everything that can be declared, and nothing in it is dead."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
import yaml

from features import profile as profiles
from features.definitions import Definitions
from features.journey import Relationship, Stage
from features.record import EMPTY
from features.vocabulary import Attribute, Direction
from service import declared as declarations
from service import variables
from service.business import Business, load
from service.catalogue import ASSURANCE, Action, Placement, treatment
from service.circumstances import Circumstances
from service.declared import Release
from service.experiments import group_of
from service.policies import Policies
from service.rules import Answers, Source, Value, check
from training.stories import STORIES

ROOT = Path(__file__).parents[1]
SAMPLE = load(ROOT / "config")
POLICIES = Policies(SAMPLE)
NOON = 1_795_258_800_000  # a Saturday in November 2026

UNUSED = {
    ("Policies", "currency"): "it is a Dutch bank, and euros are what is assumed",
}
"""What the sample leaves as it would be without, and why."""

STAGES = ("eligibility", "applicability", "suitability")


def declared(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Every kind of struct that a type may hold, directly or not."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            if field.name != "checked":
                yield from declared(field.type)
    for inside in get_args(kind):
        yield from declared(inside)


def held(value: Any) -> Iterator[msgspec.Struct]:
    """Every struct that a value holds, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        for field in value.__struct_fields__:
            if field != "checked":
                yield from held(getattr(value, field))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from held(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from held(one)


def owner(kind: type[msgspec.Struct], field: str) -> str:
    """The struct that declares a field, which others may inherit."""
    having = [
        one
        for one in kind.__mro__
        if issubclass(one, msgspec.Struct) and field in getattr(one, "__struct_fields__", ())
    ]
    return having[-1].__name__


def left_out(field: msgspec.structs.FieldInfo) -> Any:
    """What a field is where nobody writes it; like nothing else where it has to be written."""
    if field.required:
        return msgspec.NODEFAULT
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def unused(business: Business) -> set[tuple[str, str]]:
    """Every declared field that nothing in a business sets to other than its default.

    Features are not the business's to write; tests/features looks after them.
    """
    of = {kind for kind in declared(Business) if kind.__module__ != Definitions.__module__}
    of.remove(Business)
    known = {(owner(kind, one), one) for kind in of for one in kind.__struct_fields__}
    used = {
        (owner(type(one), field.name), field.name)
        for one in held(business)
        for field in msgspec.structs.fields(type(one))
        if getattr(one, field.name) != left_out(field)
    }
    return known - used


def test_the_sample_uses_all_that_can_be_declared() -> None:
    assert unused(SAMPLE) == set(UNUSED), "use them, or say in UNUSED why not"


def test_what_nothing_uses_is_named() -> None:
    policies = msgspec.structs.replace(SAMPLE.policies, ceilings=[])
    without = unused(msgspec.structs.replace(SAMPLE, policies=policies))
    assert without - set(UNUSED) == {
        ("Policies", "ceilings"),
        *(("Ceiling", one) for one in
          ("name", "each", "volume", "budget", "action", "group", "issue")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("kind", {"talk_track", "script", "prompt", "message"}),
        ("locale", {"", "nl-NL"}),
    ],
)
def test_treatments_come_in_every_kind_and_in_two_languages(field: str, words: set[str]) -> None:
    every = [one for action in SAMPLE.actions for one in action.treatments]
    assert {getattr(one, field) for one in every} == words


def test_rules_stand_at_every_level_in_every_stage() -> None:
    for stage in STAGES:
        targets = [one.target for one in getattr(SAMPLE.policies.rules, stage)]
        assert any(one.issue and not one.group for one in targets), stage
        assert any(one.group for one in targets), stage
        assert any(getattr(action, stage) for action in SAMPLE.actions), stage


def test_rules_read_all_that_they_may() -> None:
    roots = {read.split(".")[0] for one in SAMPLE.checked.values() for read in one.reads}
    assert roots == {"customer", "context", "journey", "intent", "action"}


# Whom the rules are tried on


def someone(dice: random.Random) -> dict[str, dict[str, Value]]:
    """A customer in a situation, of whom much or little is known."""

    def some(known: dict[str, Value]) -> dict[str, Value]:
        return {name: value for name, value in known.items() if dice.random() < 0.8}

    def any_of(attributes: dict[str, Attribute], numbers: dict[str, Value]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name, one in attributes.items():
            if one.kind == "category":
                found[name] = dice.choice([*one.values])
            else:
                found[name] = numbers[name] if one.kind == "number" else dice.random() < 0.5
        return some(found)

    intent = dice.choice([*SAMPLE.vocabulary.intents])
    sure = dice.random()
    return {
        "customer": any_of(
            SAMPLE.vocabulary.attributes,
            {
                "age": float(dice.randrange(12, 90)),
                "customer_since_days": float(dice.randrange(4_000)),
                "balance": dice.uniform(-500, 5_000),
                "products": float(dice.randrange(10)),
            },
        ),
        "context": {
            **any_of(
                SAMPLE.vocabulary.context,
                {"wait_seconds": dice.uniform(0, 1_200), "queue_length": dice.uniform(0, 50)},
            ),
            "channel": dice.choice([*SAMPLE.vocabulary.channels]),
            "direction": dice.choice(["inbound", "outbound"]),
            "assurance": dice.choice([*ASSURANCE]),
            "hour_of_day": dice.randrange(24),
            "day_of_week": dice.randrange(1, 8),
        },
        "journey": some(
            {
                **{name: dice.randrange(5) for name in (
                    "failed_self_service", "repeat_contact", "channel_hops",
                    "unresolved_contacts", "unanswered_question")},
                "sentiment_trend": dice.uniform(-1, 1),
                "relationship": dice.choice([*Relationship]).name,
                "lifetime_stage": dice.choice([*Stage]).name,
            }
        ),
        "intent": some({"name": intent, "probability": sure, "all": {intent: sure}}),
    }  # fmt: skip


def trials() -> list[Answers]:
    dice = random.Random(11)
    return [POLICIES.conditions.evaluate(someone(dice)) for _ in range(6_000)]


def rules() -> Iterator[tuple[str, str, list[int]]]:
    """Each rule's name, its condition, and the rows of the actions that it is about."""
    for row, action in enumerate(SAMPLE.actions):
        for stage in STAGES:
            for one in getattr(action, stage):
                yield f"{action.name}.{stage}.{one.name}", one.when, [row]
        for price in action.prices:
            if price.when is not None:
                yield f"{action.name}.prices.{price.condition}", price.when, [row]
    for stage in STAGES:
        for staged in getattr(SAMPLE.policies.rules, stage):
            rows = [n for n, one in enumerate(SAMPLE.actions) if staged.target.covers(one)]
            yield f"{stage}.{staged.rule.name}", staged.rule.when, rows


def test_every_rule_holds_for_somebody_and_fails_for_somebody() -> None:
    turned_out = defaultdict(set)
    for results in trials():
        for place, result in enumerate(results):
            if isinstance(result, bool):
                turned_out[place].add(result)
    seen = 0
    for name, when, rows in rules():
        seen += 1
        assert rows, f"{name} is about no action"
        found = {one for row in rows for one in turned_out[POLICIES.conditions.place(when, row)]}
        assert found == {True, False}, f"{name}: always {found}"
    assert seen > 40


def nothing_known(channel: str) -> Answers:
    return POLICIES.conditions.evaluate(
        {
            "customer": {},
            "context": variables.of_context(
                {}, {}, channel=channel, direction=int(Direction.inbound), assurance=1, now=NOON,
                zone=ZoneInfo(SAMPLE.definitions.time_zone),
            ),
            "journey": {},
            "intent": {},
        }
    )  # fmt: skip


@pytest.mark.parametrize("readable", [True, False])
def test_every_default_qualifies_for_whom_nothing_is_known_of(readable: bool) -> None:
    for name, placement in SAMPLE.placements.items():
        for channel in placement.channels:
            for direction in (Direction.inbound, Direction.outbound):
                filtered = POLICIES.filtered(
                    Circumstances(
                        channel,
                        int(direction),
                        ASSURANCE[placement.assurance],
                        NOON,
                        profiles.EMPTY if readable else None,
                        EMPTY if readable else None,
                        nothing_known(channel),
                        frozenset(one.name for one in SAMPLE.policies.ceilings),
                    )
                )
                for default in placement.defaults:
                    row = SAMPLE.rows[default]
                    against = [one for one in filtered.causes if one.actions >> row & 1]
                    assert not against, (name, channel, default)
                    assert treatment(SAMPLE.by_name[default], name, channel)


def test_there_is_plenty_to_offer_to_whom_nothing_is_known_of() -> None:
    results = nothing_known("phone")
    failing = {
        row
        for _, when, rows in rules()
        for row in rows
        if results[POLICIES.conditions.place(when, row)] is not True
    }
    grow = [row for row, one in enumerate(SAMPLE.actions) if one.issue == "grow"]
    service = [row for row, one in enumerate(SAMPLE.actions) if one.issue == "service"]
    assert len([row for row in grow if row not in failing]) > len(grow) / 2
    assert len([row for row in service if row not in failing]) > len(service) - 5


def test_nobody_is_lent_to_who_is_behind_or_under_age() -> None:
    lending = [row for row, one in enumerate(SAMPLE.actions) if one.group == "lending"]
    stages = SAMPLE.policies.rules
    texts = {one.rule.name: one.rule.when for rules in (
        stages.eligibility, stages.suitability) for one in rules}  # fmt: skip
    for row in lending:
        covering = [when for _, when, rows in rules() if row in rows]
        assert texts["adults_only"] in covering
        if SAMPLE.actions[row].issue == "grow":
            assert texts["no_lending_in_arrears"] in covering


WARNINGS = {
    "lending": ("Borrowing costs money.", "Let op! Geld lenen kost geld."),
    "insurance": ("What is insured, and what is not, is in the conditions.",
                  "Wat wel en niet verzekerd is, staat in de voorwaarden."),
    "investing": ("You can lose money when you invest.", "U kunt geld verliezen als u belegt."),
    "mortgage": ("Your home may have to be sold if you cannot repay.",),
}  # fmt: skip


def test_every_offer_that_carries_a_risk_says_so_in_its_own_language() -> None:
    warned = 0
    for action in SAMPLE.actions:
        if action.issue != "grow" or action.group not in WARNINGS:
            continue
        for one in action.treatments:
            assert one.disclosures == [WARNINGS[action.group][one.locale == "nl-NL"]], action.name
            warned += 1
    assert warned > 30


def test_amounts_that_are_prices_are_not_typed_into_texts() -> None:
    for action in SAMPLE.actions:
        for price in action.prices:
            for one in action.treatments:
                assert f"{abs(price.amount):.2f}" not in one.text, (action.name, one.name)
        if action.prices:
            assert any("{price}" in one.text for one in action.treatments), action.name


def test_the_customers_of_the_demo_belong_to_no_control_group() -> None:
    for story in STORIES:
        assert group_of(story.customer, SAMPLE.policies.control) == ""


def test_control_groups_are_as_large_as_declared() -> None:
    control = SAMPLE.policies.control
    groups = [group_of(f"c{number:06d}", control) for number in range(20_000)]
    for name in ("random", "probability_only", "no_model", "hold_out"):
        declared_share = getattr(control, name)
        assert 0.7 < groups.count(name) / len(groups) / declared_share < 1.3, name


def test_how_somebody_feels_buys_no_discount_and_no_place_in_a_queue() -> None:
    weights = SAMPLE.policies.context_weights
    feelings = [one for one in weights if one.when.fact in ("relationship", "sentiment_trend")]
    assert feelings
    for one in feelings:
        for action in SAMPLE.actions:
            if one.target.covers(action):
                assert not action.queue_priority
                assert not any(price.amount < 0 for price in action.prices)


# What docs/configuration.md shows


def examples() -> list[Any]:
    """Every YAML block of the page."""
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    return [yaml.safe_load(one) for one in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)]


def test_every_example_of_the_page_is_what_the_files_take() -> None:
    for written in examples():
        match written:
            case {"actions": actions}:
                msgspec.convert(actions, list[Action])
            case {"placements": placements}:
                msgspec.convert(placements, dict[str, Placement])
            case {"author": _}:
                msgspec.convert(written, Release)
            case _:
                msgspec.convert(written, declarations.Policies)
    assert len(examples()) > 8


def test_the_conditions_of_the_page_are_understood() -> None:
    text = [one["when"] for one in found_in(examples()) if isinstance(one.get("when"), str)]
    sources = [Source(one, "docs/configuration.md") for one in text]
    assert len(check(sources, variables.environment(SAMPLE.vocabulary))) > 5


def test_the_page_has_one_example_of_everything() -> None:
    keys = {key for one in found_in(examples()) for key in one}
    kinds = {kind for kind in declared(Business)
             if kind.__module__ in (Action.__module__, Release.__module__)}  # fmt: skip
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            assert field.encode_name in keys, f"{kind.__name__}.{field.encode_name}"


def found_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in what was read."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from found_in(one)
