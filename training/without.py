"""The same decision without one of its causes. Pure.

A cause is a rule, limit, consent, level of assurance, ceiling or quiet hours that drops actions; a
context weight, the intent match or a goal's weights by segment, which rank them; a feature of
the models, or all that they say of acceptance. Each is taken out on its own: what it says is
ignored, and all else stays as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from features.elementary import Floats
from features.plan import Context
from features.profile import Profile
from features.record import Records
from service import sight
from service.arbitration import Arbiter
from service.business import Business
from service.causes import Cause, Filtered, rows_of, union
from service.circumstances import Circumstances
from service.declared import IntentMatch
from service.exploration import Fate
from service.layout import Layout
from service.models import Models
from service.pipeline import Pipeline
from service.policies import Policies
from service.reasons import Reasons
from service.rules import Answers
from service.sight import Seen, Sight
from service.situation import holds
from service.stages import STAGES
from service.weighed import Weighed

_FILTERS: Final = {
    "RULE": "rule",
    "RULE_UNKNOWN": "rule",
    "CONTACT_LIMIT": "limit",
    "LEDGER_UNREADABLE": "unreadable ledger",
    "SUPPRESSED": "suppression",
    "NO_CONSENT": "consent",
    "CONSENT_UNREADABLE": "consent",
    "ASSURANCE_TOO_LOW": "assurance",
    "CEILING": "ceiling",
    "QUIET_HOURS": "quiet hours",
    "NOT_ALLOWED": "caller",
    "BLOCKED": "caller",
}
_STAGE: Final = dict(STAGES)
_NO_MATCH: Final = IntentMatch(1.0, 1.0)


class Key(NamedTuple):
    """Names a cause."""

    kind: str
    name: str
    stage: str = ""  # of a rule; those of one stage and name are one cause


def key(cause: Cause) -> Key | None:
    """The key of what dropped actions; None for what belongs to the catalogue alone."""
    kind = _FILTERS.get(cause.code)
    if kind is None:
        return None
    if kind == "rule":
        return Key(kind, cause.name, _STAGE[cause.stage])
    return Key(kind, cause.name or cause.code.lower())


class _Lenient(Policies):
    """Policies that ignore one cause."""

    def __init__(self, policies: Policies, ignored: Key) -> None:
        self.__dict__.update(policies.__dict__)
        self._ignored = ignored
        if ignored.kind == "limit":
            self.shares = [one for one in self.shares if one.name != ignored.name]

    def instead(self, at: Circumstances, results: Callable[[], Answers]) -> Filtered:
        """All causes but one; what followed from it goes with it."""
        kept = [
            one
            for one in self.filtered(at._replace(results=results())).causes
            if key(one) != self._ignored and one.code != "PART_DROPPED"
        ]
        if parted := self.parted(kept):
            kept.append(parted)
        return Filtered(union(kept), kept)


def pipeline(whole: Pipeline, cause: Key) -> Pipeline:
    """A pipeline that decides without a cause; features are left out of the models instead."""
    changed = copy.copy(whole)
    business = whole.business
    if cause.kind in _FILTERS.values():
        changed.policies = _Lenient(whole.policies, cause)
        if cause.kind == "assurance":
            placements = {
                name: msgspec.structs.replace(one, assurance="none")
                if one.assurance == cause.name
                else one
                for name, one in business.placements.items()
            }
            changed.business = msgspec.structs.replace(business, placements=placements)
    elif cause.kind not in ("feature", "model"):
        policies = business.policies
        match cause.kind:
            case "context weight":
                kept = [one for one in policies.context_weights if one.name != cause.name]
                policies = msgspec.structs.replace(policies, context_weights=kept)
            case "intent match":
                policies = msgspec.structs.replace(policies, intent_match=_NO_MATCH)
            case "segment weights":
                goal = msgspec.structs.replace(policies.goals[cause.name], weights={})
                goals = {**policies.goals, cause.name: goal}
                policies = msgspec.structs.replace(policies, goals=goals)
        other = msgspec.structs.replace(business, policies=policies)
        changed.arbiter, changed.reasons = Arbiter(other), Reasons(other)
    changed.lay_out()
    return changed


def ranking(business: Business) -> list[Key]:
    """What ranks customers differently, the models aside."""
    policies = business.policies
    found = [Key("context weight", one.name) for one in policies.context_weights]
    if any(action.intents for action in business.actions):
        found.append(Key("intent match", "intent_match"))
    if policies.segment_by is not None:
        found += [Key("segment weights", name) for name, goal in policies.goals.items()
                  if goal.weights]  # fmt: skip
    return found


def in_effect(weighed: Weighed, business: Business) -> set[Key]:
    """Every cause that said something in a decision, features and the intent match aside."""
    local = [one for weighing in weighed.weighings for one in weighing.causes]
    found = {key(one) for one in (*weighed.causes, *local)} - {None}
    if weighed.rooms:
        passed = rows_of(
            int(row)
            for weighing in weighed.weighings
            for row, fate in zip(weighing.ranked.rows, weighing.drawn.fates, strict=True)
            if fate is Fate.limit_full
        )
        found |= {Key("limit", one.name) for one in weighed.rooms if one.rows & passed}
    found |= {
        Key("context weight", one.name)
        for one in business.policies.context_weights
        if holds(one.when, weighed.situation)
    }
    found |= {
        Key("segment weights", name)
        for name, goal in business.policies.goals.items()
        if goal.weights.get(weighed.situation.segment, 1.0) != 1.0
    }
    return {one for one in found if one is not None}


class Recalled(Models):
    """Models that remember what they said of each decision, and can be blind to one feature.

    Args:
        models: To ask.

    The acceptance and uplift models go blind; intents are recalled as they were.
    """

    def __init__(self, models: Models) -> None:
        layout = models.layout
        self.__dict__.update(models.__dict__)
        del self.__dict__["layout"]
        self._layouts = layout, layout.without_actions()
        self._said: dict[tuple[str, int], Floats | None] = {}
        self._at = 0
        self._blind: tuple[int, float] | None = None
        self._silent = False

    def at(
        self, decision: int, blind: tuple[int, float] | None = None, *, silent: bool = False
    ) -> Recalled:
        """Turn to a decision.

        Args:
            decision: Its number; what was said of it once is said again.
            blind: A column of the customer's features, and the number that it has for everybody.
            silent: Whether only intents are scored, so that declared priors rank the actions.
        """
        self._at, self._blind, self._silent = decision, blind, silent
        return self

    @property
    def scores_acceptance(self) -> bool:
        """Whether there is an acceptance model that may speak."""
        return super().scores_acceptance and not self._silent

    @property
    def layout(self) -> Layout:
        """Where what is seen and said stands."""
        return self._layouts[self._silent]

    def intents(self, vector: Floats) -> Floats:
        """As the models said the first time."""
        known = self._said.get(("intents", self._at))
        if known is None:
            known = self._said["intents", self._at] = super().intents(vector)
        return known

    def look(self, records: Records, profile: Profile, context: Context, now: int) -> Sight:
        """What is seen, and what was said of it the first time, or is said blindly."""
        return sight.said(self, records, profile, context, now)

    def acceptance(self, seen: Seen) -> Floats:
        """As the models said the first time, or say blindly."""
        if self._blind is not None:
            return super().acceptance(self._blinded(seen))
        known = self._said.get(("acceptance", self._at))
        if known is None:
            known = self._said["acceptance", self._at] = super().acceptance(seen)
        return known

    def uplift(self, seen: Seen) -> Floats | None:
        """As the models said the first time, or say blindly."""
        if self._blind is not None:
            return super().uplift(self._blinded(seen))
        at = ("uplift", self._at)
        if at not in self._said:
            self._said[at] = super().uplift(seen)
        return self._said[at]

    def _blinded(self, seen: Seen) -> Seen:
        assert self._blind is not None  # noqa: S101  asked by the callers
        column, neutral = self._blind
        blinded = seen.vector.copy()
        blinded[column] = neutral
        return seen._replace(vector=blinded)


def neutral(values: Floats, category: bool) -> float:
    """What a feature says of nobody in particular: the median, or the most common category."""
    known = values[~np.isnan(values)]
    if 2 * len(known) < len(values):
        return float("nan")
    if not category:
        return float(np.median(known))
    names, counts = np.unique(known, return_counts=True)
    return float(names[int(counts.argmax())])


def relied_on(
    models: Models, seen: Iterable[tuple[Floats, Records, int, Sequence[int]]]
) -> dict[str, float]:
    """How much each feature adds to or takes from the log-odds of acceptance, on average.

    Args:
        models: Whose.
        seen: Customer features, timeline, moment, and rows of the catalogue to look at.
    """
    sums: dict[str, float] = {}
    looked = 0
    for vector, records, now, rows in seen:
        told = models.seen(vector, records, now)
        for row in rows:
            looked += 1
            for name, _, added in models.contributions(models.row(told, row)):
                sums[name] = sums.get(name, 0.0) + abs(added)
    return {name: total / looked for name, total in sums.items() if name != "base" and total > 0}
