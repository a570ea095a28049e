"""The facts as they were told before, looking everything up at every call."""

from __future__ import annotations

from collections.abc import Sequence

from features.duration import spoken
from features.journey import Journey, Relationship, Stage
from features.record import Records
from features.vocabulary import Role, Vocabulary
from service.facts import LIKELY, Fact


def tell(
    records: Records,
    found: Journey,
    now: int,
    vocabulary: Vocabulary,
    intents: Sequence[tuple[str, float]] = (),
) -> list[Fact]:
    """Put the facts that are worth an agent's attention into words, most pressing first.

    Args:
        records: The timeline that the facts were read off.
        found: From :func:`features.journey.read`.
        now: Milliseconds since 1970-01-01 UTC.
        vocabulary: For names and titles.
        intents: Likely intents of this contact, most likely first.
    """
    told = [
        _failed_self_service(records, found, now, vocabulary),
        _repeat(found, vocabulary, intents),
        _counted(
            found,
            "unresolved_contacts",
            "unresolved_contacts",
            "One earlier contact ended without a solution",
            "{} earlier contacts ended without a solution",
        ),
        _counted(
            found,
            "unanswered_question",
            "unanswered_questions",
            "A question of theirs was never answered",
            "{} questions of theirs were never answered",
        ),
        _counted(
            found,
            "channel_hops",
            "channel_hops",
            "They changed channel once in the last days",
            "They changed channel {} times in the last days",
        ),
        _mood(found),
        _relationship(found),
        _stage(found),
    ]
    return [fact for fact in told if fact is not None]


def _failed_self_service(
    records: Records, found: Journey, now: int, vocabulary: Vocabulary
) -> Fact | None:
    times = int(found.value("failed_self_service"))
    if not times:
        return None
    names = vocabulary.names["channels"]
    roles = {kind.code: Role[kind.role] for kind in vocabulary.types.values()}
    seen: dict[str, None] = {}
    left = times
    for record in records[: found.newest_failure + 1][::-1]:
        if left and roles.get(int(record["type"])) == Role.self_service_failed:
            seen.setdefault(names.get(int(record["channel"]), "an unknown channel"))
            left -= 1
    newest = int(records[found.newest_failure]["occurred_at"])
    channels = tuple(reversed(seen))
    tries = "a try" if times == 1 else f"{times} tries"
    ago = spoken(now - newest)
    text = f"{tries} at self-service on {_listed(channels)} failed, the last {ago} ago"
    return Fact("failed_self_service", _sentence(text), times, newest, channels=channels)


def _repeat(
    found: Journey, vocabulary: Vocabulary, intents: Sequence[tuple[str, float]]
) -> Fact | None:
    names = vocabulary.names["intents"]
    contacts = found.contacts_by_intent.items()
    earlier = {names[code]: count for code, count in contacts if code in names}
    if intents and intents[0][1] >= LIKELY and intents[0][0] in earlier:
        name, count = intents[0][0], earlier[intents[0][0]] + 1
        if count >= 2:
            about = vocabulary.intents[name].title
            text = f"This looks like contact {count} about {about!r}"
            return Fact("repeat_contact", text, count, intent=name)
    count, name = (
        int(found.value("repeat_contacts")),
        names.get(int(found.value("repeat_intent")), ""),
    )
    if count < 2 or not name:
        return None
    about = vocabulary.intents[name].title
    return Fact(
        "repeat_contact", f"They contacted us {count} times about {about!r}", count, intent=name
    )


def _counted(found: Journey, kind: str, value: str, one: str, many: str) -> Fact | None:
    count = int(found.value(value))
    if not count:
        return None
    return Fact(kind, one if count == 1 else many.format(count), count)


def _mood(found: Journey) -> Fact | None:
    trend = found.value("sentiment_trend")
    if not abs(trend) >= 0.2:
        return None
    way = "improving" if trend > 0 else "getting worse"
    return Fact("sentiment_trend", f"Their mood is {way}", trend)


def _relationship(found: Journey) -> Fact | None:
    kind = Relationship(int(found.value("relationship")))
    words = {
        Relationship.friend: "They like us",
        Relationship.enemy: "They are unhappy with us",
        Relationship.love_hate: "They swing between delight and anger",
    }
    return Fact("relationship", words[kind], kind) if kind in words else None


def _stage(found: Journey) -> Fact | None:
    stage = Stage(int(found.value("lifetime_stage")))
    words = {
        Stage.prospect: "They have not bought anything yet",
        Stage.new: "They are new here",
        Stage.growing: "They do more and more with us",
        Stage.at_risk: "They do much less with us than a month ago",
        Stage.lapsed: "They have been away for a long time",
    }
    return Fact("lifetime_stage", words[stage], stage) if stage in words else None


def _listed(names: Sequence[str]) -> str:
    words = [name.replace("_", " ") for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
