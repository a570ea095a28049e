"""The situation that actions are ranked in, and whether one that was declared is at hand. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from service.declared import When

NOBODY: Final = ""
"""Segment of a customer of whom none is known, and control group of those who are in none."""


class Situation(NamedTuple):
    """What context weights look at, and what scarce resources cost."""

    channel: str
    intents: Mapping[str, float]  # probability of each; empty where none was scored
    facts: Mapping[str, float]  # magnitudes; empty without a timeline
    now: int  # milliseconds
    segment: str = NOBODY
    prices: Mapping[str, float] = {}  # shadow prices by resource


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
