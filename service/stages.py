"""The rules of a configuration, stage by stage, as causes over sets of actions. Pure.

Nothing is evaluated here: a rule is a place among the conditions, and the cause where it fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.causes import Cause, Rows
from service.conditions import Conditions

STAGES: Final = (
    (pb.STAGE_ELIGIBILITY, "eligibility"),
    (pb.STAGE_APPLICABILITY, "applicability"),
    (pb.STAGE_SUITABILITY, "suitability"),
)
"""The stages that have rules, in their order, with their names."""


def rules(business: Business, conditions: Conditions) -> Iterable[tuple[int, Cause]]:
    """Every rule with the actions that it is about, once for each way it turns out.

    In the order in which they are declared, the actions' own last.

    Args:
        business: Declares them.
        conditions: Places theirs.
    """
    for stage, name in STAGES:
        found: dict[tuple[str, str, int], Rows] = {}
        declared = [
            (one.rule, row)
            for one in getattr(business.policies.rules, name)
            for row, action in enumerate(business.actions)
            if one.target.covers(action)
        ]
        declared += [
            (rule, row)
            for row, action in enumerate(business.actions)
            for rule in getattr(action, name)
        ]
        for rule, row in declared:
            at = (rule.name, rule.reason, conditions.place(rule.when, row))
            found[at] = found.get(at, 0) | 1 << row
        for (rule_name, reason, condition), actions in found.items():
            yield condition, Cause(stage, "RULE", reason, actions, rule_name)
