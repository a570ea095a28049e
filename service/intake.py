"""Turn events as callers send them into what the store keeps. Pure.

This is also the gate for emotions: only a customer's is kept, and only with a lawful basis.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from features import record
from features.vocabulary import Direction, Outcome, Vocabulary
from rapport.v1 import event_pb2, log_pb2
from service import identity
from service.callers import Caller
from service.checks import LONGEST_VALUE, SKEW, Checks
from service.errors import Violation
from service.store import Write

MAX_EVENTS: Final = 1_000
MAX_SOURCE: Final = 64
LARGEST: Final = 1e12
"""Largest value of an event, in the business's currency."""
_MAX_ATTRIBUTES: Final = 32
DIRECTIONS: Final = frozenset(map(int, Direction))
OUTCOMES: Final = frozenset(map(int, Outcome))
_MODALITIES: Final = frozenset(event_pb2.Sentiment.Modality.values())
_SUBJECTS: Final = frozenset(event_pb2.Sentiment.Subject.values())
_BASES: Final = frozenset(event_pb2.Sentiment.Basis.values())
_DECISION: Final = re.compile("[0-9a-f]{25}")
_ENDING: Final = frozenset(map(int, (Outcome.presented, Outcome.overridden)))
_NO_BASIS: Final = "no basis was stated"


class Named(NamedTuple):
    """Whom a request is about: an id, or an identifier still to be resolved."""

    customer_id: str | None
    identifier: tuple[str, str] | None = None  # namespace and normalised value


class Fit(NamedTuple):
    """An event in the form that is stored, whoever's it is."""

    record: bytes  # 40 bytes, see features.record
    kept: event_pb2.Event  # as it was sent, less what may not be kept
    sentiment_dropped: str = ""  # why a reading of sentiment was


class Taken(NamedTuple):
    """An event that is fit to be stored."""

    who: Named
    write: Write
    sentiment_dropped: bool = False


def customer(
    checks: Checks, key: event_pb2.CustomerKey, vocabulary: Vocabulary, field: str = "customer"
) -> Named:
    """Check whom a request is about."""
    if key.WhichOneof("key") == "customer_id":
        checks.text(f"{field}.customer_id", key.customer_id, required=True)
        return Named(key.customer_id)
    if key.WhichOneof("key") == "identifier":
        named = key.identifier
        value = identity.normalise(vocabulary, named.namespace, named.value)
        if isinstance(value, Violation):
            checks.wrong(f"{field}.identifier.{value.field}", value.description)
            return Named(None)
        return Named(None, (named.namespace, value))
    checks.wrong(field, "is absent; send customer_id or identifier")
    return Named(None)


def take(
    event: event_pb2.Event,
    at: str,
    vocabulary: Vocabulary,
    counted: frozenset[int],
    caller: Caller,
    now: int,
) -> Taken | Violation:
    """Check one event and pack it.

    Args:
        event: As it was sent.
        at: Its path in the request, such as ``events[3].``.
        vocabulary: What its names must be declared in.
        counted: Outcomes that contact limits count.
        caller: Who sends it.
        now: Milliseconds since 1970-01-01 UTC.

    Returns:
        What to store, or the first thing that is wrong.
    """
    checks = Checks(at)
    who = customer(checks, event.customer, vocabulary)
    made = fit(checks, event, vocabulary, caller, now, past="import" in caller.scopes)
    if made is None:
        return checks.violations[0]
    releases = released(event)
    counts = event.outcome in counted and bool(event.action)
    entry = log_pb2.LogEntry(customer_id=who.customer_id or "")
    logged = entry.event  # in place: a message that is given to another is copied whole
    logged.record = made.record
    logged.event.CopyFrom(made.kept)
    logged.caller = caller.name
    logged.releases = releases
    logged.sentiment_dropped = made.sentiment_dropped
    logged.counted = counts
    write = Write(made.record, counts, entry.SerializeToString(), releases)
    return Taken(who, write, bool(made.sentiment_dropped))


