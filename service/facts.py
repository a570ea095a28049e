"""Say what the chain of events shows, in sentences for an agent. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from features import journey
from features.duration import spoken
from features.journey import Journey, Relationship, Stage
from features.vocabulary import Vocabulary

LIKELY = 0.3
"""Probability from which an intent counts as the reason for this contact."""
NOTABLE_TREND: Final = 0.2
"""Change of mood, either way, that is worth telling."""

# What is said of each fact; ``service.telling`` writes the same from a kernel.
FAILED_TEXT: Final = "{} at self-service on {} failed, the last {} ago"
STRANGE: Final = "an unknown channel"
ONE_TRY, TRIES = "A try", "{} tries"
LOOKS_TEXT: Final = "This looks like contact {} about {}"
REPEAT_TEXT: Final = "They contacted us {} times about {}"
WORSE, BETTER = "Their mood is getting worse", "Their mood is improving"


class Fact(NamedTuple):
    """One thing read off the chain of events."""

    kind: str
    text: str
    magnitude: float
    newest: int | None = None  # milliseconds
    intent: str = ""
    channels: tuple[str, ...] = ()


def tell(
    found: Journey,
    now: int,
    vocabulary: Vocabulary,
    intents: Sequence[tuple[str, float]] = (),
) -> list[Fact]:
    """Put the facts that are worth an agent's attention into words, most pressing first.

    Args:
        found: From :func:`features.journey.read`.
        now: Milliseconds since 1970-01-01 UTC.
        vocabulary: For names and titles.
        intents: Likely intents of this contact, most likely first.
    """
    values = found.values.tolist()
    told: list[Fact] = []
    if values[journey.FAILED]:
        told.append(_failed_self_service(found, values, now, vocabulary))
    if found.contacts_by_intent and (repeat := _repeat(found, values, vocabulary, intents)):
        told.append(repeat)
    for kind, at, one, many in COUNTED:
        if count := int(values[at]):
            told.append(Fact(kind, one if count == 1 else many.format(count), count))
    trend = values[journey.MOOD_TREND]
    if abs(trend) >= NOTABLE_TREND:
        told.append(Fact("sentiment_trend", BETTER if trend > 0 else WORSE, trend))
    for facts, at in ((RELATIONSHIPS, journey.RELATIONSHIP), (STAGES, journey.STAGE)):
        if fact := facts.get(values[at]):
            told.append(fact)
    return told


COUNTED: Final = (
    (
        "unresolved_contacts",
        journey.UNRESOLVED,
        "One earlier contact ended without a solution",
        "{} earlier contacts ended without a solution",
    ),
    (
        "unanswered_question",
        journey.UNANSWERED,
        "A question of theirs was never answered",
        "{} questions of theirs were never answered",
    ),
    (
        "channel_hops",
        journey.HOPS,
        "They changed channel once in the last days",
        "They changed channel {} times in the last days",
    ),
)
RELATIONSHIPS: Final[Mapping[float, Fact]] = {
    kind: Fact("relationship", text, kind)
    for kind, text in (
        (Relationship.friend, "They like us"),
        (Relationship.enemy, "They are unhappy with us"),
        (Relationship.love_hate, "They swing between delight and anger"),
    )
}
STAGES: Final[Mapping[float, Fact]] = {
    stage: Fact("lifetime_stage", text, stage)
    for stage, text in (
        (Stage.prospect, "They have not bought anything yet"),
        (Stage.new, "They are new here"),
        (Stage.growing, "They do more and more with us"),
        (Stage.at_risk, "They do much less with us than a month ago"),
        (Stage.lapsed, "They have been away for a long time"),
    )
}


def _failed_self_service(
    found: Journey, values: Sequence[float], now: int, vocabulary: Vocabulary
) -> Fact:
    times, age = int(values[journey.FAILED]), round(1000 * values[journey.SINCE_FAILED])
    names = vocabulary.names["channels"]
    seen = dict.fromkeys(names.get(code, STRANGE) for code in found.failed_on)
    channels = tuple(reversed(seen))
    tries = ONE_TRY if times == 1 else TRIES.format(times)
    text = FAILED_TEXT.format(tries, _listed(channels), spoken(age))
    return Fact("failed_self_service", text, times, now - age, channels=channels)


def _repeat(
    found: Journey,
    values: Sequence[float],
    vocabulary: Vocabulary,
    intents: Sequence[tuple[str, float]],
) -> Fact | None:
    """Contacts about one intent; there is at least one."""
    if intents and intents[0][1] >= LIKELY:
        name = intents[0][0]
        one = vocabulary.intents.get(name)
        count = 0 if one is None else found.contacts_by_intent.get(one.code, 0) + 1
        if one is not None and count >= 2:
            text = LOOKS_TEXT.format(count, repr(one.title))
            return Fact("repeat_contact", text, count, intent=name)
    count = int(values[journey.REPEATS])
    name = vocabulary.names["intents"].get(int(values[journey.REPEAT_INTENT]), "")
    if count < 2 or not name:
        return None
    text = REPEAT_TEXT.format(count, repr(vocabulary.intents[name].title))
    return Fact("repeat_contact", text, count, intent=name)


def _listed(names: Sequence[str]) -> str:
    words = [worded(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def worded(name: str) -> str:
    """A channel's name as people say it."""
    return name.replace("_", " ")


def magnitudes(values: Sequence[float] | None) -> dict[str, float]:
    """The facts that context weights may name, as numbers; empty without a timeline.

    Args:
        values: One for each of :data:`features.journey.FACTS`; None: there is no timeline.
    """
    if values is None:
        return {}
    return {name: values[at] for name, at in PLACES.items()}


PLACES: Final[Mapping[str, int]] = {
    "failed_self_service": journey.FAILED,
    "repeat_contact": journey.REPEATS,
    "channel_hops": journey.HOPS,
    "unresolved_contacts": journey.UNRESOLVED,
    "unanswered_question": journey.UNANSWERED,
    "sentiment_trend": journey.MOOD_TREND,
    "relationship": journey.RELATIONSHIP,
    "lifetime_stage": journey.STAGE,
}
"""Names of the facts that a configuration may speak of, and where their numbers stand."""
