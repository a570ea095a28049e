"""Rank the actions that passed the filters, all of them at once. Pure.

priority = acceptance probability x value x context weight x lever, or, where an issue ranks by
uplift, (uplift - costs) x context weight x lever. The acceptance probability is the model's, drawn
towards the declared prior as long as there is little evidence: (k x prior + n x model) / (k + n),
the mean of a beta distribution whose prior weighs k presentations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.business import Business
from service.catalogue import Action
from service.declared import Target, When
from service.facts import LIKELY

NOBODY: Final = ""
"""Segment of a customer of whom none is known, and control group of those who are in none."""

_LEAST: Final = 1e-9  # evidence
_HIGHEST: Final = 1e15  # priority: weights of 100 may multiply beyond all numbers

RANDOM, PROBABILITY_ONLY, NO_MODEL, HOLD_OUT = "random", "probability_only", "no_model", "hold_out"


class Reason(NamedTuple):
    """One reason, for machines and for people."""

    code: str
    text: str


class Factors(NamedTuple):
    """The numbers that rank an action."""

    acceptance_probability: float
    value: float
    context_weight: float
    lever: float
    priority: float
    model: float | None = None
    evidence: float | None = None
    capacity: float = 0.0
    uplift: tuple[float, float, float] | None = None  # mean, low, high


class Situation(NamedTuple):
    """What context weights look at, and what scarce resources cost."""

    channel: str
    intents: Mapping[str, float]  # probability of each; empty where none was scored
    facts: Mapping[str, float]  # magnitudes; empty without a timeline
    now: int  # milliseconds
    segment: str = NOBODY
    prices: Mapping[str, float] = {}  # shadow prices by resource


class Scores(NamedTuple):
    """What the models say of every row of the catalogue."""

    acceptance: Floats | None = None
    evidence: Floats | None = None  # presentations learnt from; None: not told
    uplift: Floats | None = None  # [rows, 3] mean, low, high


class Ranked(NamedTuple):
    """Some rows of the catalogue with their numbers, best first."""

    rows: Integers
    acceptance: Floats
    value: Floats
    capacity: Floats
    context_weight: Floats
    lever: Floats
    priority: Floats
    model: Floats | None = None
    evidence: Floats | None = None
    uplift: Floats | None = None

    def factors(self, place: int) -> Factors:
        """The numbers of one of them."""
        uplift = None if self.uplift is None else tuple(self.uplift[place].tolist())
        return Factors(
            float(self.acceptance[place]),
            float(self.value[place]),
            float(self.context_weight[place]),
            float(self.lever[place]),
            float(self.priority[place]),
            None if self.model is None else float(self.model[place]),
            None if self.evidence is None else float(self.evidence[place]),
            float(self.capacity[place]),
            None if uplift is None or uplift[0] != uplift[0] else uplift,
        )


def holds(when: When, situation: Situation) -> bool:
    """Whether a context weight's situation is at hand."""
    if when.channel is not None and when.channel != situation.channel:
        return False
    if when.intent is not None and situation.intents.get(when.intent, 0.0) < when.at_least:
        return False
    if when.fact is None:
        return True
    magnitude = situation.facts.get(when.fact, float("nan"))
    return magnitude >= when.magnitude if when.magnitude >= 0 else magnitude <= when.magnitude