def fit(
    checks: Checks,
    event: event_pb2.Event,
    vocabulary: Vocabulary,
    caller: Caller,
    now: int,
    *,
    past: bool,
) -> Fit | None:
    """Check an event, whose it is aside, and pack it.

    Args:
        checks: Where to note what is wrong.
        event: As it was sent.
        vocabulary: What its names must be declared in.
        caller: Who sends it.
        now: Milliseconds since 1970-01-01 UTC.
        past: Whether it may have occurred long ago.

    Returns:
        What to store; None where anything was noted, now or before.
    """
    checks.text("event_id", event.event_id, required=True)
    source = checks.text("source", event.source, most=MAX_SOURCE) or caller.name
    if not caller.speaks_for(source):
        checks.wrong(
            "source",
            f"{source!r} is not {caller.name!r}'s; leave it out, or list it under `sources` of "
            "that caller",
        )
    occurred_at = checks.moment("occurred_at", event, "occurred_at", now, past=past)
    if event.HasField("received_at") and "import" not in caller.scopes:
        checks.wrong("received_at", "may be set by callers with scope 'import' only; leave it out")
    checks.moment("received_at", event, "received_at", now, past=True, required=False)
    if event.sequence > record.MAX_SEQUENCE:
        checks.wrong(
            "sequence",
            f"{event.sequence} is over {record.MAX_SEQUENCE}; count within the millisecond",
        )
    for field in ("interaction_id", "parent_interaction_id", "agent_id", "skill", "queue",
                  "locale", "decision_id"):  # fmt: skip
        sent = getattr(event, field)
        if sent:
            checks.text(field, sent)
    if len(event.attributes) > _MAX_ATTRIBUTES:
        checks.wrong(
            "attributes", f"has {len(event.attributes)} entries; send at most {_MAX_ATTRIBUTES}"
        )
    for name, value in event.attributes.items():
        checks.text(f"attributes.{name[:32]}", name, most=MAX_SOURCE)
        checks.text(f"attributes.{name[:32]}", value, most=LONGEST_VALUE)
    type_code = checks.code("type", event.type, vocabulary.type_codes, required=True)
    channel = checks.code("channel", event.channel, vocabulary.channels)
    intent = checks.code("intent", event.intent, vocabulary.intent_codes)
    action = checks.code("action", event.action, vocabulary.actions)
    direction = checks.enumerated("direction", event.direction, DIRECTIONS)
    outcome = checks.enumerated("outcome", event.outcome, OUTCOMES)
    value_ = (
        checks.finite("value", event.value, -LARGEST, LARGEST) if event.HasField("value") else None
    )
    mood, dropped = None, ""
    if event.HasField("sentiment"):
        mood, dropped = _sentiment(checks, event.sentiment)
    seconds = None
    if event.HasField("duration"):
        if not 0 <= event.duration.nanos < 1_000_000_000:
            checks.wrong(
                "duration", f"has {event.duration.nanos} nanos, out of range; send 0 to 999,999,999"
            )
        length = event.duration.seconds + event.duration.nanos / 1e9
        seconds = checks.finite("duration", length, 0, record.MAX_DURATION)
    if checks.violations or occurred_at is None:
        return None
    packed = record.pack(
        occurred_at=occurred_at,
        hash=record.event_hash(source, event.event_id),
        type=type_code,
        sequence=event.sequence,
        agent=record.agent_hash(event.agent_id),
        interaction=record.interaction_hash(event.interaction_id),
        value=value_,
        intent=intent,
        action=action,
        duration=seconds,
        channel=channel,
        direction=direction,
        continuation=bool(event.parent_interaction_id),
        outcome=outcome,
        sentiment=mood,
    )
    kept = event_pb2.Event()
    kept.CopyFrom(event)
    kept.ClearField("customer")
    kept.source = source
    kept.DiscardUnknownFields()  # as older clients sent a mood of nobody knows whom
    if dropped:
        kept.ClearField("sentiment")
    return Fit(packed, kept, dropped)


def released(event: event_pb2.Event) -> bytes:
    """Hash of the reservation that an event ends; empty where it ends none."""
    if not (event.decision_id and event.action and event.outcome in _ENDING):
        return b""
    if not _DECISION.fullmatch(event.decision_id):
        return b""
    moment = event.occurred_at.seconds * 1000 + event.occurred_at.nanos // 1_000_000
    if moment < int(event.decision_id[2:13], 16) - SKEW:
        return b""  # nobody saw the answer before it was given
    return record.reservation_hash(event.decision_id, event.action).to_bytes(8, "little")


def _sentiment(checks: Checks, reading: event_pb2.Sentiment) -> tuple[float | None, str]:
    """Check a reading of sentiment; give what may be kept of it, and why nothing may."""
    kind = event_pb2.Sentiment
    score = None
    if reading.HasField("score"):
        score = checks.finite("sentiment.score", reading.score, -1, 1)
    else:
        checks.wrong("sentiment.score", "is absent; send -1 to 1, or leave `sentiment` out")
    if checks.enumerated("sentiment.subject", reading.subject, _SUBJECTS) == kind.SUBJECT_AGENT:
        checks.wrong(
            "sentiment.subject",
            "is SUBJECT_AGENT; Rapport keeps no emotions of employees, leave `sentiment` out",
        )
    elif reading.subject == kind.SUBJECT_UNSPECIFIED:
        checks.wrong("sentiment.subject", "is absent; send whose mood it is: SUBJECT_CUSTOMER")
    checks.enumerated("sentiment.modality", reading.modality, _MODALITIES)
    if reading.modality == kind.MODALITY_UNSPECIFIED:
        checks.wrong(
            "sentiment.modality",
            "is absent; send what it was read from: MODALITY_TEXT, MODALITY_VOICE, "
            "MODALITY_STATED or MODALITY_OBSERVED",
        )
    checks.text("sentiment.source", reading.source, required=True, most=MAX_SOURCE)
    checks.enumerated("sentiment.basis", reading.basis, _BASES)
    return (None, _NO_BASIS) if reading.basis == kind.BASIS_UNSPECIFIED else (score, "")


def linked(identifier: tuple[str, str], customer_id: str, caller: Caller) -> bytes:
    """The log entry of an identifier that names a customer from now on."""
    namespace, value = identifier
    entry = log_pb2.LogEntry(
        customer_id=customer_id,
        identity=log_pb2.IdentityLinked(
            identifier=event_pb2.Identifier(namespace=namespace, value=value),
            caller=caller.name,
        ),
    )
    return entry.SerializeToString()


def addressed(entry: bytes, customer_id: str) -> bytes:
    """A log entry that says whose it is, where its identifier has been resolved since.

    Appending a field to a serialised message sets it.
    """
    return entry + log_pb2.LogEntry(customer_id=customer_id).SerializeToString()
