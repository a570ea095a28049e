"""What models see of actions, whoever the customer is. Pure.

A row is laid out once for each action, and a customer's own columns are put in. Nothing is scored
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from features.definitions import felt
from features.elementary import Floats
from features.kernels import Integers
from features.plan import Plan
from service import forest
from service.business import Business
from service.catalogue import ISSUES
from service.sight import Seen


class Usual(NamedTuple):
    """What the models see of actions, whoever the customer is."""

    rows: Floats  # [actions, names of the plan], the customer's columns come first
    features: int  # of the customer
    pair_at: int  # column of the first feature of customer and action
    hiding: Integers  # [actions] 1: it is not seen how the customer feels
    felt: Integers  # columns that say so

    @property
    def kinds(self) -> Integers:
        """Of which kind each column is, for :func:`service.forest.compile`."""
        kinds = np.full(self.rows.shape[1], forest.PAIR, np.int64)
        kinds[: self.pair_at] = forest.ACTION
        kinds[: self.features] = forest.CUSTOMER
        return kinds

    def row(self, seen: Seen, row: int) -> Floats:
        """All that the models see of one action: [names of the plan]."""
        told: Floats = self.rows[row].copy()
        told[: self.features] = seen.vector
        touched = seen.touched.tolist()
        if row in touched:
            told[self.pair_at :] = seen.pairs[touched.index(row)]
        if self.hiding[row]:
            told[self.felt] = np.nan
        return told


def laid_out(plan: Plan, business: Business) -> Usual:
    """Lay out the rows of a catalogue for the models of a plan."""
    customers = len(plan.customer_features)
    pair_at = customers + len(plan.action_features)
    rows = np.empty((len(business.actions), len(plan.names)))
    rows[:, :customers] = np.nan
    rows[:, customers:pair_at] = plan.actions(described(business))
    rows[:, pair_at:] = plan.pair_defaults
    hiding = np.array([bool(action.queue_priority) for action in business.actions], np.int64)
    return Usual(rows, customers, pair_at, hiding, feelings(plan))


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


def feelings(plan: Plan) -> Integers:
    """Columns that say how the customer feels: absent for actions that move somebody ahead."""
    names = {feature.name for feature in plan.definitions.features if felt(feature)}
    return np.array([i for i, name in enumerate(plan.names) if name in names], np.int64)
