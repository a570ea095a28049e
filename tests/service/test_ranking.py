"""The loop against the arrays that it replaced, bit by bit."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from features.elementary import Floats
from features.kernels import Integers
from service.arbitration import NO_MODEL, PROBABILITY_ONLY, Arbiter, Scores
from service.business import Business
from service.catalogue import Action
from service.causes import rows_of
from service.declared import Target
from service.factors import Factors, Ranked
from service.facts import LIKELY
from service.reasons import Reason, Reasons
from service.situation import NOBODY, Situation, holds
from tests.chain import NOW
from tests.integration.serving import business as bank
from tests.service.test_arbitration import Case, cases


class Slow:
    """Ranks with arrays, a column at a time."""

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
                drawn = (k * prior + evidence * model) / np.where(total > 1e-9, total, 1.0)
                acceptance = np.where(total > 1e-9, drawn, prior)
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
        priority = np.clip(priority, -1e15, 1e15)
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


def same(fast: Ranked, slow: Ranked) -> None:
    """Every bit of every column."""
    for name, one, other in zip(Ranked._fields, fast, slow, strict=True):
        assert (one is None) is (other is None), name
        if one is not None and other is not None:
            assert one.dtype == other.dtype, name
            assert one.shape == other.shape, name
            assert one.tobytes() == other.tobytes(), name


@settings(max_examples=800, deadline=None)
@given(cases())
def test_the_loop_gives_the_bits_that_the_arrays_gave(case: Case) -> None:
    scores = case.scores
    fast = Arbiter(case.one).rank(rows_of(case.rows), scores, case.situation, case.group)
    rows = np.array(sorted(case.rows), np.int64)
    same(fast, Slow(case.one).rank(rows, scores, case.situation, case.group))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_reasons_are_those_that_every_declaration_was_asked_for(case: Case) -> None:
    fast, slow = Reasons(case.one), Slow(case.one)
    ranked = Arbiter(case.one).rank(rows_of(case.rows), case.scores, case.situation, case.group)
    for place, row in enumerate(ranked.rows.tolist()):
        asked = case.one.actions[row], ranked.factors(place), case.situation
        assert fast.of(*asked) == slow.reasons(*asked)


def large(actions: int) -> Business:
    """The sample bank, with so many actions."""
    of = bank()
    some = [
        msgspec.structs.replace(
            of.actions[n % len(of.actions)],
            name=f"{of.actions[n % len(of.actions)].name}_{n * 7919 % actions}",
            parts=[],
        )
        for n in range(actions)
    ]
    return msgspec.structs.replace(of, actions=some)


@pytest.mark.parametrize("actions", [1, 7, 8, 9, 100, 1_000])
def test_many_actions_are_ranked_alike_with_equals_and_with_no_numbers(actions: int) -> None:
    of, dice = large(actions), np.random.default_rng(actions)
    fast, slow = Arbiter(of), Slow(of)
    names = list(of.vocabulary.intents)
    for round_ in range(30):
        acceptance: Floats = np.round(dice.random(actions), int(dice.integers(0, 3)))
        acceptance[dice.random(actions) < 0.05] = math.nan
        uplift: Floats = dice.normal(0.5, 0.4, (actions, 1)) + np.array([[0.0, -0.3, 0.3]])
        uplift[dice.random(actions) < 0.1] = math.nan
        scores = Scores(acceptance, dice.integers(0, 200, actions).astype(np.float64), uplift)
        facts = {"failed_self_service": float(round_ % 2), "unresolved_contacts": 2.0}
        told = {name: float(p) for name, p in zip(names, dice.random(len(names)), strict=True)}
        prices: dict[str, Any] = {name: float(dice.random()) for name in of.policies.resources}
        situation = Situation(
            "phone", told if round_ % 3 else {}, facts, NOW, "", prices if round_ % 4 else {}
        )
        group = [NOBODY, PROBABILITY_ONLY][round_ % 5 == 0]
        rows = np.flatnonzero(dice.random(actions) < 0.8)
        same(
            fast.rank(rows_of(rows.tolist()), scores, situation, group),
            slow.rank(rows, scores, situation, group),
        )


def test_beyond_all_numbers_is_the_highest_and_no_number_is_last() -> None:
    of = large(3)
    weights = [
        msgspec.structs.replace(of.policies.context_weights[0], weight=100.0, target=Target(),
                                when=msgspec.structs.replace(of.policies.context_weights[0].when,
                                                             fact=None))
    ] * 200  # fmt: skip
    of = msgspec.structs.replace(
        of, policies=msgspec.structs.replace(of.policies, context_weights=weights, levers=[])
    )
    situation = Situation("phone", {}, {}, NOW)
    scores = Scores(np.array([0.5, 0.0, 0.5]))
    with np.errstate(all="ignore"):
        slow = Slow(of).rank(np.arange(3), scores, situation)
    fast = Arbiter(of).rank(0b111, scores, situation)
    same(fast, slow)
    assert fast.priority[0] == 1e15
    assert math.isnan(fast.priority[-1])
