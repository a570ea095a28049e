"""What may be offered to this customer, here and now: the filter stages, each with a reason. Pure.

Everything that does not depend on the customer is worked out once, when the configuration loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.profile import Profile
from features.record import Records
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.catalogue import ASSURANCE, ISSUES, Action, Treatment, treatment
from service.declared import Limit, outcome_code

Codes = npt.NDArray[np.int64]


class Drop(NamedTuple):
    """Why an action is not offered."""

    stage: pb.Stage.ValueType
    code: str
    text: str


class Offer(NamedTuple):
    """An action that a placement could show on a channel, with the words for it."""

    action: Action
    treatment: Treatment


class _Counted(NamedTuple):
    """A limit, ready to be counted."""

    limit: Limit
    outcome: int
    channel: int  # 0: any
    key_of_action: Codes  # [codes] what events about an action count for, -1: nothing
    keys: int


class Policies:
    """The filter stages of one configuration."""

    def __init__(self, business: Business) -> None:
        self._business = business
        self._offers: dict[tuple[str, str, str], list[Offer]] = {}
        self._limits = [self._prepare(limit) for limit in business.policies.limits]
        self._limits_of = {
            action.name: [
                number
                for number, prepared in enumerate(self._limits)
                if covered(prepared.limit, action)
            ]
            for action in business.actions
        }

    def _prepare(self, limit: Limit) -> _Counted:
        vocabulary = self._business.vocabulary
        keys: dict[str, int] = {}
        key_of_action = np.full(max(vocabulary.actions.values(), default=0) + 2, -1, np.int64)
        for action in self._business.actions:
            if covered(limit, action):
                key = _key(limit, action)
                key_of_action[vocabulary.actions[action.name]] = keys.setdefault(key, len(keys))
        channel = vocabulary.channels[limit.channel] if limit.channel else 0
        return _Counted(limit, outcome_code(limit), channel, key_of_action, len(keys))

    def offers(self, placement: str, channel: str, locale: str) -> list[Offer]:
        """The actions that have a treatment for the placement and channel."""
        at = (placement, channel, locale)
        if at not in self._offers and len(self._offers) < 10_000:
            self._offers[at] = self._find(*at)
        return self._offers.get(at) or self._find(*at)

    def _find(self, placement: str, channel: str, locale: str) -> list[Offer]:
        return [
            Offer(action, fitting)
            for action in self._business.actions
            if (fitting := treatment(action, placement, channel, locale)) is not None
        ]

    def usage(self, ledger: Records | None, now: int) -> list[Codes] | None:
        """Count the ledger for every limit.

        Returns:
            For each limit, the count by its keys; None where the ledger could not be read.
        """
        if ledger is None:
            return None
        age = now - ledger["occurred_at"]
        counts = []
        for prepared in self._limits:
            here = (
                (age >= 0)
                & (age < prepared.limit.within_ms)
                & (ledger["outcome"] == prepared.outcome)
            )
            if prepared.channel:
                here &= ledger["channel"] == prepared.channel
            about = ledger["action"][here].astype(np.int64)
            codes = np.minimum(about, len(prepared.key_of_action) - 1)
            keys = prepared.key_of_action[codes]
            counts.append(np.bincount(keys[keys >= 0], minlength=prepared.keys))
        return counts

    def drop(
        self,
        action: Action,
        *,
        channel: str,
        now: int,
        assurance: int,
        required: int,
        profile: Profile | None,
        usage: Sequence[Codes] | None,
    ) -> Drop | None:
        """Pass one action through the stages.

        Args:
            action: The candidate.
            channel: Where it would be shown.
            now: Milliseconds since 1970-01-01 UTC.
            assurance: How sure the caller is of who this is, 1 to 3.
            required: What the placement asks for.
            profile: None where it could not be read: then only what needs no consent passes.
            usage: From :meth:`usage`. None: then only what no limit covers passes.

        Returns:
            The first reason against it, or None.
        """
        start, end = action.valid.milliseconds
        if not start <= now <= end:
            return Drop(pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW", "Outside its validity")
        needed = max(required, ASSURANCE[action.assurance])
        if assurance < needed:
            name = next(name for name, level in ASSURANCE.items() if level == needed)
            return Drop(pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW", f"Needs a caller who is {name}")
        if action.purpose is not None:
            if profile is None:
                text = f"Consent for {action.purpose} could not be read"
                return Drop(pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE", text)
            if not profile.granted(action.purpose, channel):
                text = f"No consent for {action.purpose} on {channel}"
                return Drop(pb.STAGE_ELIGIBILITY, "NO_CONSENT", text)
        for number in self._limits_of[action.name]:
            limit = self._limits[number].limit
            if usage is None:
                text = f"Limit {limit.name} could not be counted"
                return Drop(pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE", text)
            code = self._business.vocabulary.actions[action.name]
            count = int(usage[number][self._limits[number].key_of_action[code]])
            room = limit.at_most - (limit.outcome == "presented")
            if count > room:
                often = "once" if count == 1 else f"{count} times"
                text = f"{limit.outcome} {often} within {limit.within} (limit {limit.name})"
                return Drop(pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT", text)
        return None


def _key(limit: Limit, action: Action) -> str:
    match limit.per:
        case "action":
            return action.name
        case "group":
            return action.group
        case "issue":
            return action.issue
        case "customer":
            return ""


def counted_outcomes(business: Business) -> frozenset[int]:
    """Outcomes that some limit counts: events with these go to the ledger."""
    return frozenset(outcome_code(limit) for limit in business.policies.limits) | {
        int(Outcome.presented)
    }


def described(business: Business) -> list[Mapping[str, float]]:
    """What the catalogue says of each action, as numbers for the acceptance model."""
    vocabulary = business.vocabulary
    return [
        {
            "code": vocabulary.actions[action.name],
            "issue": ISSUES.index(action.issue),
            "group": vocabulary.groups[action.group],
            "value": action.value,
            "cost": action.cost,
        }
        for action in business.actions
    ]
