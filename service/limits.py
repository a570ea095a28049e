"""What limits and suppressions count, as keys of one pass over a ledger. Pure.

Laid out when the configuration loads; what the counts mean for a customer is said elsewhere:
:mod:`service.choosing` for a decision, :mod:`service.contacts` for whoever asks why.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from features import duration, usage
from features.record import Records
from features.usage import Counting, Counts
from features.vocabulary import Outcome
from service.business import Business
from service.catalogue import Action
from service.causes import Rows
from service.declared import Limit, Suppression, outcome_code


class Key(NamedTuple):
    """What a limit or a suppression counts for."""

    declared: Limit | Suppression
    holds_on: int  # code of the channel; 0: on every channel
    actions: Rows

    @property
    def room(self) -> int:
        """How many there may be before one more is too many."""
        one = self.declared
        if isinstance(one, Limit):
            return one.at_most - (one.outcome == "presented")
        return 2**62

    @property
    def within(self) -> int:
        """Its window in milliseconds."""
        return duration.milliseconds(self.declared.within)

    @property
    def shows(self) -> bool:
        """Whether it limits showing."""
        return isinstance(self.declared, Limit) and self.declared.outcome == "presented"


class Limits:
    """The limits and suppressions of one configuration.

    Args:
        business: Declares them.

    Attributes:
        keys: One for each thing that is counted, in the order of the declarations.
        counting: The same for :func:`features.usage.count`.
    """

    def __init__(self, business: Business) -> None:
        self._business = business
        self.keys: list[Key] = []
        self.counting = self._compiled()

    def counted(self, records: Records | None, now: int) -> Counts | None:
        """Count a ledger; None where there is none to read, or nothing to count."""
        if records is None or not self.keys:
            return None
        return usage.count(records, now, self.counting)

    def _compiled(self) -> Counting:
        """Find the keys, and where each outcome of each action is counted."""
        business, vocabulary, keys = self._business, self._business.vocabulary, self.keys
        actions = max(vocabulary.actions.values(), default=0) + 1
        by_place: dict[int, list[int]] = {}
        for one in _declared(business):
            own = vocabulary.channels[one.channel] if isinstance(one, Limit) and one.channel else 0
            every = one.per == "channel" and not own
            for channel in vocabulary.channels.values() if every else [own]:
                by_name: dict[str, int] = {}
                for row, action in enumerate(business.actions):
                    if not one.target.covers(action):
                        continue
                    name = _counted_for(one, action)
                    if name not in by_name:
                        by_name[name] = len(keys)
                        keys.append(Key(one, channel, 0))
                    number = by_name[name]
                    keys[number] = keys[number]._replace(actions=keys[number].actions | 1 << row)
                    place = outcome_code(one.outcome) * actions + vocabulary.actions[action.name]
                    by_place.setdefault(place, []).append(number)
        self._count_bundles(by_place, actions)
        first = np.zeros(usage.OUTCOMES * actions + 1, np.int64)
        flat: list[int] = []
        for place in range(usage.OUTCOMES * actions):
            flat += dict.fromkeys(by_place.get(place, ()))
            first[place + 1] = len(flat)
        return Counting(
            actions,
            first,
            np.array(flat, np.int64),
            np.array([key.holds_on for key in keys], np.int64),
            np.array([key.within for key in keys], np.int64),
            np.array([_after(key.declared) for key in keys], np.int64),
            np.array([_lasts(key.declared) for key in keys], np.int64),
        )

    def _count_bundles(self, by_place: dict[int, list[int]], actions: int) -> None:
        """Showing a bundle counts for its parts too."""
        vocabulary = self._business.vocabulary
        for action in self._business.actions:
            for part in action.parts:
                for outcome in range(usage.OUTCOMES):
                    counts = by_place.get(outcome * actions + vocabulary.actions[part], [])
                    place = outcome * actions + vocabulary.actions[action.name]
                    by_place.setdefault(place, []).extend(counts)


def counted_outcomes(business: Business) -> frozenset[int]:
    """Outcomes that something counts: events with these go to the ledger."""
    counted = {outcome_code(one.outcome) for one in _declared(business)}
    return frozenset(counted) | {int(Outcome.presented)}


def _declared(business: Business) -> list[Limit | Suppression]:
    return [*business.policies.limits, *business.policies.suppressions]


def _counted_for(one: Limit | Suppression, action: Action) -> str:
    match one.per:
        case "action":
            return action.name
        case "group":
            return action.group
        case "issue":
            return action.issue
        case "channel" | "customer":
            return ""


def _after(one: Limit | Suppression) -> int:
    return one.after if isinstance(one, Suppression) else 0


def _lasts(one: Limit | Suppression) -> int:
    return duration.milliseconds(one.lasts) if isinstance(one, Suppression) else 0
