"""What models see of actions, whoever the customer is. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from service.business import Business
from service.catalogue import ISSUES


def described(business: Business) -> list[Mapping[str, float]]:
    """What the catalogue says of each action, as numbers for the acceptance model."""
    vocabulary = business.vocabulary
    return [
        {
            "code": vocabulary.actions[action.name],
            "issue": ISSUES.index(action.issue),
            "group": vocabulary.groups[action.group],
            "value": action.value,
            "cost": action.cost,
        }
        for action in business.actions
    ]
