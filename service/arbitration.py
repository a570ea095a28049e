"""Rank the actions that passed the filters, all of them at once. Pure.

priority = acceptance probability x value x context weight x lever, or, where an issue ranks by
uplift, (uplift - costs) x context weight x lever. The acceptance probability is the model's, drawn
towards the declared prior as long as there is little evidence: (k x prior + n x model) / (k + n),
the mean of a beta distribution whose prior weighs k presentations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import ranking
from service.business import Business
from service.causes import Rows
from service.declared import Target
from service.factors import Ranked
from service.facts import PLACES
from service.situation import NOBODY, Situation

RANDOM, PROBABILITY_ONLY, NO_MODEL, HOLD_OUT = "random", "probability_only", "no_model", "hold_out"


class Scores(NamedTuple):
    """What the models say of every row of the catalogue."""

    acceptance: Floats | None = None
    evidence: Floats | None = None  # presentations learnt from; None: not told
    uplift: Floats | None = None  # [rows, 3] mean, low, high


_NO_SCORES: Final = Scores()
_NONE: Final = np.empty(0)
_NO_UPLIFT: Final = np.empty((0, 3))
_OTHER: Final = -2.0  # a channel that no context weight names
_UNKNOWN: Final = float("nan")


class Arbiter:
    """Ranks the actions of one configuration.

    Attributes:
        catalogue: What :func:`service.ranking.rank` has to know of each row.
        columns: Numbers of the actions that depend on no customer.
        conditions: When each context weight holds.
        intents: Names of the intents that actions answer or context weights name.
        facts_at: Where the facts stand that context weights name, among those of the journey.
        match: Weight of an action that answers an intent at 0 %, and what it gains until 100 %.
        ranks_by_uplift: Whether any action is ranked so.
    """

    def __init__(self, business: Business) -> None:
        self._business = business
        actions, policies = business.actions, business.policies
        weights = policies.context_weights
        names = [one for action in actions for one in action.intents]
        names += [one.when.intent for one in weights if one.when.intent is not None]
        self.intents = list(dict.fromkeys(names))
        self._facts = list(
            dict.fromkeys(one.when.fact for one in weights if one.when.fact is not None)
        )
        self.facts_at = [PLACES[name] for name in self._facts]
        self._channels = {
            name: float(code)
            for code, name in enumerate(
                dict.fromkeys(one.when.channel for one in weights if one.when.channel is not None)
            )
        }
        self.conditions = self._conditioned()
        by_uplift = [
            action.issue in policies.ranking and policies.ranking[action.issue].by == "uplift"
            for action in actions
        ]
        self.ranks_by_uplift = any(by_uplift)
        self.catalogue = ranking.catalogue(
            [action.name for action in actions], by_uplift, self._answering()
        )
        self._segments = {name: at for at, name in enumerate((NOBODY, *_segments(business)))}
        self._moments, levers = self._lifted()
        factors = [self._factor(one.target, one.weight) for one in weights]
        uses = [[one.uses.get(name, 0.0) for one in actions] for name in policies.resources]
        values = [self._value(name) for name in self._segments]
        described = [
            [action.prior for action in actions],
            [
                policies.evidence if action.evidence is None else action.evidence
                for action in actions
            ],
            [action.cost for action in actions],
        ]
        self.columns = np.array([*described, *factors, *uses, *values, *levers], np.float64)
        first = ranking.REST + len(factors)
        self._uses = {name: first + at for at, name in enumerate(policies.resources)}
        self._first_value = first + len(uses)
        self._first_lever = self._first_value + len(values)
        self._width = (len(actions) + 7) // 8
        match = policies.intent_match
        self.match = (match.floor, match.ceiling - match.floor)

    def _value(self, segment: str) -> list[float]:
        """What each action's wanted outcome is worth to all goals, in one currency, less cost."""
        first, *_ = self._business.policies.goals
        worth = {
            name: goal.worth * goal.weights.get(segment, 1.0)
            for name, goal in self._business.policies.goals.items()
        }
        return [
            worth[first] * action.value
            + sum(worth[name] * amount for name, amount in action.goals.items())
            - action.cost
            for action in self._business.actions
        ]

    def _answering(self) -> Integers:
        """[actions, most] places of the intents that each answers; the last place is nobody's."""
        places = {name: place for place, name in enumerate(self.intents)}
        most = max((len(action.intents) for action in self._business.actions), default=0)
        found = np.full((len(self._business.actions), max(1, most)), len(places), np.int64)
        for row, action in enumerate(self._business.actions):
            found[row, : len(action.intents)] = [places[name] for name in action.intents]
        return found

    def _conditioned(self) -> Floats:
        """[context weights, 5] when each holds, in places."""
        found = [
            [
                -1.0 if when.channel is None else self._channels[when.channel],
                -1.0 if when.intent is None else self.intents.index(when.intent),
                when.at_least,
                -1.0 if when.fact is None else self._facts.index(when.fact),
                when.magnitude,
            ]
            for when in (one.when for one in self._business.policies.context_weights)
        ]
        return np.array(found, np.float64).reshape(-1, 5)

    def _lifted(self) -> tuple[list[int], list[list[float]]]:
        """The moments at which levers change, and every action's before the first and from each."""
        levers = self._business.policies.levers
        spans = [one.valid.milliseconds for one in levers]
        moments = sorted({*(start for start, _ in spans), *(end + 1 for _, end in spans)})
        found = [[1.0] * len(self._business.actions)]
        for moment in moments:
            lever = np.ones(len(self._business.actions))
            for one, (start, end) in zip(levers, spans, strict=True):
                if start <= moment <= end:
                    lever = lever * self._factor(one.target, one.factor)
            found.append(lever.tolist())
        return moments, found

    def _factor(self, target: Target, factor: float) -> list[float]:
        return [factor if target.covers(action) else 1.0 for action in self._business.actions]

    def rank(self, rows: Rows, scores: Scores, situation: Situation, group: str = NOBODY) -> Ranked:
        """Rank actions by priority, highest first; equal ones by name.

        Args:
            rows: Rows of the catalogue that passed the filters.
            scores: What the models say.
            situation: What the customer's chain and the contact look like.
            group: Control group of the customer.
        """
        acceptance, evidence, uplift = _NO_SCORES if group == NO_MODEL else scores
        if acceptance is None:
            evidence = None
        if not self.ranks_by_uplift:
            uplift = None
        count = rows.bit_count()
        out = np.empty((ranking.UPLIFT if uplift is None else ranking.UPLIFT + 3, count))
        ranking.rank(
            self.catalogue,
            self.columns,
            self.conditions,
            np.frombuffer(rows.to_bytes(self._width, "little"), np.uint8),
            self._asked(situation),
            _NONE if acceptance is None else acceptance,
            _NONE if evidence is None else evidence,
            _NO_UPLIFT if uplift is None else uplift,
            self.value_column(situation.segment),
            self.lever_column(situation.now),
            group == PROBABILITY_ONLY,
            out,
        )
        return Ranked(
            out[ranking.ROW].view(np.int64),
            out[ranking.ACCEPTANCE],
            out[ranking.VALUE],
            out[ranking.CAPACITY],
            out[ranking.WEIGHT],
            out[ranking.LEVER],
            out[ranking.PRIORITY],
            None if acceptance is None else out[ranking.MODEL],
            None if evidence is None else out[ranking.EVIDENCE],
            None if uplift is None else out[ranking.UPLIFT :].reshape(count, 3),
        )

    def channel(self, name: str) -> float:
        """Place of a channel among those that context weights name."""
        return self._channels.get(name, _OTHER)

    def value_column(self, segment: str) -> int:
        """Column of what actions are worth to a segment."""
        return self._first_value + self._segments.get(segment, 0)

    def lever_column(self, now: int) -> int:
        """Column of the levers at a moment, in milliseconds."""
        return self._first_lever + bisect_right(self._moments, now)

    def priced(self, prices: Mapping[str, float]) -> list[float]:
        """Column and price of each resource that costs anything, in turns."""
        found: list[float] = []
        for resource, price in prices.items():
            if price:
                found += self._uses[resource], price
        return found

    def _asked(self, situation: Situation) -> Floats:
        """What the loop has to know of the situation, see :func:`service.ranking.rank`."""
        intents, facts = situation.intents, situation.facts
        prices = self.priced(situation.prices)
        return np.array(
            [
                self.channel(situation.channel),
                *self.match,
                bool(intents),
                len(self.intents) + 1,
                len(self._facts),
                len(prices),
                *[intents.get(name, 0.0) for name in self.intents],
                0.0,
                *[facts.get(name, _UNKNOWN) for name in self._facts],
                *prices,
            ]
        )


def _segments(business: Business) -> list[str]:
    by = business.policies.segment_by
    return [] if by is None else list(business.vocabulary.attributes[by].values)
