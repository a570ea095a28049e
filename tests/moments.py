"""Seven classic moments of a contact centre, played against a real server, and told in docs.

The moments are data; :func:`play` is the runner. ``python -m tests.moments --write`` writes
docs/moments.md from what was answered; without ``--write`` it says whether the file has drifted.
What depends on the day (probabilities, ranks by a hair, ids) is not told, so the file is stable.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from features.duration import DAY, HOUR, MINUTE
from rapport.v1 import decision_pb2, event_pb2
from service.bundle import Bundle
from service.embedded import EmbeddedStore
from tests.integration.serving import (
    CONFIG,
    Client,
    Status,
    business,
    event,
    flushed,
    now,
    serving,
    stamp,
    until,
)
from training import simulate, workflow
from training.stories import Happened

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "moments.md"

_LEARNT: Final = datetime.datetime(2026, 11, 16, 12, tzinfo=datetime.UTC)
"""Where the simulated history ends: the same models every day."""

_PATIENCE: Final = 0.25
"""Seconds that a caller waits while the store is down."""

PROFILE: Final[dict[str, float | bool | str]] = {
    "age": 41, "segment": "family", "household": "with_children", "value_tier": "plus",
    "customer_since_days": 900, "products": 2, "balance": 6_000, "digital": True,
    "has_mortgage": False, "in_arrears": False,
}  # fmt: skip

# What can happen between two questions


class Events(NamedTuple):
    """The customer's chain grows."""

    happened: Sequence[Happened]


class Shown(NamedTuple):
    """The customer saw an action, so many times, a day apart, the last of them so long ago."""

    action: str
    channel: str
    times: int = 1
    ago: int = HOUR


class Said(NamedTuple):
    """What became of an action of the answer to an earlier question; by default, of the last."""

    action: str
    outcome: event_pb2.Outcome.ValueType
    instead: str = ""
    answer: int = -1


class Consent(NamedTuple):
    """The customer gives or withdraws consent for marketing."""

    granted: bool


class StoreStops(NamedTuple):
    """The process of the store ends."""


class StoreReturns(NamedTuple):
    """It starts again on the same folder."""


Step = Events | Shown | Said | Consent | StoreStops | StoreReturns


class Ask(NamedTuple):
    """One question."""

    heading: str  # of its column
    steps: Sequence[Step] = ()  # what happens before it
    channel: str = "phone"
    placement: str = "agent_hint"
    interaction: str = ""
    max_actions: int | None = None
    timeout: float = 5.0


class Seen(NamedTuple):
    """One answer, with what Explain says about it."""

    answer: decision_pb2.DecideResponse
    told: dict[str, decision_pb2.Candidate]  # by action
    seconds: float

    @property
    def shown(self) -> dict[str, decision_pb2.Recommendation]:
        return {one.action: one for slate in self.answer.slates for one in slate.recommendations}

    def of_issue(self, *issues: str) -> list[str]:
        """Actions of the answer that belong to some issues, best first."""
        return [name for name in self.shown if business().by_name[name].issue in issues]

    @property
    def advisories(self) -> set[str]:
        return {one.code for one in self.answer.advisories}

    @property
    def facts(self) -> dict[str, str]:
        return {one.kind: one.text for one in self.answer.facts}


Look = Callable[[Seen], str]


class Moment(NamedTuple):
    """One of the seven."""

    name: str
    customer: str  # of no control group
    title: str
    story: str
    before: Sequence[Step]
    asks: Sequence[Ask]  # the first is the answer before
    changes: dict[str, Look]  # rows of the table
    stays: dict[str, Look]  # the same in every answer
    explain: Sequence[tuple[int, str]]  # answer and action whose reason is told in three voices


class Played(NamedTuple):
    """A moment with all its answers."""

    moment: Moment
    seen: Sequence[Seen]


# What the tables look at


def title(action: str) -> str:
    return business().by_name[action].title


def first(seen: Seen) -> str:
    """The best suggestion, and the strongest reason that is no number."""
    (slate,) = seen.answer.slates
    best = slate.recommendations[0]
    codes = ("CONTEXT_WEIGHT", "INTENT_MATCH")
    why = [one.text for code in codes for one in best.reasons if one.code == code]
    return f"**{best.title}**. {plain(why[0])}." if why else f"**{best.title}**"


def titles(*issues: str) -> Look:
    """What is shown of some issues."""
    return lambda seen: ", ".join(map(title, seen.of_issue(*issues))) or "none"


def any_of(*issues: str) -> Look:
    """Whether something of some issues is shown."""
    return lambda seen: "yes" if seen.of_issue(*issues) else "none"


def allowed(action: str) -> Look:
    """Whether it may be shown, and why not; where it ranks is another matter."""

    def look(seen: Seen) -> str:
        one = seen.told[action]
        return "may be shown" if one.rank else f"left out: {one.reason.text} (`{one.reason.code}`)"

    return look


def wording(action: str) -> Look:
    return lambda seen: f'"{seen.shown[action].treatment.text}"'


def price(action: str) -> Look:
    return lambda seen: f"{seen.shown[action].price.amount:g} {seen.shown[action].price.currency}"


def weight_of_mood(action: str) -> Look:
    """What of its context weight is named after the relationship or the mood."""

    def look(seen: Seen) -> str:
        reasons = business().policies.context_weights
        moods = {one.reason: one for one in reasons if one.when.fact in ("relationship", "sentiment_trend")}
        held = {fact.kind: fact.magnitude for fact in seen.answer.facts}
        factors = [
            one.weight
            for one in moods.values()
            if one.target.covers(business().by_name[action])
            and one.when.fact in held
            and (
                held[one.when.fact] >= one.when.magnitude
                if one.when.magnitude >= 0
                else held[one.when.fact] <= one.when.magnitude
            )
        ]
        return " x ".join(f"{one:g}" for one in factors) or "1"

    return look


def fact(kind: str) -> Look:
    return lambda seen: seen.facts.get(kind, "nothing")


def rung(seen: Seen) -> str:
    return decision_pb2.Rung.Name(seen.answer.rung).removeprefix("RUNG_").lower().replace("_", " ")


def missing(seen: Seen) -> str:
    return ", ".join(f"`{one}`" for one in sorted(seen.advisories)) or "nothing"


def needs_consent(seen: Seen) -> str:
    wanting = [name for name in seen.shown if business().by_name[name].purpose]
    return "yes" if wanting else "none"


def in_time(seen: Seen) -> str:
    return f"yes, within {_PATIENCE * 1_000:.0f} ms" if seen.seconds < _PATIENCE else "no"


def plain(text: str) -> str:
    """A text without what depends on the day."""
    text = re.sub(r" with \d+% probability", "", text)
    text = re.sub(r"\d+ other actions? ranks? higher", "other actions rank higher", text)
    text = re.sub(r"accepted by \d+%", "accepted by so many percent", text)
    text = re.sub(r"; rank \d+: P .*", "; its rank and the numbers behind it", text)
    return text.rstrip(".")
