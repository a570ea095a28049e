"""What the business can do: actions, their treatments, placements, limits and levers.

Business people edit these files, and they are checked as strictly as code. This module says what
they mean and what must hold between them; ``service.policies`` and ``service.arbitration`` act on
them. Pure but for :func:`load`.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from features import duration
from features.definitions import Definitions
from features.plan import Plan
from features.vocabulary import Outcome, Vocabulary
from service import config
from service.errors import ConfigurationError

Issue = Literal["grow", "retain", "service", "recover", "nurture"]
ISSUES: tuple[str, ...] = ("grow", "retain", "service", "recover", "nurture")
AssuranceName = Literal["none", "ani", "verified"]
ASSURANCE: dict[str, int] = {"none": 1, "ani": 2, "verified": 3}

OUTCOME_TYPE = "outcome"
"""Event type of what RecordOutcome stores; every vocabulary declares it."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=100)]
Money = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
AtMost = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


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


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an action is expressed, where the channel and placement fit."""

    name: str
    placements: list[str]
    channels: list[str] = []  # empty: every channel of the placement
    text: str = ""
    locale: str = ""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most so many outcomes of a kind within a sliding window, counted on the ledger.

    Showing an action once more must not exceed a limit on ``presented``; a limit on any other
    outcome drops the action once it is exceeded, so ``at_most: 0, outcome: rejected`` keeps an
    action back after a single refusal.
    """

    name: str
    at_most: AtMost
    within: str
    outcome: Literal[
        "presented", "clicked", "accepted", "rejected", "dismissed", "converted", "resolved"
    ] = "presented"
    action: str | None = None
    group: str | None = None
    issue: Issue | None = None
    channel: str | None = None  # count only what happened there; None: everywhere
    per: Literal["action", "group", "issue", "customer"] = "action"

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


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The situation in which a context weight holds: all fields that are given must hold."""

    intent: str | None = None
    at_least: Probability = 0.3  # of that intent
    fact: str | None = None
    magnitude: float = 1.0  # of that fact, at least; at most, where this is negative
    channel: str | None = None


class ContextWeight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor from the situation on the priority of the actions it is about."""

    name: str
    when: When
    target: Target
    weight: Weight
    reason: str  # what an agent reads when it counts


