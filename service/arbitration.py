"""Choose among the actions that passed: priority, reasons, slates. Pure.

priority = acceptance probability x value x context weight x lever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from features.vocabulary import Vocabulary
from service.catalogue import Action, Placement
from service.declared import Policies as Declared
from service.declared import When
from service.policies import Offer


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

    @property
    def priority(self) -> float:
        """Their product."""
        return self.acceptance_probability * self.value * self.context_weight * self.lever


class Ranked(NamedTuple):
    """An action that passed every filter, with the numbers and reasons for its place."""

    offer: Offer
    factors: Factors
    reasons: tuple[Reason, ...]


class Situation(NamedTuple):
    """What context weights look at."""

    channel: str
    intents: Mapping[str, float]  # probability of each; empty where none was scored
    facts: Mapping[str, float]  # magnitudes; empty without a timeline
    now: int  # milliseconds


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


def rank(
    offers: Sequence[Offer],
    acceptance: Sequence[float],
    situation: Situation,
    declared: Declared,
    vocabulary: Vocabulary,
) -> list[Ranked]:
    """Rank offers by priority, highest first; equal ones by name.

    Args:
        offers: What passed the filters.
        acceptance: Acceptance probability of each.
        situation: What the customer's chain and the contact look like.
        declared: Weights and levers.
        vocabulary: For titles of intents.
    """
    weights = [one for one in declared.context_weights if holds(one.when, situation)]
    levers = [
        one
        for one in declared.levers
        if one.valid.milliseconds[0] <= situation.now <= one.valid.milliseconds[1]
    ]
    ranked = []
    for offer, probability in zip(offers, acceptance, strict=True):
        action = offer.action
        match, reasons = _intent_match(action, situation, declared, vocabulary)
        weight = match
        for one in weights:
            if one.target.covers(action):
                weight *= one.weight
                reasons.append((one.weight, Reason("CONTEXT_WEIGHT", one.reason)))
        lever = 1.0
        for boost in levers:
            if boost.target.covers(action):
                lever *= boost.factor
                reasons.append((boost.factor, Reason("LEVER", f"Campaign {boost.name}")))
        factors = Factors(probability, action.value - action.cost, weight, lever)
        lift = probability / action.prior if action.prior else 1.0
        if lift >= 1.2:
            text = f"{lift:.1f} times as likely to be accepted as usual ({probability:.0%})"
            reasons.append((lift, Reason("LIKELY_ACCEPTED", text)))
        reasons.append((1.0, Reason("VALUE", f"Worth {factors.value:.2f} when accepted")))
        strongest = sorted(reasons, key=lambda pair: -pair[0])
        ranked.append(
            Ranked(offer, factors, tuple(reason for strength, reason in strongest if strength >= 1))
        )
    return sorted(ranked, key=lambda one: (-one.factors.priority, one.offer.action.name))


def _intent_match(
    action: Action, situation: Situation, declared: Declared, vocabulary: Vocabulary
) -> tuple[float, list[tuple[float, Reason]]]:
    """How much the likely intents speak for an action that answers some of them."""
    if not action.intents or not situation.intents:
        return 1.0, []
    probability, name = max((situation.intents.get(one, 0.0), one) for one in action.intents)
    floor, ceiling = declared.intent_match.floor, declared.intent_match.ceiling
    weight = floor + (ceiling - floor) * probability
    title = vocabulary.intents[name].title if name in vocabulary.intents else name
    text = f"They are here about {title!r} with {probability:.0%} probability"
    return weight, [(weight, Reason("INTENT_MATCH", text))]


def fill(
    ranked: Sequence[Ranked], placement: Placement, most: int, taken: set[str]
) -> list[Ranked]:
    """Take the best that fit into a placement: no action twice, no group too often.

    An action without any priority is never shown, not even in a slot that stays empty: a context
    weight of 0 means no.

    Args:
        ranked: Best first.
        placement: What the slot declares.
        most: Actions to take.
        taken: Actions that the answer shows already; those taken here are added.
    """
    chosen: list[Ranked] = []
    groups: dict[str, int] = {}
    for one in ranked:
        action = one.offer.action
        full = groups.get(action.group, 0) >= placement.per_group
        wanted = one.factors.priority > 0
        if len(chosen) < most and wanted and action.name not in taken and not full:
            chosen.append(one)
            taken.add(action.name)
            groups[action.group] = groups.get(action.group, 0) + 1
    return chosen
