"""What the business declares about many actions at once: goals, rules, limits, weights. Pure.

``policies.yaml`` holds it. ``service.policies`` and ``service.arbitration`` act on it.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec

from features import duration
from features.vocabulary import Outcome
from service.catalogue import (
    Action,
    Issue,
    Money,
    Name,
    Positive,
    Probability,
    Rule,
    Validity,
    Weight,
)

OUTCOME_TYPE = "outcome"
"""Event type of what RecordOutcome stores; every vocabulary declares it."""

AtMost = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
CountedName = Literal[
    "presented", "clicked", "accepted", "rejected", "dismissed", "converted", "resolved"
]
Per = Literal["action", "group", "issue", "channel", "customer"]
Direction = Literal["inbound", "outbound", "internal"]


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which actions something is about: all fields that are given must match."""

    action: str | None = None
    group: str | None = None
    issue: Issue | None = None

    def covers(self, action: Action) -> bool:
        """Whether the action is meant."""
        return (
            self.action in (None, action.name)
            and self.group in (None, action.group)
            and self.issue in (None, action.issue)
        )


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most so many outcomes of a kind within a sliding window, counted on the ledger.

    Showing an action once more must not exceed a limit on ``presented``; a limit on any other
    outcome drops the action once it is exceeded, so ``at_most: 0, outcome: rejected`` keeps an
    action back after a single refusal. A limit with a channel counts what happened on that channel
    and holds on that channel.
    """

    name: Name
    at_most: AtMost
    within: str
    outcome: CountedName = "presented"
    action: str | None = None
    group: str | None = None
    issue: Issue | None = None
    channel: str | None = None
    per: Per = "action"

    def __post_init__(self) -> None:
        duration.milliseconds(self.within)

    @property
    def within_ms(self) -> int:
        """Length of the window in milliseconds."""
        return duration.milliseconds(self.within)

    @property
    def target(self) -> Target:
        """Which actions it is about."""
        return Target(self.action, self.group, self.issue)


class Suppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"lasts": "for"}):
    """Keeps actions back for a period once so many outcomes of a kind came within a window."""

    name: Name
    outcome: CountedName
    after: Annotated[int, msgspec.Meta(ge=1, le=100)]
    within: str
    lasts: str  # from the last of them
    action: str | None = None
    group: str | None = None
    issue: Issue | None = None
    per: Per = "action"

    def __post_init__(self) -> None:
        duration.milliseconds(self.within)
        duration.milliseconds(self.lasts)

    @property
    def target(self) -> Target:
        """Which actions it is about."""
        return Target(self.action, self.group, self.issue)


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all customers together may get of some actions in a calendar period."""

    name: Name
    each: Literal["hour", "day", "month"]  # in the time zone of the business
    volume: Annotated[int, msgspec.Meta(ge=0, le=10**9)] | None = None  # presentations
    budget: Money | None = None  # sum of the actions' costs, in the business's currency
    action: str | None = None
    group: str | None = None
    issue: Issue | None = None

    def __post_init__(self) -> None:
        if (self.volume is None) == (self.budget is None):
            raise ValueError("needs a volume or a budget, and not both; split it in two")

    @property
    def target(self) -> Target:
        """Which actions it is about."""
        return Target(self.action, self.group, self.issue)


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """When not to reach out, by the customer's own clock; may run past midnight."""

    name: Name
    start: datetime.time
    until: datetime.time
    channels: Annotated[list[str], msgspec.Meta(min_length=1)]
    directions: list[Direction] = msgspec.field(default_factory=lambda: ["outbound"])
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = []  # empty: all
    group: str | None = None
    issue: Issue | None = None

    def __post_init__(self) -> None:
        if self.start.tzinfo or self.until.tzinfo:
            raise ValueError("goes by the customer's own clock; leave out the time zone")
        if self.start == self.until:
            raise ValueError(f"ends at {self.until}, as it starts; name another hour")

    @property
    def target(self) -> Target:
        """Which actions it is about."""
        return Target(None, self.group, self.issue)


class StageRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule about an issue, a group or an action."""

    rule: Rule
    target: Target = Target()


class StageRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules by the stage that they belong to."""

    eligibility: list[StageRule] = []
    applicability: list[StageRule] = []
    suitability: list[StageRule] = []


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The situation in which a context weight holds: all fields that are given must hold."""

    intent: str | None = None
    at_least: Probability = 0.3  # of that intent
    fact: str | None = None
    magnitude: float = 1.0  # of that fact, at least; at most, where this is negative
    channel: str | None = None


class ContextWeight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor from the situation on the priority of the actions it is about."""

    name: Name
    when: When
    target: Target
    weight: Weight
    reason: str  # what an agent reads when it counts


class Lever(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deliberate, dated business factor on the priority of the actions it is about."""

    name: Name
    target: Target
    factor: Positive
    valid: Validity = Validity()


class IntentMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of an action that answers an intent: from ``floor`` at 0 % to ``ceiling`` at 100 %."""

    floor: Weight = 0.5
    ceiling: Weight = 5.0


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something the business steers by, normalised to its currency."""

    worth: Money  # of one unit, in the business's currency
    unit: str = ""
    weights: dict[str, Weight] = {}  # by segment; 1 where a segment is not named


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something scarce: a queue, a skill, a back-office step."""

    unit: str
    price: Money = 0.0  # of one unit, until a workforce system sets another


class Ranking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the actions of an issue are ranked."""

    by: Literal["acceptance", "uplift"] = "acceptance"


class ControlGroups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Customers who are kept on a baseline, by a hash of who they are and of the salt."""

    salt: str = ""
    random: Probability = 0.0  # draws uniformly from what passed the filters
    probability_only: Probability = 0.0  # ranks by acceptance probability
    no_model: Probability = 0.0  # ranks with declared priors
    hold_out: Probability = 0.0  # gets what is mandatory, and nothing else

    def __post_init__(self) -> None:
        if self.random + self.probability_only + self.no_model + self.hold_out > 1:
            raise ValueError("shares add up to more than 1; lower one")


class Policies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules that are about many actions."""

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "EUR"
    goals: dict[str, Goal] = msgspec.field(  # actions' `value` counts for the first
        default_factory=lambda: {"value": Goal(worth=1.0)}
    )
    segment_by: str | None = None  # attribute whose values are the segments
    time_zone_by: str | None = None  # attribute that names the customer's time zone
    public_attributes: list[str] = []  # that conditions of prices may read
    protected_attributes: list[str] = []  # that audits compare
    value_tier_by: str | None = None  # attribute that audits compare as the value tier
    resources: dict[str, Resource] = {}
    ranking: dict[Issue, Ranking] = {}
    evidence: Money = 50.0  # presentations that a declared prior is worth
    reserves_for: str = "30m"  # how long a capped action is held until it is presented
    responds_within: str = "14d"
    silence: Literal["no_response", "rejected", "dismissed"] = "no_response"
    intent_match: IntentMatch = IntentMatch()
    rules: StageRules = StageRules()
    limits: list[Limit] = []
    suppressions: list[Suppression] = []
    ceilings: list[Ceiling] = []
    quiet_hours: list[QuietHours] = []
    context_weights: list[ContextWeight] = []
    levers: list[Lever] = []
    control: ControlGroups = ControlGroups()

    def __post_init__(self) -> None:
        duration.milliseconds(self.reserves_for)
        duration.milliseconds(self.responds_within)
        if not self.goals:
            raise ValueError("goals: none is declared; leave the field out, or declare one")

    @property
    def reserves_for_ms(self) -> int:
        """How long a capped action is held, in milliseconds."""
        return duration.milliseconds(self.reserves_for)


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers for a configuration: ``release.yaml``."""

    name: str = ""
    author: str = ""
    approver: str = ""
    notes: str = ""


def outcome_code(name: str) -> int:
    """Code of an outcome that limits may count."""
    return int(Outcome[name])


FACTS: tuple[str, ...] = (
    "failed_self_service",
    "repeat_contact",
    "channel_hops",
    "unresolved_contacts",
    "unanswered_question",
    "sentiment_trend",
    "relationship",
    "lifetime_stage",
)
"""Journey facts that context weights and rules may name."""
