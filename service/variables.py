"""What conditions in the configuration may read: names and kinds, and their values now. Pure.

``customer``   the profile's attributes; one that was never told is absent, so ``has()`` says no
``context``    what the caller sent, with channel, direction, assurance and the business's clock
``journey``    the facts read off the chain of events; absent where it could not be read
``intent``     ``name`` and ``probability`` of the likeliest, and ``all`` by name
``action``     what the catalogue says of the action that the condition is about
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from features.journey import Relationship, Stage
from features.profile import Profile, Value
from features.vocabulary import Attribute, Direction, Vocabulary
from service.catalogue import ASSURANCE, Action
from service.rules import Environment, Kind
from service.rules import Value as RuleValue

Values = Mapping[str, Mapping[str, RuleValue]]

_KINDS: Final[dict[str, Kind]] = {"number": "number", "flag": "flag", "category": "text"}
CONTACT: Final[dict[str, Kind]] = {
    "channel": "text",
    "direction": "text",
    "assurance": "text",
    "agent_id": "text",
    "skill": "text",
    "queue": "text",
    "locale": "text",
    "hour_of_day": "count",
    "day_of_week": "count",
}
"""Fields of ``context`` that every business has."""
_JOURNEY: Final[dict[str, Kind]] = {
    "failed_self_service": "count",
    "repeat_contact": "count",
    "channel_hops": "count",
    "unresolved_contacts": "count",
    "unanswered_question": "count",
    "sentiment_trend": "number",
    "relationship": "text",
    "lifetime_stage": "text",
}
_INTENT: Final[dict[str, Kind]] = {"name": "text", "probability": "number", "all": "numbers"}
_ACTION: Final[dict[str, Kind]] = {
    "name": "text",
    "issue": "text",
    "group": "text",
    "purpose": "text",
    "value": "number",
    "cost": "number",
    "prior": "number",
    "intents": "texts",
    "queue_priority": "flag",
}
_ASSURANCES: Final = {level: name for name, level in ASSURANCE.items()}
_DIRECTIONS: Final = {int(one): one.name for one in Direction}


def environment(vocabulary: Vocabulary) -> Environment:
    """Names and kinds that a business's conditions may read."""
    return Environment(
        {
            "customer": _declared(vocabulary.attributes),
            "context": {**_declared(vocabulary.context), **CONTACT},
            "journey": _JOURNEY,
            "intent": _INTENT,
            "action": _ACTION,
        }
    )


def _declared(names: Mapping[str, Attribute]) -> dict[str, Kind]:
    return {name: _KINDS[one.kind] for name, one in names.items()}


def of_action(action: Action) -> dict[str, RuleValue]:
    """The constants of one action."""
    values: dict[str, RuleValue] = {
        "name": action.name,
        "issue": action.issue,
        "group": action.group,
        "value": action.value,
        "cost": action.cost,
        "prior": action.prior,
        "intents": list(action.intents),
        "queue_priority": action.queue_priority,
    }
    if action.purpose is not None:
        values["purpose"] = action.purpose
    return values


def of_customer(profile: Profile | None) -> dict[str, RuleValue]:
    """What is known of the customer; stale values count, unknown and missing ones are absent."""
    if profile is None:
        return {}
    return {
        name: _plain(told.value)
        for name, told in profile.attributes.items()
        if told.value is not None
    }


def _plain(value: Value) -> RuleValue:
    return value if isinstance(value, bool | str) else float(value)


def of_context(
    context: Mapping[str, Value],
    contact: Mapping[str, str],
    *,
    channel: str,
    direction: int,
    assurance: int,
    now: int,
    zone: ZoneInfo,
) -> dict[str, RuleValue]:
    """What is known of the contact.

    Args:
        context: Declared values that the caller sent.
        contact: agent_id, skill, queue and locale, empty where they were not sent.
        channel: Of the contact.
        direction: Code.
        assurance: Level, 1 to 3.
        now: Milliseconds since 1970-01-01 UTC.
        zone: Of the business.
    """
    local = datetime.datetime.fromtimestamp(now / 1000, zone)
    values = {name: _plain(value) for name, value in context.items()}
    values.update((name, text) for name, text in contact.items() if text)
    values["channel"] = channel
    values["direction"] = _DIRECTIONS[direction]
    values["assurance"] = _ASSURANCES[assurance]
    values["hour_of_day"] = local.hour
    values["day_of_week"] = local.isoweekday()
    return values


def of_journey(facts: Mapping[str, float]) -> dict[str, RuleValue]:
    """The journey facts by their magnitudes; those that do not exist are absent."""
    values: dict[str, RuleValue] = {}
    for name, magnitude in facts.items():
        if magnitude != magnitude:  # NaN  # noqa: PLR0124
            continue
        if name == "relationship":
            values[name] = Relationship(int(magnitude)).name
        elif name == "lifetime_stage":
            values[name] = Stage(int(magnitude)).name
        elif name == "sentiment_trend":
            values[name] = magnitude
        else:
            values[name] = int(magnitude)
    return values


def of_intents(intents: Sequence[tuple[str, float]]) -> dict[str, RuleValue]:
    """Likely intents; where none was scored, all of it is absent."""
    if not intents:
        return {}
    name, probability = intents[0]
    return {"name": name, "probability": probability, "all": dict(intents)}


class Subject(NamedTuple):
    """Whom and what the conditions of one request are about."""

    profile: Profile | None
    context: Mapping[str, Value]  # declared values that the caller sent
    contact: Mapping[str, str]  # agent_id, skill and queue, empty or absent where not sent
    locale: str
    channel: str
    direction: int
    assurance: int  # level, 1 to 3
    now: int  # milliseconds since 1970-01-01 UTC
    facts: Mapping[str, float]  # journey facts by their magnitudes
    intents: Sequence[tuple[str, float]]  # likeliest first
    chances: Mapping[str, float]  # the same by name


def known(subject: Subject, zone: ZoneInfo) -> Values:
    """All values that the conditions of a request may read."""
    return {
        "customer": of_customer(subject.profile),
        "context": of_context(
            subject.context,
            {**subject.contact, "locale": subject.locale},
            channel=subject.channel,
            direction=subject.direction,
            assurance=subject.assurance,
            now=subject.now,
            zone=zone,
        ),
        "journey": of_journey(subject.facts),
        "intent": of_intents(subject.intents),
    }
