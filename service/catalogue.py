"""What the business can do: actions with their treatments and prices, and where they are shown.

Business people edit these files, and they are checked as strictly as code. This module says what
one entry means; ``service.declared`` what is about many of them, ``service.business`` how they are
read together, and ``service.coherence`` what must hold between them. Pure.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from typing import Annotated, Literal

import msgspec

from features import duration

Issue = Literal["grow", "retain", "service", "recover", "nurture"]
ISSUES: tuple[str, ...] = ("grow", "retain", "service", "recover", "nurture")
AssuranceName = Literal["none", "ani", "verified"]
ASSURANCE: dict[str, int] = {"none": 1, "ani": 2, "verified": 3}
RelationshipName = Literal["unknown", "neutral", "friend", "enemy", "love_hate"]

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=100)]
Money = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Amount = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Expression = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
"""A condition in CEL; see ``service.variables`` for what it may read."""


class Validity(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, rename={"start": "from"}
):
    """The days on which an action may be used, both included, in UTC."""

    start: datetime.date | None = None
    until: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.start and self.until and self.until < self.start:
            raise ValueError(f"ends {self.until}, before it starts {self.start}; swap them")

    @cached_property
    def milliseconds(self) -> tuple[int, int]:
        """First and last millisecond since 1970-01-01 UTC."""
        return (
            0 if self.start is None else _midnight(self.start),
            2**62 if self.until is None else _midnight(self.until) + duration.DAY - 1,
        )


def _midnight(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)).days * duration.DAY


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A condition that must hold; one that cannot be evaluated does not."""

    name: Name
    when: Expression
    reason: str  # what an agent reads when it does not hold


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What customers pay who meet a public condition; the first that is met counts."""

    amount: Amount  # negative for a discount or a gesture
    condition: str = "Everybody"  # in words, for the customer
    when: Expression | None = None  # over public attributes and nothing else; None: everybody
    per: str = ""  # such as "month"; empty: once


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an action is expressed, where the channel and placement fit."""

    name: Name
    placements: list[str]
    channels: list[str] = []  # empty: every channel of the placement
    text: str = ""  # "{price}" stands for the price that the customer pays
    locale: str = ""
    kind: Literal["", "talk_track", "script", "prompt", "message"] = ""
    relationships: list[RelationshipName] = []  # a tone for these; empty: for all
    disclosures: list[str] = []  # what has to be said or shown with it


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something we could do."""

    name: Name
    title: str
    issue: Issue
    group: str
    value: Money  # of the wanted outcome to the first goal, in the business's currency
    treatments: Annotated[list[Treatment], msgspec.Meta(min_length=1)]
    goals: dict[str, Amount] = {}  # what the wanted outcome adds to other goals, in their units
    cost: Money = 0.0  # of presenting it
    uses: dict[str, Money] = {}  # units of scarce resources that presenting it takes
    prior: Probability = 0.1  # acceptance probability before any model
    evidence: Money | None = (
        None  # presentations that the prior is worth; None: as the policies say
    )
    prices: list[Price] = []
    valid: Validity = Validity()
    purpose: str | None = None  # consent that it needs; None: a service that needs none
    assurance: AssuranceName = "none"
    intents: list[str] = []  # that it answers; see IntentMatch
    eligibility: list[Rule] = []
    applicability: list[Rule] = []
    suitability: list[Rule] = []
    mandatory: bool = False  # shown first wherever it qualifies, never drawn and never held back
    parts: list[str] = []  # actions that this bundle consists of
    queue_priority: bool = False  # it moves the customer ahead of others
    responds_within: str | None = None  # None: as the policies say

    def __post_init__(self) -> None:
        if self.responds_within is not None:
            duration.milliseconds(self.responds_within)


class Exploration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a placement leaves to chance, so that there is something to learn from."""

    hold_back: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0  # P(an empty slate)
    temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0  # in units of the best priority
    floor: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0  # share of draws that are uniform

    def __post_init__(self) -> None:
        if 0 < self.temperature < 0.001:
            raise ValueError("temperature: too low to tell from 0; write 0, or at least 0.001")


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slot in which actions are shown."""

    channels: Annotated[list[str], msgspec.Meta(min_length=1)]
    defaults: list[str] = []  # shown when nothing could be computed, or reserved
    max_actions: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    per_group: Annotated[int, msgspec.Meta(ge=1, le=20)] = 20
    assurance: AssuranceName = "none"
    nothing: Money = 0.0  # priority of doing nothing: what an action must exceed to be shown
    exploration: Exploration = Exploration()


def treatment(
    action: Action, placement: str, channel: str, locale: str = "", relationship: str = "unknown"
) -> Treatment | None:
    """The treatment that fits placement and channel best: in the locale, and in the tone for them.

    Of several that fit alike, the first one counts.
    """
    fitting = [
        one
        for one in action.treatments
        if placement in one.placements
        and (not one.channels or channel in one.channels)
        and (not one.relationships or relationship in one.relationships)
    ]
    return max(
        fitting,
        key=lambda one: (bool(locale) and one.locale == locale, bool(one.relationships)),
        default=None,
    )
