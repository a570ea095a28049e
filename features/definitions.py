"""Declared features: what they are called, what they count, over which events. Pure.

A definition is data, read from ``features.yaml`` and carried in every bundle; ``features.program``
compiles it. Each operation is a small struct of its own, tagged by ``op``: to add one, add it here,
to :data:`Feature`, and to ``features.kernels``.
"""

from __future__ import annotations

import fnmatch
import hashlib
from typing import Annotated, ClassVar, Literal

import msgspec

from features import duration

Names = str | list[str]
CodedField = Literal["type", "channel", "intent", "action", "outcome", "direction", "agent"]
MeasuredField = Literal["value", "duration", "sentiment"]
Back = Annotated[int, msgspec.Meta(ge=0)]


class Where(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events count: all fields that are given must match, each by any of its names."""

    type: Names | None = None
    role: Names | None = None
    channel: Names | None = None
    intent: Names | None = None
    action: Names | None = None
    outcome: Names | None = None
    direction: Names | None = None


EVERY_EVENT = Where()


class _Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    """What all definitions share."""

    scope: ClassVar[str] = "customer"

    name: str


class OverEvents(_Feature, frozen=True, kw_only=True):
    """A feature over the events of the timeline that match a filter, inside a window.

    ``per_action`` computes it for each candidate over the events about that very action.
    """

    where: Where = EVERY_EVENT
    window: str | None = None
    per_action: bool = False

    def __post_init__(self) -> None:
        if self.window is not None:
            duration.milliseconds(self.window)

    @property
    def window_ms(self) -> int | None:
        """Length of the window; None: the whole timeline."""
        return None if self.window is None else duration.milliseconds(self.window)


class Count(OverEvents, frozen=True, kw_only=True, tag="count"):
    """How many events."""


class Sum(OverEvents, frozen=True, kw_only=True, tag="sum"):
    """Sum of a field over the events that have it."""

    field: MeasuredField


class Mean(OverEvents, frozen=True, kw_only=True, tag="mean"):
    """Mean of a field over the events that have it; NaN where none has."""

    field: MeasuredField


class Decayed(OverEvents, frozen=True, kw_only=True, tag="decayed"):
    """Sum of a field (or of ones), each event halved in weight every ``half_life``."""

    half_life: str
    field: MeasuredField | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        duration.milliseconds(self.half_life)


class SinceLast(OverEvents, frozen=True, kw_only=True, tag="since_last"):
    """Seconds since the newest event; NaN where there is none."""


class SinceFirst(OverEvents, frozen=True, kw_only=True, tag="since_first"):
    """Seconds since the oldest event; NaN where there is none."""


class Last(OverEvents, frozen=True, kw_only=True, tag="last"):
    """A field of the newest event, or of the one ``back`` events before it; NaN where none is."""

    field: CodedField | MeasuredField
    back: Back = 0


class Gap(OverEvents, frozen=True, kw_only=True, tag="gap"):
    """Seconds between the event ``back`` events before the newest and the one before that."""

    back: Back = 0


class Distinct(OverEvents, frozen=True, kw_only=True, tag="distinct"):
    """How many different values of a field, absence aside."""

    field: CodedField


class Trend(OverEvents, frozen=True, kw_only=True, tag="trend"):
    """Events in the newer half of the window less those in its older half."""

    window: str


class Run(OverEvents, frozen=True, kw_only=True, tag="run"):
    """How many of the newest events in a row share the newest one's value of a field."""

    field: CodedField


class Sequence(OverEvents, frozen=True, kw_only=True, tag="sequence"):
    """How many times the steps happened one after the other, other events between them or not.

    Counted backwards from now, greedily and without overlap. ``where`` is not used.
    """

    steps: list[Where]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= len(self.steps) <= 8:
            raise ValueError(f"{len(self.steps)} steps; a sequence has 2 to 8")
        if self.where != EVERY_EVENT or self.per_action:
            raise ValueError("a sequence has `steps` and neither `where` nor `per_action`")


class Profile(_Feature, frozen=True, kw_only=True, tag="profile"):
    """A profile attribute: its value, how far it can be trusted, or seconds since it was written.

    The state is 0 known, 1 stale, 2 missing, 3 unknown; the value is NaN unless known or stale.
    """

    attribute: str
    part: Literal["value", "state", "age"] = "value"


class Context(_Feature, frozen=True, kw_only=True, tag="context"):
    """Something the caller says of this contact: ``channel``, ``direction`` or a declared value."""

    field: str


class Clock(_Feature, frozen=True, kw_only=True, tag="clock"):
    """The local time of the decision. ``day_of_week`` is 0 on Monday."""

    field: Literal["hour_of_day", "minute_of_day", "day_of_week"]


class Journey(_Feature, frozen=True, kw_only=True, tag="journey"):
    """A journey fact as a number; see ``features.journey``."""

    fact: Literal[
        "failed_self_service",
        "since_failed_self_service",
        "repeat_contacts",
        "repeat_intent",
        "channel_hops",
        "unresolved_contacts",
        "unanswered_questions",
        "sentiment",
        "sentiment_trend",
        "relationship",
        "lifetime_stage",
    ]


class Action(_Feature, frozen=True, kw_only=True, tag="action"):
    """Something the catalogue says of the candidate."""

    scope: ClassVar[str] = "action"

    field: Literal["code", "issue", "group", "value", "cost"]


Feature = (
    Count
    | Sum
    | Mean
    | Decayed
    | SinceLast
    | SinceFirst
    | Last
    | Gap
    | Distinct
    | Trend
    | Run
    | Sequence
    | Profile
    | Context
    | Clock
    | Journey
    | Action
)


class JourneyWindows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far back the journey facts look."""

    failed_self_service: str = "24h"
    repeat_contact: str = "7d"
    channel_hops: str = "48h"
    unresolved: str = "14d"
    sentiment: str = "90d"
    lapsed_after: str = "180d"

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            duration.milliseconds(getattr(self, field))


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which features each model sees, by name or shell pattern."""

    intent: tuple[str, ...] = ("*",)
    acceptance: tuple[str, ...] = ("*",)


class Definitions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that makes a vector out of a timeline."""

    features: list[Feature]
    time_zone: str = "UTC"
    journey: JourneyWindows = JourneyWindows()
    models: Models = Models()

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature {name!r} is declared twice; rename one")
        for model in ("intent", "acceptance"):
            for pattern in getattr(self.models, model):
                if not fnmatch.filter(names, pattern):
                    raise ValueError(f"models.{model}: {pattern!r} matches no feature")

    def chosen(self, model: Literal["intent", "acceptance"]) -> list[str]:
        """Names of the features that a model sees, in the order they are declared.

        The intent model never sees features of an action.
        """
        patterns = getattr(self.models, model)
        return [
            feature.name
            for feature in self.features
            if (model == "acceptance" or scope(feature) == "customer")
            and any(fnmatch.fnmatchcase(feature.name, pattern) for pattern in patterns)
        ]

    def digest(self, kernel: str) -> str:
        """16 hexadecimal digits that change with any definition or with the kernel's version."""
        written = kernel.encode() + msgspec.json.encode(self, order="sorted")
        return hashlib.blake2b(written, digest_size=8).hexdigest()


FEELINGS = frozenset({"relationship", "sentiment", "sentiment_trend"})
"""Journey facts and fields that say how the customer feels."""


def felt(feature: Feature) -> bool:
    """Whether a feature says how the customer feels: what decides over a queue may not see it."""
    if isinstance(feature, Journey):
        return feature.fact in FEELINGS
    return getattr(feature, "field", None) in FEELINGS


def scope(feature: Feature) -> Literal["customer", "action", "pair"]:
    """What a feature is about: the customer, the action, or the two together."""
    if isinstance(feature, Action):
        return "action"
    return "pair" if isinstance(feature, OverEvents) and feature.per_action else "customer"
