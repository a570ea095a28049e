"""The reference pipeline: the same decision slowly, one action and one rule at a time. Pure.

It shares declarations, features and facts with what it checks, and no step after them: LightGBM
scores, CEL's own engine evaluates each rule alone, limits are counted record by record, priorities
are multiplied as the documents say, and the draw is done anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import lightgbm
import numpy as np
from cel_expr_python import cel
from google.protobuf import descriptor_pool

from features import journey
from features.duration import milliseconds
from features.elementary import Floats
from features.plan import Context, Plan, rows_of
from features.profile import Profile
from features.record import RESERVED, Records
from features.vocabulary import Outcome
from service import bundle as bundles
from service import facts, variables
from service.bundle import Bundle
from service.business import Business
from service.catalogue import Action
from service.declared import Limit, Suppression, When, outcome_code
from service.usual import described
from tests.bench.learn import EVIDENCE
from tests.bench.reference import CHANNEL, PLACEMENT


class Person(NamedTuple):
    """A customer as a decision saw them."""

    records: Records
    ledger: Records
    profile: Profile


class Candidate(NamedTuple):
    """An action that passed every stage, with what ranks it."""

    action: Action
    model: float
    acceptance: float
    value: float
    context_weight: float
    lever: float

    @property
    def priority(self) -> float:
        """What ranks it."""
        return self.acceptance * self.value * self.context_weight * self.lever


class Slow(NamedTuple):
    """A decision: what was seen, ranked, and drawn."""

    vector: Floats
    intents: dict[str, float]
    ranked: list[Candidate]  # best first
    drawn: list[tuple[str, float]]  # actions with their probabilities
    probability: float  # of the slate


class _Seen(NamedTuple):
    """What rules and weights look at."""

    roots: dict[str, Any]
    intents: dict[str, float]
    facts: dict[str, float]
    segment: str


class Reference:
    """Decides for the reference business and its one placement.

    Args:
        business: The configuration.
        bundle: The models.
    """

    def __init__(self, business: Business, bundle: Bundle) -> None:
        self._business = business
        self._acceptance = lightgbm.Booster(model_str=bundle.files[bundles.ACCEPTANCE].decode())
        self._intent = lightgbm.Booster(model_str=bundle.files[bundles.INTENT].decode())
        self._plan = Plan(business.definitions, business.vocabulary)
        self._described = self._plan.actions(described(business))
        codes = [business.vocabulary.actions[one.name] for one in business.actions]
        self._row_of = rows_of(codes)
        self._zone = ZoneInfo(business.definitions.time_zone)
        self._engine = cel.NewEnv(
            descriptor_pool.DescriptorPool(),
            variables={
                root: cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
                for root in variables.environment(business.vocabulary).roots
            },
        )
        self._programs: dict[str, Any] = {}

    def decide(self, person: Person, now: int, seed: int, prices: Mapping[str, float]) -> Slow:
        """Answer anew.

        Args:
            person: Who they were then.
            now: Milliseconds.
            seed: Of the draw.
            prices: Of scarce resources, then.
        """
        context = Context(self._business.vocabulary.channels[CHANNEL], 1)
        vector = self._plan.customer(person.records, person.profile, context, now)
        intents = self._intents(vector)
        told = facts.magnitudes(journey.read(person.records, now, self._plan.lens).values.tolist())
        ranked_intents = sorted(intents.items(), key=lambda one: (-one[1], one[0]))
        seen = _Seen(
            {
                "customer": variables.of_customer(person.profile),
                "context": variables.of_context(
                    {}, {}, channel=CHANNEL, direction=1, assurance=3, now=now, zone=self._zone
                ),
                "journey": variables.of_journey(told),
                "intent": variables.of_intents(ranked_intents),
            },
            intents,
            told,
            str(person.profile.attributes["segment"].value),
        )
        scores = self._scores(vector, person.records, now)
        ranked = [
            self._candidate(action, scores[row], seen, prices)
            for row, action in enumerate(self._business.actions)
            if self._qualifies(action, person, seen, now)
        ]
        ranked.sort(key=lambda one: (-one.priority, one.action.name))
        drawn, probability = self._draw(ranked, _splitmix(seed))
        return Slow(vector, intents, ranked, drawn, probability)

    def _intents(self, vector: Floats) -> dict[str, float]:
        row = vector[self._plan.columns("intent")].reshape(1, -1)
        raised = np.exp(self._intent.predict(row, raw_score=True, num_threads=1)[0])
        chances = raised / raised.sum()
        names = self._business.vocabulary.names["intents"]
        return {names[code]: float(chances[code - 1]) for code in sorted(names)}

    def _scores(self, vector: Floats, records: Records, now: int) -> list[float]:
        """What the model says of every action."""
        actions = len(self._business.actions)
        pairs = self._plan.pairs(records, now, self._row_of, actions)
        rows = np.column_stack([np.tile(vector, (actions, 1)), self._described, pairs])
        seen = np.ascontiguousarray(rows[:, self._plan.columns("acceptance")])
        odds = np.asarray(self._acceptance.predict(seen, raw_score=True, num_threads=1))
        return [1 / (1 + math.exp(-one)) for one in odds.tolist()]

    def _qualifies(self, action: Action, person: Person, seen: _Seen, now: int) -> bool:
        """Whether nothing speaks against an action: consent, rules, limits."""
        policies = self._business.policies
        if action.purpose is not None and not person.profile.granted(action.purpose, CHANNEL):
            return False
        rules = [*action.eligibility, *action.applicability, *action.suitability]
        stages = policies.rules
        rules += [
            one.rule
            for one in (*stages.eligibility, *stages.applicability, *stages.suitability)
            if one.target.covers(action)
        ]
        if not all(self._holds(rule.when, seen) for rule in rules):
            return False
        over = (self._over(one, action, person.ledger, now) for one in policies.limits)
        silent = (self._silent(one, action, person.ledger, now) for one in policies.suppressions)
        return not any(over) and not any(silent)

    def _holds(self, when: str, seen: _Seen) -> bool:
        """Whether a condition holds; one that cannot be evaluated does not."""
        if when not in self._programs:
            self._programs[when] = self._engine.compile(when)
        found = self._programs[when].eval(self._engine.Activation(seen.roots))
        return found.value() is True

    def _about(self, one: Limit | Suppression, action: Action) -> list[int]:
        """Codes of the actions that are counted together with one."""
        return [
            self._business.vocabulary.actions[other.name]
            for other in self._business.actions
            if one.target.covers(other)
            and (one.per != "action" or other is action)
            and (one.per != "group" or other.group == action.group)
        ]

    def _over(self, limit: Limit, action: Action, ledger: Records, now: int) -> bool:
        if not limit.target.covers(action):
            return False
        codes, wanted = set(self._about(limit, action)), outcome_code(limit.outcome)
        channel = self._business.vocabulary.channels[limit.channel] if limit.channel else 0
        count = 0
        for record in ledger:
            if int(record["action"]) not in codes or channel not in (0, int(record["channel"])):
                continue
            at = int(record["occurred_at"])
            if at > now:
                continue
            if int(record["outcome"]) == RESERVED and wanted == Outcome.presented:
                count += now < at + 1_000 * float(record["value"])
            elif int(record["outcome"]) == wanted:
                count += now - at < limit.within_ms
        return count >= limit.at_most if limit.outcome == "presented" else count > limit.at_most

    def _silent(self, one: Suppression, action: Action, ledger: Records, now: int) -> bool:
        if not one.target.covers(action):
            return False
        codes, wanted = set(self._about(one, action)), outcome_code(one.outcome)
        moments = [
            int(record["occurred_at"])
            for record in ledger
            if int(record["action"]) in codes and int(record["outcome"]) == wanted
        ]
        within, lasts = milliseconds(one.within), milliseconds(one.lasts)
        pairs = zip(moments, moments[one.after - 1 :], strict=False)
        return any(last - first <= within and now < last + lasts for first, last in pairs)

    def _candidate(
        self, action: Action, model: float, seen: _Seen, prices: Mapping[str, float]
    ) -> Candidate:
        policies = self._business.policies
        worth = policies.evidence if action.evidence is None else action.evidence
        acceptance = (worth * action.prior + EVIDENCE * model) / (worth + EVIDENCE)
        value = -action.cost - sum(prices[name] * units for name, units in action.uses.items())
        for place, (name, goal) in enumerate(policies.goals.items()):
            amount = action.value if place == 0 else action.goals.get(name, 0.0)
            value += goal.worth * goal.weights.get(seen.segment, 1.0) * amount
        weight = lever = 1.0
        if action.intents:
            match = policies.intent_match
            likeliest = max(seen.intents[one] for one in action.intents)
            weight = match.floor + (match.ceiling - match.floor) * likeliest
        for one in policies.context_weights:
            if one.target.covers(action) and _situation(one.when, seen):
                weight *= one.weight
        for raised in policies.levers:
            if raised.target.covers(action):
                lever *= raised.factor
        return Candidate(action, model, acceptance, value, weight, lever)

    def _draw(
        self, ranked: list[Candidate], chance: Iterator[float]
    ) -> tuple[list[tuple[str, float]], float]:
        """Draw slot by slot; nothing where chance holds the slate back."""
        placement = self._business.placements[PLACEMENT]
        exploring = placement.exploration
        if next(chance) < exploring.hold_back:
            return [], exploring.hold_back
        probability = 1.0 - exploring.hold_back
        left = [one for one in ranked if one.priority > placement.nothing]
        groups: Counter[str] = Counter()
        drawn: list[tuple[str, float]] = []
        while left and len(drawn) < placement.max_actions:
            best = max(one.priority for one in left)
            raised = [
                math.exp((one.priority - best) / (exploring.temperature * best)) for one in left
            ]
            total = sum(raised)
            chances = [
                (1 - exploring.floor) * one / total + exploring.floor / len(left) for one in raised
            ]
            at, number = 0, next(chance) - chances[0]
            while number >= 0 and at + 1 < len(left):
                at += 1
                number -= chances[at]
            taken = left.pop(at)
            drawn.append((taken.action.name, chances[at]))
            probability *= chances[at]
            groups[taken.action.group] += 1
            if groups[taken.action.group] == placement.per_group:
                left = [one for one in left if one.action.group != taken.action.group]
        return drawn, probability


def _situation(when: When, seen: _Seen) -> bool:
    """Whether the situation of a context weight is at hand."""
    if when.channel not in (None, CHANNEL):
        return False
    if when.intent is not None and seen.intents[when.intent] < when.at_least:
        return False
    if when.fact is None:
        return True
    magnitude = seen.facts[when.fact]
    return magnitude <= when.magnitude if when.magnitude < 0 else magnitude >= when.magnitude


def _splitmix(seed: int) -> Iterator[float]:
    """The numbers of a seed, as published: the state begins at a hash of the seed."""
    word = (1 << 64) - 1

    def mixed(bits: int) -> int:
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & word
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & word
        return bits ^ bits >> 31

    state = mixed(seed & word)
    while True:
        state = state + 0x9E3779B97F4A7C15 & word
        yield (mixed(state) >> 11) * 2.0**-53
