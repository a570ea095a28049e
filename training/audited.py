"""What an audit found, as it is written to JSON; ``docs/fairness.md`` explains it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["gap", "small", "none", "not_enough_data"]


class Settings(msgspec.Struct, frozen=True):
    """What was asked for."""

    level: float  # of every interval
    false_discovery_rate: float
    below: float  # a ratio under this may be a gap
    above: float  # and one over this
    customers: int  # on each side, the least to compare
    events: int  # to be expected on each side, the least to compare
    seed: int


class Source(msgspec.Struct, frozen=True):
    """What was looked at."""

    archive: str
    kind: Literal["log", "sample"]
    configuration: str
    bundle: str  # empty: no models
    customers: int
    decisions: int
    recomputed: int
    presentations: int
    contacts: int
    first: int  # milliseconds since 1970-01-01 UTC, of the decisions
    last: int


class Segment(msgspec.Struct, frozen=True):
    """One segment."""

    attribute: str
    segment: str
    cut: str  # how the attribute was cut
    customers: int
    decisions: int


class Compared(msgspec.Struct, frozen=True):
    """One rate of one segment, against everybody else's."""

    id: str
    measure: str
    of: str
    attribute: str
    segment: str
    verdict: Verdict
    ratio: float
    low: float
    high: float
    p: float
    q: float
    rate: float
    rate_others: float
    happened: float
    happened_others: float
    possible: float
    possible_others: float
    customers: int
    customers_others: int


class Read(msgspec.Struct, frozen=True):
    """Something that a cause reads, and how closely it goes with the segment."""

    name: str
    association: Literal["auc", "cramers_v"]
    strength: float
    proxy: bool
    protected: bool  # it is the very attribute that is compared


class Shown(msgspec.Struct, frozen=True):
    """How often an action is shown, of all recomputed decisions."""

    action: str
    before: float
    after: float


class Cost(msgspec.Struct, frozen=True):
    """What removing a cause does to the expected value of the slates."""

    value: float  # sum of priorities a decision, as it is
    change: float  # a decision; negative: it costs so much
    low: float
    high: float


class Cause(msgspec.Struct, frozen=True):
    """One cause and what happens without it."""

    kind: str
    name: str
    stage: str
    text: str
    expressions: list[str]
    reads: list[Read]
    in_effect: float  # share of the segment's decisions in which it said something
    in_effect_others: float
    explained: float  # share of the gap that goes away; 1: all of it
    explained_low: float
    explained_high: float
    ratio_without: float
    rate_without: float
    rate_others_without: float
    cost: Cost
    shown: list[Shown]


class Gap(msgspec.Struct, frozen=True):
    """A flagged comparison and its causes, the one that explains most first."""

    comparison: str
    sentence: str
    cause: str  # one sentence; empty where none was found
    causes: list[Cause]
    note: str  # why no cause was found; empty where one was


class Audit(msgspec.Struct, frozen=True):
    """All of it."""

    summary: str
    source: Source
    settings: Settings
    segments: list[Segment]
    gaps: list[Gap]
    comparisons: list[Compared]
    not_looked_at: list[str]
    audit: str = "fairness"
    version: str = ""
