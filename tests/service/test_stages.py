from __future__ import annotations

from typing import Any

import pytest

from rapport.v1 import decision_pb2 as pb
from service.causes import Cause, rows_of
from service.declared import StageRule, StageRules, Target
from service.policies import Policies
from tests.business import ACTIONS, action, business, rule
from tests.service.circumstances import (
    causes,
    circumstances,
    codes,
    only,
)


def test_a_rule_that_does_not_hold_gives_its_reason() -> None:
    policies = Policies(business([action(eligibility=[rule("customer.age >= 18.0", "adult")])]))
    assert causes(policies, values={"customer": {"age": 18.0}}) == []
    cause = only(policies, values={"customer": {"age": 17.0}})
    assert cause == Cause(pb.STAGE_ELIGIBILITY, "RULE", "It does not fit", 1, "adult")


def test_a_rule_that_cannot_be_evaluated_does_not_hold_and_says_why() -> None:
    policies = Policies(business([action(suitability=[rule("customer.age >= 18.0", "adult")])]))
    cause = only(policies, values={})
    assert (cause.stage, cause.code) == (pb.STAGE_SUITABILITY, "RULE_UNKNOWN")
    assert cause.name == "adult"
    assert cause.text == "Cannot tell, since customer.age is not known (rule adult)"


@pytest.mark.parametrize(
    ("target", "dropped"),
    [
        (Target(), {"discount", "callback", "tablet", "insurance"}),
        (Target(issue="grow"), {"discount", "tablet", "insurance"}),
        (Target(group="care"), {"callback", "insurance"}),
        (Target(action="tablet"), {"tablet"}),
        (Target(issue="grow", group="care"), {"insurance"}),
        (Target(action="tablet", group="care"), set()),
    ],
)
@pytest.mark.parametrize("stage", ["eligibility", "applicability", "suitability"])
def test_a_rule_is_about_the_issue_group_or_action_that_it_names(
    target: Target, dropped: set[str], stage: str
) -> None:
    staged = StageRules(**{stage: [StageRule(rule("context.channel == 'chat'"), target)]})
    policies = Policies(business(rules=staged))
    values: Any = {"context": {"channel": "phone"}}
    assert {one.name for one in ACTIONS if codes(policies, one.name, values=values)} == dropped
    for name in dropped:
        assert only(policies, name, values=values).stage == pb.Stage.Value(f"STAGE_{stage.upper()}")
    values = {"context": {"channel": "chat"}}
    assert policies.filtered(circumstances(policies, values=values)).causes == []


def test_one_rule_over_many_actions_is_one_cause_for_each_way_it_turns_out() -> None:
    staged = StageRules(suitability=[StageRule(rule("action.value < 20.0 || customer.member"))])
    policies = Policies(business(rules=staged))
    values: Any = {"customer": {"member": False}}
    (cause,) = policies.filtered(circumstances(policies, values=values)).causes
    assert cause.actions == rows_of([2, 3])


def test_rules_of_a_stage_come_as_they_are_declared_whatever_the_catalogue_begins_with() -> None:
    never = "customer.age < 0.0"
    staged = [
        StageRule(rule(never, "first"), Target(action="tablet")),
        StageRule(rule(never, "second")),
        StageRule(rule(never, "third"), Target(action="tablet")),
    ]
    actions = [
        action("discount", suitability=[rule(never, "own")]),
        action("tablet", suitability=[rule(never, "own"), rule(never, "last")]),
    ]
    for some in (actions, actions[::-1]):
        policies = Policies(business(some, rules=StageRules(suitability=staged)))
        found = causes(policies, "tablet", values={})
        assert [cause.name for cause in found] == ["first", "second", "third", "own", "last"]
