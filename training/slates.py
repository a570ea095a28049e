"""Slates to learn uplift from: what was known, what was drawn, and what it was worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from features.plan import Plan, rows_of
from features.timeline import LIMIT
from service.business import Business
from training.decisions import Drawn
from training.labels import UpliftTarget
from training.replay import History, Profiles
from training.rewards import Rewards

Progress = Callable[[int], None]


class Slates(NamedTuple):
    """Slates in columns, and under them the slots that they had."""

    customers: Floats  # [slates, customer features]
    rewards: Floats  # [slates]
    moments: Integers  # [slates] milliseconds
    who: list[str]  # [slates] customer ids
    placements: list[str]  # [slates]
    held_back: npt.NDArray[np.bool_]  # [slates]
    probability: Floats  # [slates] of being held back, or of not being
    slate: Integers  # [slots] row of its slate
    action: Integers  # [slots] row of the catalogue
    chance: Floats  # [slots] that the action was drawn into the slot
    pairs: Floats  # [slots, pair features]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Slates:
        """The slates that a mask chooses, with their slots."""
        number = np.cumsum(chosen) - 1
        slots = chosen[self.slate]
        return Slates(
            self.customers[chosen],
            self.rewards[chosen],
            self.moments[chosen],
            [one for one, kept in zip(self.who, chosen, strict=True) if kept],
            [one for one, kept in zip(self.placements, chosen, strict=True) if kept],
            self.held_back[chosen],
            self.probability[chosen],
            number[self.slate[slots]],
            self.action[slots],
            self.chance[slots],
            self.pairs[slots],
        )


def of(
    drawn: Iterable[Drawn],
    target: UpliftTarget,
    plan: Plan,
    business: Business,
    histories: Iterable[History],
    progress: Progress,
) -> Slates:
    """Lay out every slate whose window has ended with the log.

    A vector that was logged is taken as it is, any other computed anew from what had occurred.

    Args:
        drawn: Slates, grouped by customer.
        target: The reward and its window.
        plan: Compiled definitions.
        business: Whose actions; a slate with one that has left the catalogue is left out.
        histories: All customers of the log.
        progress: Told 1 after each customer.
    """
    codes = business.vocabulary.actions
    rewards = Rewards(target, {codes[one.name]: one.value for one in business.actions})
    histories = list(histories)
    newest = [int(one.records["occurred_at"][-1]) for one in histories if len(one.records)]
    ripe = max(newest, default=0) - rewards.span
    known = {who: list(slates) for who, slates in groupby(drawn, lambda one: one.customer_id)}
    kept: list[Drawn] = []
    vectors, worth, pairs = [], [], []
    for history in histories:
        slates = [
            one
            for one in known.get(history.customer_id, ())
            if one.moment <= ripe and all(slot.action in business.rows for slot in one.slots)
        ]
        moments = np.array([one.moment for one in slates], np.int64)
        worth.append(rewards(history.records, moments))
        profile = Profiles(history)
        for one in slates:
            before = int(np.searchsorted(history.records["occurred_at"], one.moment, side="left"))
            view = history.records[max(0, before - LIMIT) : before]
            vector = one.vector
            if vector is None:
                vector = plan.customer(view, profile(one.moment), one.context, one.moment)
            candidates = rows_of([codes[slot.action] for slot in one.slots])
            vectors.append(vector)
            pairs.append(plan.pairs(view, one.moment, candidates, len(one.slots)))
            kept.append(one)
        progress(1)
    return Slates(
        np.array(vectors, np.float64).reshape(len(kept), len(plan.customer_features)),
        np.concatenate([np.empty(0), *worth]),
        np.array([one.moment for one in kept], np.int64),
        [one.customer_id for one in kept],
        [one.placement for one in kept],
        np.array([one.held_back for one in kept], bool),
        np.array([one.probability for one in kept], np.float64),
        np.repeat(np.arange(len(kept)), [len(one.slots) for one in kept]),
        np.array([business.rows[s.action] for one in kept for s in one.slots], np.int64),
        np.array([slot.probability for one in kept for slot in one.slots], np.float64),
        np.concatenate([np.empty((0, len(plan.pair_features))), *pairs]),
    )