class Arbiter:
    """Ranks the actions of one configuration."""

    def __init__(self, business: Business) -> None:
        self._business = business
        actions, policies = business.actions, business.policies
        self._prior = np.array([action.prior for action in actions], np.float64)
        self._worth = np.array(
            [
                policies.evidence if action.evidence is None else action.evidence
                for action in actions
            ],
            np.float64,
        )
        self._cost = np.array([action.cost for action in actions], np.float64)
        self._values = {name: self._value(name) for name in (NOBODY, *_segments(business))}
        self._uses = {
            resource: np.array([action.uses.get(resource, 0.0) for action in actions])
            for resource in policies.resources
        }
        self._by_name = np.argsort(np.argsort([action.name for action in actions]))
        self._intents = list(business.vocabulary.intents)
        self._answers = self._answering()
        self._weights = [
            (one, self._factor(one.target, one.weight)) for one in policies.context_weights
        ]
        self._levers = [(one, self._factor(one.target, one.factor)) for one in policies.levers]
        self._by_uplift = np.array(
            [
                action.issue in policies.ranking and policies.ranking[action.issue].by == "uplift"
                for action in actions
            ],
            bool,
        )

    @property
    def ranks_by_uplift(self) -> bool:
        """Whether any action is ranked by uplift."""
        return bool(self._by_uplift.any())

    def _value(self, segment: str) -> Floats:
        """What each action's wanted outcome is worth to all goals, in one currency, less cost."""
        first, *_ = self._business.policies.goals
        worth = {
            name: goal.worth * goal.weights.get(segment, 1.0)
            for name, goal in self._business.policies.goals.items()
        }
        return np.array(
            [
                worth[first] * action.value
                + sum(worth[name] * amount for name, amount in action.goals.items())
                - action.cost
                for action in self._business.actions
            ],
            np.float64,
        )

    def _answering(self) -> Integers:
        """[actions, most] places of the intents that each answers; the last place is nobody's."""
        places = {name: place for place, name in enumerate(self._intents)}
        most = max((len(action.intents) for action in self._business.actions), default=0)
        found = np.full((len(self._business.actions), max(1, most)), len(places), np.int64)
        for row, action in enumerate(self._business.actions):
            found[row, : len(action.intents)] = [places[name] for name in action.intents]
        return found

    def _factor(self, target: Target, factor: float) -> Floats:
        return np.array(
            [factor if target.covers(action) else 1.0 for action in self._business.actions]
        )

    def rank(
        self, rows: Integers, scores: Scores, situation: Situation, group: str = NOBODY
    ) -> Ranked:
        """Rank actions by priority, highest first; equal ones by name.

        Args:
            rows: Rows of the catalogue that passed the filters.
            scores: What the models say.
            situation: What the customer's chain and the contact look like.
            group: Control group of the customer.
        """
        if group == NO_MODEL:
            scores = Scores()
        prior = self._prior[rows]
        model = evidence = uplift = None
        acceptance = prior
        if scores.acceptance is not None:
            acceptance = model = scores.acceptance[rows]
            if scores.evidence is not None:
                evidence, k = scores.evidence[rows], self._worth[rows]
                total = k + evidence
                drawn = (k * prior + evidence * model) / np.where(total > _LEAST, total, 1.0)
                acceptance = np.where(total > _LEAST, drawn, prior)
        capacity = np.zeros(len(rows))
        for resource, price in situation.prices.items():
            if price:
                capacity += self._uses[resource][rows] * price
        value = self._values.get(situation.segment, self._values[NOBODY])[rows] - capacity
        weight, lever = self._weigh(situation)[rows], self._lift(situation.now)[rows]
        priority = acceptance * value * weight * lever
        if scores.uplift is not None and self.ranks_by_uplift:
            uplift = scores.uplift[rows]
            by_uplift = self._by_uplift[rows] & ~np.isnan(uplift[:, 0])
            mean, low = uplift[:, 0], uplift[:, 1]
            # One that may do harm ranks below doing nothing, however good it looks on average.
            reward = np.where(low < 0, low, mean - self._cost[rows] - capacity)
            priority = np.where(by_uplift, reward * weight * lever, priority)
            uplift = np.where(by_uplift[:, None], uplift, np.nan)
        if group == PROBABILITY_ONLY:
            priority = np.where(priority > 0, acceptance, priority)
        priority = np.clip(priority, -_HIGHEST, _HIGHEST)
        order = np.lexsort((self._by_name[rows], -priority))
        return Ranked(
            rows[order],
            acceptance[order],
            value[order],
            capacity[order],
            weight[order],
            lever[order],
            priority[order],
            None if model is None else model[order],
            None if evidence is None else evidence[order],
            None if uplift is None else uplift[order],
        )

    def _weigh(self, situation: Situation) -> Floats:
        """Context weight of every action."""
        weight = np.ones(len(self._business.actions))
        if situation.intents:
            chances = np.zeros(len(self._intents) + 1)
            chances[:-1] = [situation.intents.get(name, 0.0) for name in self._intents]
            match = self._business.policies.intent_match
            likeliest = chances[self._answers].max(axis=1)
            answers = self._answers[:, 0] < len(self._intents)
            matched = match.floor + (match.ceiling - match.floor) * likeliest
            weight = np.where(answers, matched, 1.0)
        else:  # nobody knows why they are here: what answers something special is a guess
            special = self._answers[:, 0] < len(self._intents)
            weight = np.where(special, self._business.policies.intent_match.floor, 1.0)
        for one, factor in self._weights:
            if holds(one.when, situation):
                weight = weight * factor
        return weight

    def _lift(self, now: int) -> Floats:
        """Lever of every action."""
        lever = np.ones(len(self._business.actions))
        for one, factor in self._levers:
            start, end = one.valid.milliseconds
            if start <= now <= end:
                lever = lever * factor
        return lever

    def reasons(self, action: Action, factors: Factors, situation: Situation) -> list[Reason]:
        """Why an action is shown, strongest first."""
        found: list[tuple[float, Reason]] = []
        policies, vocabulary = self._business.policies, self._business.vocabulary
        if action.intents and situation.intents:
            chance, name = max((situation.intents.get(one, 0.0), one) for one in action.intents)
            match = policies.intent_match
            text = f"They are here about {vocabulary.intents[name].title!r}"
            strength = match.floor + (match.ceiling - match.floor) * chance
            if chance >= LIKELY:
                told = Reason("INTENT_MATCH", f"{text} with {chance:.0%} probability")
                found.append((strength, told))
        for weight in policies.context_weights:
            if weight.target.covers(action) and holds(weight.when, situation):
                found.append((weight.weight, Reason("CONTEXT_WEIGHT", weight.reason)))
        for lever in policies.levers:
            start, end = lever.valid.milliseconds
            if lever.target.covers(action) and start <= situation.now <= end:
                found.append((lever.factor, Reason("LEVER", f"Campaign {lever.name}")))
        probability = factors.acceptance_probability
        lift = probability / action.prior if action.prior else 1.0
        if lift >= 1.2:
            text = f"{lift:.1f} times as likely to be accepted as usual ({probability:.0%})"
            found.append((lift, Reason("LIKELY_ACCEPTED", text)))
        if factors.uplift is not None:
            mean, low, high = factors.uplift
            text = f"Brings {mean:.2f} more than doing nothing ({low:.2f} to {high:.2f})"
            found.append((1.0, Reason("UPLIFT", text)))
        else:
            found.append((1.0, Reason("VALUE", f"Worth {factors.value:.2f} when accepted")))
        if action.mandatory:
            found.append((1e9, Reason("MANDATORY", "It must be shown whenever it qualifies")))
        strongest = sorted(found, key=lambda pair: -pair[0])
        return [reason for strength, reason in strongest if strength >= 1]


def _segments(business: Business) -> list[str]:
    by = business.policies.segment_by
    return [] if by is None else list(business.vocabulary.attributes[by].values)
