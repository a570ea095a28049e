"""Simulate the sample bank: a log in the archive's format, and beside it the truth.

A customer's life depends on the seed and on their own number only, so a larger simulation holds the
smaller one. The log holds what a bank would know; ``training.truth`` writes the rest under
``truth/``.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from features import record
from features.duration import DAY
from features.partition import partition
from features.record import LogId
from features.vocabulary import Vocabulary
from rapport.v1 import decision_pb2, event_pb2, log_pb2
from service import VERSION, answers
from service.business import Business
from service.errors import ConfigurationError, Precondition
from training import archive, life, truth
from training.person import PLACEMENTS, Decision, Happening
from training.world import SEGMENTS, Customer, World

_SOURCE: Final = {"phone": "telephony", "ivr": "ivr", "chat": "chat", "web": "digital",
                  "app": "digital", "email": "campaigns", "sms": "campaigns",
                  "branch": "branches"}  # fmt: skip
_CORE: Final = "core-banking"
_IMPORTED: Final = 1_000  # milliseconds before the start at which older events were imported
_LATE: Final = 0.004  # of the events come in up to hours late
_PROFILE_EVERY: Final = 40 * DAY


@dataclasses.dataclass(frozen=True)
class Simulated:
    """How much was written, and where the truth is."""

    customers: int
    events: int
    decisions: int
    contacts: int
    acceptance_rate: float  # accepted of all presented actions
    truth: Path


def last_hour(now: datetime.datetime) -> datetime.datetime:
    """The last full hour but one: a log that ends there is the same for the rest of this hour."""
    return now.replace(minute=0, second=0, microsecond=0) - datetime.timedelta(hours=1)


def simulate(
    business: Business,
    out: Path,
    *,
    customers: int,
    days: int,
    seed: int,
    end: datetime.datetime,
    progress: Callable[[int, int], None],
) -> Simulated:
    """Write the log of some customers over some days, and the truth about it.

    Args:
        business: The sample bank, or one that keeps its event types, channels and placements.
        out: The archive's folder; created where absent, and holding no log yet.
        customers: How many, at least 1.
        days: How long, at least 1.
        seed: The same seed gives the same log.
        end: All events occur before this moment; aware of its time zone.
        progress: Called with customers done and in all.

    Raises:
        ConfigurationError: The business lacks a name that the simulation uses.
        Precondition: The archive holds a log already; two lives of one customer would mix.
    """
    _check(business)
    if archive.files(out):
        raise Precondition(f"{out}: holds a log already; name another folder or remove it")
    until = int(end.timestamp() * 1000)
    start = until - days * DAY
    world = World(business, seed)
    partitions: dict[int, list[tuple[int, archive.Entry]]] = {}
    decisions: list[Decision] = []
    contacts: list[life.Contact] = []
    people: list[Customer] = []
    events = 0
    for index in range(customers):
        rng = world.draws(index)
        customer = world.customer(index, rng)
        one = life.Life(world, customer, rng, start, until)
        one.live()
        rows: list[tuple[int, archive.Entry]] = [
            *_events(
                business.vocabulary, customer.customer_id, one.happenings, rng, (start, until)
            ),
            *_profiles(customer, rng, one.joined_at, until),
            *_decisions(business, one.decisions),
        ]
        partitions.setdefault(partition(customer.customer_id), []).extend(rows)
        events += len(one.happenings)
        decisions += one.decisions
        contacts += one.contacts
        people.append(customer)
        if (index + 1) % 20 == 0 or index + 1 == customers:
            progress(index + 1, customers)
    with ThreadPoolExecutor(2) as pool:  # most of a write is duckdb starting up
        written = [
            pool.submit(archive.write, out, number, with_reads(numbered(rows)))
            for number, rows in sorted(partitions.items())
        ]
        for file in written:
            file.result()
    folder = out / "truth"
    truth.write(folder, world, decisions, contacts, people)
    shown = [
        accepted
        for decision in decisions
        for accepted, presented in zip(decision.accepted, decision.presented, strict=True)
        if presented
    ]
    return Simulated(
        customers, events, len(decisions), len(contacts), sum(shown) / max(1, len(shown)), folder
    )


def _check(business: Business) -> None:
    vocabulary = business.vocabulary
    for field, used, known in (
        ("types", life.TYPES, vocabulary.types),
        ("channels", PLACEMENTS, vocabulary.channels),
        ("placements", PLACEMENTS.values(), business.placements),
        ("intents", ("check_balance",), vocabulary.intents),
    ):
        missing = sorted(set(used) - set(known))
        if missing:
            raise ConfigurationError(
                f"{field}: the simulation uses {missing[0]!r}, which is not declared; "
                "simulate with the sample configuration or add it"
            )


def _events(
    vocabulary: Vocabulary,
    customer_id: str,
    happenings: list[Happening],
    rng: np.random.Generator,
    span: tuple[int, int],
) -> Iterable[tuple[int, archive.Entry]]:
    """Turn a life into log entries, each with the moment (milliseconds) it was received."""
    types, intents = vocabulary.type_codes, vocabulary.intent_codes
    lags = rng.exponential(300, len(happenings)) + 20
    late = rng.random(len(happenings)) < _LATE
    lags[late] += rng.random(int(late.sum())) * 6 * 3_600_000
    happenings.sort(key=lambda one: one.ms)
    for number, one in enumerate(happenings):
        source = _SOURCE.get(one.channel, _CORE)
        event_id = f"{customer_id}-{number}"
        packed = record.pack(
            occurred_at=one.ms,
            hash=record.event_hash(source, event_id),
            type=types[one.type],
            agent=record.agent_hash(one.agent),
            interaction=record.interaction_hash(one.interaction),
            value=one.value,
            intent=intents[one.intent] if one.intent else 0,
            action=vocabulary.actions[one.action] if one.action else 0,
            duration=one.duration,
            channel=vocabulary.channels[one.channel] if one.channel else 0,
            direction=one.direction,
            continuation=bool(one.parent),
            outcome=one.outcome,
            sentiment=one.sentiment,
        )
        event = event_pb2.Event(
            event_id=event_id,
            source=source,
            occurred_at=_timestamp(one.ms),
            type=one.type,
            channel=one.channel,
            direction=one.direction,  # type: ignore[arg-type]
            intent=one.intent,
            action=one.action,
            outcome=one.outcome,  # type: ignore[arg-type]
            value=one.value,
            duration=None if one.duration is None else Duration(seconds=int(one.duration)),
            sentiment=None if one.sentiment is None else _reading(one),
            interaction_id=one.interaction,
            parent_interaction_id=one.parent,
            decision_id=one.decision,
            agent_id=one.agent,
        )
        entry = log_pb2.LogEntry(
            customer_id=customer_id,
            event=log_pb2.EventLogged(record=packed, event=event, caller=source),
        )
        received = max(one.ms + int(lags[number]), span[0] - _IMPORTED)
        yield (
            min(received, span[1] - 1),
            archive.Entry(
                record.NEVER, customer_id, "event", packed,
                entry.SerializeToString(deterministic=True),
            ),
        )  # fmt: skip


def _decisions(
    business: Business, decisions: Iterable[Decision]
) -> Iterable[tuple[int, archive.Entry]]:
    """Log what was drawn, as a server would that has no models."""
    versions = decision_pb2.Versions(
        code=VERSION, catalogue=business.digest, vocabulary=business.vocabulary.digest
    )
    for one in decisions:
        chance = one.hold_back if one.held_back else math.prod([1 - one.hold_back, *one.selection])
        slate = decision_pb2.Slate(
            placement=one.placement,
            recommendations=[
                decision_pb2.Recommendation(
                    action=business.actions[action].name,
                    title=business.actions[action].title,
                    rank=rank,
                    selection_probability=selection,
                )
                for rank, (action, selection) in enumerate(
                    zip(one.slate, one.selection, strict=True), 1
                )
            ],
            held_back=one.held_back,
            selection_probability=chance,
        )
        outbound = one.channel in ("email", "sms")
        logged = log_pb2.DecisionLogged(
            request=decision_pb2.DecideRequest(
                customer=event_pb2.CustomerKey(customer_id=one.customer_id),
                channel=one.channel,
                direction=event_pb2.DIRECTION_OUTBOUND if outbound else event_pb2.DIRECTION_INBOUND,
                placements=[one.placement],
                interaction_id=one.interaction,
            ),
            response=decision_pb2.DecideResponse(
                decision_id=one.decision_id,
                decided_at=_timestamp(one.ms),
                rung=decision_pb2.RUNG_WITHOUT_MODELS,
                slates=[slate],
                versions=versions,
            ),
            caller=_SOURCE[one.channel],
        )
        entry = log_pb2.LogEntry(customer_id=one.customer_id, decision=logged)
        yield (
            one.ms,
            archive.Entry(
                record.NEVER, one.customer_id, "decision", None,
                entry.SerializeToString(deterministic=True),
            ),
        )  # fmt: skip


def with_reads(entries: list[archive.Entry]) -> list[archive.Entry]:
    """Say in each decision what it had read: the newest entries of its customer before it.

    Appending a message to a serialised one merges the two.
    """
    timelines: dict[str, LogId] = {}
    profiles: dict[str, LogId] = {}
    told = []
    for entry in entries:
        written = entry.entry
        match entry.kind:
            case "event":
                timelines[entry.customer_id] = entry.id
            case "profile":
                profiles[entry.customer_id] = entry.id
            case "decision":
                seen = decision_pb2.ReadIds(
                    timeline=answers.log_id(timelines.get(entry.customer_id, record.NEVER)),
                    profile=answers.log_id(profiles.get(entry.customer_id, record.NEVER)),
                )
                answer = decision_pb2.DecideResponse(read=seen)
                more = log_pb2.LogEntry(decision=log_pb2.DecisionLogged(response=answer))
                written += more.SerializeToString()
        told.append(entry._replace(entry=written))
    return told


def _reading(one: Happening) -> event_pb2.Sentiment:
    """A mood that an agent noted, or that shows in what was written."""
    kind = event_pb2.Sentiment
    written = one.type == "complaint"
    return kind(
        score=one.sentiment,
        subject=kind.SUBJECT_CUSTOMER,
        modality=kind.MODALITY_TEXT if written else kind.MODALITY_OBSERVED,
        source="complaint-form" if written else "wrap-up",
        basis=kind.BASIS_LEGITIMATE_INTEREST,
    )


def _profiles(
    customer: Customer, rng: np.random.Generator, joined: int, until: int
) -> Iterable[tuple[int, archive.Entry]]:
    """Tell the profile when the customer joins, and the balance again every 40 days."""
    segment = customer.segment
    if rng.random() < 0.08:  # what the bank believes is sometimes wrong
        segment = int(rng.integers(len(SEGMENTS)))
    tier = int(np.searchsorted([2_000, 15_000], customer.balance))
    first: dict[str, Any] = {
        "age": float(customer.age),
        "segment": SEGMENTS[segment],
        "customer_since_days": float(customer.tenure_days),
        "value_tier": ("basic", "plus", "premium")[tier],
        "has_mortgage": customer.has_mortgage,
        "digital": customer.skill + rng.normal(0, 0.1) > 0.5,
        "products": float(1 + tier + customer.has_mortgage + rng.poisson(0.6)),
    }
    if rng.random() < 0.8:
        first["household"] = ("single", "couple", "with_children")[int(rng.integers(3))]
    consents = [
        log_pb2.ConsentChanged(purpose=purpose, granted=bool(getattr(customer, purpose)))
        for purpose in ("marketing", "profiling", "research")
    ]
    for number, moment in enumerate(range(joined, until, _PROFILE_EVERY)):
        seen = customer.balance * float(rng.lognormal(0, 0.25))
        told = {"balance": round(seen, 2), "in_arrears": seen < 150}
        changed = log_pb2.ProfileChanged(
            attributes={name: _value(value) for name, value in (told | first).items()},
            consents=consents,
            updated_at=_timestamp(moment),
            caller=_CORE,
        )
        entry = log_pb2.LogEntry(customer_id=customer.customer_id, profile=changed)
        first, consents = {}, []
        yield (
            moment - (0 if number else 2 * _IMPORTED),
            archive.Entry(
                record.NEVER, customer.customer_id, "profile", None,
                entry.SerializeToString(deterministic=True),
            ),
        )  # fmt: skip


def _timestamp(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, (bool, np.bool_)):
        return Value(bool_value=bool(value))
    return Value(number_value=value)


def numbered(rows: list[tuple[int, archive.Entry]]) -> list[archive.Entry]:
    """Sort by the moment received and give each entry an id as a store's stream would."""
    entries: list[archive.Entry] = []
    last = record.NEVER
    for ms, (_, customer_id, kind, packed, entry) in sorted(rows, key=lambda row: row[0]):
        last = LogId(ms, last.sequence + 1 if ms == last.ms else 0)
        entries.append(archive.Entry(last, customer_id, kind, packed, entry))
    return entries