class Lever(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deliberate, dated business factor on the priority of the actions it is about."""

    name: str
    target: Target
    factor: Positive
    valid: Validity = Validity()


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something we could do."""

    name: str
    title: str
    issue: Issue
    group: str
    value: Money  # of the wanted outcome, in the business's currency
    treatments: Annotated[list[Treatment], msgspec.Meta(min_length=1)]
    cost: Money = 0.0  # of presenting it
    prior: Probability = 0.1  # acceptance probability before any model
    valid: Validity = Validity()
    purpose: str | None = None  # consent that it needs; None: a service that needs none
    assurance: AssuranceName = "none"
    intents: list[str] = []  # that it answers; see IntentMatch


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slot in which actions are shown."""

    channels: Annotated[list[str], msgspec.Meta(min_length=1)]
    defaults: list[str] = []  # shown when nothing could be computed
    max_actions: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    per_group: Annotated[int, msgspec.Meta(ge=1, le=20)] = 20
    assurance: AssuranceName = "none"


class _Actions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    actions: list[Action]


class _Placements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    placements: dict[str, Placement]


class IntentMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of an action that answers an intent: from ``floor`` at 0 % to ``ceiling`` at 100 %."""

    floor: Weight = 0.5
    ceiling: Weight = 5.0


class Policies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules that are about many actions."""

    intent_match: IntentMatch = IntentMatch()
    limits: list[Limit] = []
    context_weights: list[ContextWeight] = []
    levers: list[Lever] = []


class Business(msgspec.Struct, frozen=True, dict=True):
    """A whole configuration, checked: nothing in it names what does not exist."""

    vocabulary: Vocabulary
    definitions: Definitions
    actions: list[Action]
    placements: dict[str, Placement]
    policies: Policies

    @cached_property
    def by_name(self) -> dict[str, Action]:
        """Actions by name."""
        return {action.name: action for action in self.actions}

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with anything a decision depends on."""
        parts = (self.actions, self.placements, self.policies, self.vocabulary, self.definitions)
        written = msgspec.json.encode(parts, order="sorted")
        return hashlib.blake2b(written, digest_size=8).hexdigest()

    @cached_property
    def ledger_window_ms(self) -> int:
        """The longest window that a limit counts over, at least a day."""
        return max([duration.DAY, *(limit.within_ms for limit in self.policies.limits)])


def load(folder: Path) -> Business:
    """Read and check a configuration folder.

    It holds ``vocabulary.yaml``, ``features.yaml``, ``placements.yaml``, ``policies.yaml`` and
    ``catalogue/*.yaml``, in which business people may group actions as they like.

    Raises:
        ConfigurationError: A file is wrong, or names what another does not declare; the message
            names file, place, value and remedy.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; name another with --config")
    files = sorted((folder / "catalogue").glob("*.yaml"))
    if not files:
        raise ConfigurationError(f"{folder / 'catalogue'}: no *.yaml there; write one with actions")
    named = [(file, action) for file in files for action in config.load(file, _Actions).actions]
    business = Business(
        vocabulary=config.load(folder / "vocabulary.yaml", Vocabulary),
        definitions=config.load(folder / "features.yaml", Definitions),
        actions=[action for _, action in named],
        placements=config.load(folder / "placements.yaml", _Placements).placements,
        policies=config.load(folder / "policies.yaml", Policies),
    )
    try:
        Plan(business.definitions, business.vocabulary)
    except ValueError as error:
        raise ConfigurationError(f"{folder / 'features.yaml'}: {error}") from error
    problems = [*_problems(business, folder, [str(file) for file, _ in named])]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return business


def _problems(business: Business, folder: Path, action_files: list[str]) -> Iterator[str]:
    vocabulary, placements = business.vocabulary, business.placements

    def unknown(where: str, names: Iterable[str | None], known: Iterable[str]) -> Iterator[str]:
        choices = list(known)
        for name in names:
            if name is not None and name not in choices:
                near = difflib.get_close_matches(name, choices, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "declare it first"
                yield f"{where}: {name!r} is not declared; {hint}"

    if OUTCOME_TYPE not in vocabulary.types:
        yield (
            f"{folder / 'vocabulary.yaml'}: types: {OUTCOME_TYPE!r} is not declared; "
            "RecordOutcome stores events of that type"
        )
    seen: dict[str, str] = {}
    for file, action in zip(action_files, business.actions, strict=True):
        at = f"{file}: actions.{action.name}"
        if action.name in seen:
            yield f"{at}: is declared in {seen[action.name]} too; rename one"
        seen[action.name] = file
        yield from unknown(f"{at}: name", [action.name], vocabulary.actions)
        yield from unknown(f"{at}.group", [action.group], vocabulary.groups)
        yield from unknown(f"{at}.purpose", [action.purpose], vocabulary.purposes)
        yield from unknown(f"{at}.intents", action.intents, vocabulary.intents)
        for treatment in action.treatments:
            inside = f"{at}.treatments.{treatment.name}"
            yield from unknown(f"{inside}.placements", treatment.placements, placements)
            yield from unknown(f"{inside}.channels", treatment.channels, vocabulary.channels)
    for name, placement in placements.items():
        at = f"{folder / 'placements.yaml'}: {name}"
        yield from unknown(f"{at}.channels", placement.channels, vocabulary.channels)
        yield from unknown(f"{at}.defaults", placement.defaults, business.by_name)
        for default in placement.defaults:
            yield from _unfit(at, business, name, placement, default)
    at = str(folder / "policies.yaml")
    policies = business.policies
    targets = [(limit.name, limit.target) for limit in policies.limits]
    targets += [(weight.name, weight.target) for weight in policies.context_weights]
    targets += [(lever.name, lever.target) for lever in policies.levers]
    for name, target in targets:
        yield from unknown(f"{at}: {name}.action", [target.action], business.by_name)
        yield from unknown(f"{at}: {name}.group", [target.group], vocabulary.groups)
    for limit in policies.limits:
        yield from unknown(f"{at}: {limit.name}.channel", [limit.channel], vocabulary.channels)
    for weight in policies.context_weights:
        where = f"{at}: {weight.name}.when"
        yield from unknown(f"{where}.intent", [weight.when.intent], vocabulary.intents)
        yield from unknown(f"{where}.channel", [weight.when.channel], vocabulary.channels)
        yield from unknown(f"{where}.fact", [weight.when.fact], FACTS)


def _unfit(
    at: str, business: Business, name: str, placement: Placement, default: str
) -> Iterator[str]:
    """Say why a default could not be shown to somebody of whom nothing is known."""
    action = business.by_name.get(default)
    if action is None:
        return
    if action.purpose is not None:
        yield f"{at}.defaults: {default!r} needs consent for {action.purpose!r}; choose a service"
    if ASSURANCE[action.assurance] > ASSURANCE[placement.assurance]:
        yield f"{at}.defaults: {default!r} needs a caller who is {action.assurance}; choose another"
    if any(covered(limit, action) for limit in business.policies.limits):
        yield f"{at}.defaults: {default!r} has a contact limit; choose one without"
    if action.prior * (action.value - action.cost) <= 0:
        yield f"{at}.defaults: {default!r} has no priority; give it a prior, and value over cost"
    if action.valid != Validity():
        yield f"{at}.defaults: {default!r} is not valid for ever; choose one that is"
    for channel in placement.channels:
        if treatment(action, name, channel) is None:
            yield f"{at}.defaults: {default!r} has no treatment on {channel!r}; add one"


def treatment(action: Action, placement: str, channel: str, locale: str = "") -> Treatment | None:
    """The first treatment that fits placement and channel, in the locale if there is one."""
    fitting = [
        one
        for one in action.treatments
        if placement in one.placements and (not one.channels or channel in one.channels)
    ]
    return next((one for one in fitting if locale and one.locale == locale), None) or (
        fitting[0] if fitting else None
    )


def covered(limit: Limit, action: Action) -> bool:
    """Whether a limit is about an action."""
    return limit.target.covers(action)


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


def outcome_code(limit: Limit) -> int:
    """Code of the outcome that a limit counts."""
    return int(Outcome[limit.outcome])
