"""Why an action is shown, in words, strongest first. Pure.

The same is written by :mod:`service.saying` as bytes, off sentences cut where numbers stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from service.business import Business
from service.catalogue import Action
from service.declared import When
from service.factors import Factors
from service.facts import LIKELY
from service.situation import Situation, holds


class Reason(NamedTuple):
    """One reason, for machines and for people."""

    code: str
    text: str


_WORTHS: Final = 10_000  # values of which the words are kept
NOTABLE: Final = 1.2
"""Times as likely as usual, from which an action is said to be likely to be accepted."""
FOREMOST: Final = 1e9
"""How strong a reason it is that an action must be shown."""

MATCH_TEXT: Final = "They are here about {:s} with {:.0%} probability"
LIKELY_TEXT: Final = "{:.1f} times as likely to be accepted as usual ({:.0%})"
WORTH_TEXT: Final = "Worth {:.2f} when accepted"
UPLIFT_TEXT: Final = "Brings {:.2f} more than doing nothing ({:.2f} to {:.2f})"
MANDATORY: Final = Reason("MANDATORY", "It must be shown whenever it qualifies")


class _Strong(NamedTuple):
    """What may speak for an action, whoever asks."""

    weights: Sequence[tuple[When, float, Reason]]
    levers: Sequence[tuple[int, int, float, Reason]]  # first and last moment, factor


class Reasons:
    """Says why actions of one configuration are shown."""

    def __init__(self, business: Business) -> None:
        self._business = business
        match = business.policies.intent_match
        self._floor, self._gain = match.floor, match.ceiling - match.floor
        self._strong: dict[str, _Strong] = {}
        self._worths: dict[float, Reason] = {}

    def of(self, action: Action, factors: Factors, situation: Situation) -> list[Reason]:
        """Why an action is shown, strongest first."""
        strong = self._strong.get(action.name)
        if strong is None:
            strong = self._strong[action.name] = self._strengths(action)
        found: list[tuple[float, Reason]] = []
        intents = situation.intents
        if action.intents and intents:
            chance, name = -1.0, ""
            for one in action.intents:  # the likeliest; of equal ones the last by name
                other = intents.get(one, 0.0)
                if other > chance or (other == chance and one > name):
                    chance, name = other, one
            strength = self._floor + self._gain * chance
            if chance >= LIKELY and strength >= 1:
                title = self._business.vocabulary.intents[name].title
                text = MATCH_TEXT.format(repr(title), chance)
                found.append((strength, Reason("INTENT_MATCH", text)))
        for when, weight, reason in strong.weights:
            if holds(when, situation):
                found.append((weight, reason))
        for start, end, factor, reason in strong.levers:
            if start <= situation.now <= end:
                found.append((factor, reason))
        probability = factors.acceptance_probability
        lift = probability / action.prior if action.prior else 1.0
        if lift >= NOTABLE:
            text = LIKELY_TEXT.format(lift, probability)
            found.append((lift, Reason("LIKELY_ACCEPTED", text)))
        if factors.uplift is not None:
            found.append((1.0, Reason("UPLIFT", UPLIFT_TEXT.format(*factors.uplift))))
        else:
            found.append((1.0, self._worth(factors.value)))
        if action.mandatory:
            found.append((FOREMOST, MANDATORY))
        if len(found) > 1:
            found.sort(key=_strength, reverse=True)
        return [reason for _, reason in found]

    def _worth(self, value: float) -> Reason:
        """What an action is worth, in words; there are few values, and each is told often."""
        told = self._worths.get(value)
        if told is None:
            told = Reason("VALUE", WORTH_TEXT.format(value))
            if len(self._worths) < _WORTHS:
                self._worths[value] = told
        return told

    def _strengths(self, action: Action) -> _Strong:
        """What may speak for an action: all that does not weaken it."""
        policies = self._business.policies
        weights = [
            (one.when, one.weight, Reason("CONTEXT_WEIGHT", one.reason))
            for one in policies.context_weights
            if one.weight >= 1 and one.target.covers(action)
        ]
        levers = [
            (*one.valid.milliseconds, one.factor, Reason("LEVER", f"Campaign {one.name}"))
            for one in policies.levers
            if one.factor >= 1 and one.target.covers(action)
        ]
        return _Strong(weights, levers)


def _strength(found: tuple[float, Reason]) -> float:
    return found[0]
