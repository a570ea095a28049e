"""Decisions of a measured run, computed again: an answer that is fast and wrong counts for nothing.

Twice over: by the slow reference (:mod:`tests.bench.slow`), ranks, numbers and draw; and by the
product's own replay, to the last byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
import numpy as np
from google.protobuf import struct_pb2, timestamp_pb2

from features import ledger
from features.elementary import Floats
from features.record import LogId
from rapport.v1 import log_pb2
from service.bundle import Bundle
from service.business import Business
from service.models import Models
from service.pipeline import Pipeline
from tests.bench.logbook import Logbook, Reserved
from tests.bench.people import People
from tests.bench.slow import Person, Reference, Slow
from training.archive import Entry
from training.reproduce import Past, reproduce

_NEAR: Final = 1e-9
_SHOWN: Final = 5


class Verified(msgspec.Struct):
    """What became of the check."""

    decisions: int  # in the log, as many as there were calls
    recomputed: int  # of them, by the slow reference and by replay
    candidates: float  # actions that were ranked, on average
    entry_bytes: float  # of a decision in the log, on average


def check(
    logbook: Logbook,
    business: Business,
    bundle: Bundle,
    people: People,
    show: Callable[[int, int], None],
) -> Verified:
    """Compute the samples of a log again.

    Args:
        logbook: What the log held.
        business: The configuration that decided.
        bundle: The models that decided.
        people: The customers, as they were before the first decision.
        show: Told decisions done, and of how many.

    Raises:
        SystemExit: One came out differently; the message tells the first few.
    """
    reference = Reference(business, bundle)
    past = Past(Pipeline(business), Models(bundle, business))
    wrong: list[str] = []
    ranked = 0
    for done, one in enumerate(logbook.samples, 1):
        decision, number = one.decision, people.place[one.customer_id]
        held = logbook.reserved.get(one.customer_id, [])
        slow = reference.decide(
            person(people, number, held, decision),
            decision.inputs.clock,
            decision.inputs.seed,
            {one.name: one.value for one in decision.inputs.prices},
        )
        ranked += len(slow.ranked)
        differences = [*_differences(decision, slow, business)]
        entries = {one.customer_id: [*_entries(people, number, held)]}
        differences += reproduce(one.written, entries, past).differences
        if differences:
            told = "\n  ".join(differences[:_SHOWN])
            wrong.append(f"{decision.response.decision_id} of {one.customer_id}:\n  {told}")
        if done % 50 == 0 or done == len(logbook.samples):
            show(done, len(logbook.samples))
    if wrong or not logbook.samples:
        raise SystemExit(
            f"{len(wrong)} of {len(logbook.samples)} decisions come out differently:\n"
            + "\n".join(wrong[:_SHOWN])
        )
    checked = len(logbook.samples)
    written = sum(len(one.written) for one in logbook.samples)
    return Verified(logbook.decisions, checked, ranked / checked, written / checked)


def person(
    people: People, number: int, held: Iterable[Reserved], decision: log_pb2.DecisionLogged
) -> Person:
    """A customer as a decision saw them: as they began, and what was reserved since."""
    upto = LogId.parse(decision.response.read.ledger)
    entries = [ledger.Entry(people.read.ms, "adopted", people.ledger(number).tobytes())]
    entries += [ledger.Entry(one.id.ms, "reserved", one.record) for one in held if one.id <= upto]
    counted = ledger.fold(entries, lambda _: True)
    return Person(people.timelines[number], counted, people.profile(number))


def _differences(decision: log_pb2.DecisionLogged, slow: Slow, business: Business) -> Iterator[str]:
    """Everything in which a decision is not what the slow reference says."""
    answer, logged = decision.response, decision.deliberation.placements[0]
    if decision.vector != slow.vector.tobytes():
        yield "the vector of features"
    for intent in answer.intents:
        yield from _apart(
            f"intent {intent.intent}", intent.probability, slow.intents[intent.intent]
        )
    rows = np.frombuffer(logged.rows, "<u2").tolist()
    names = [business.actions[row].name for row in rows]
    ours = [one.action.name for one in slow.ranked]
    if names != ours:
        pairs = zip(names, ours, strict=False)
        apart = next((f"{one}, here {other}" for one, other in pairs if one != other), "the end")
        yield f"{len(names)} actions ranked, here {len(ours)}; they differ from {apart} on"
        return
    for column in ("model", "acceptance", "value", "context_weight", "lever", "priority"):
        told: Floats = np.frombuffer(getattr(logged, column), "<f8")
        for place, one in enumerate(slow.ranked):
            yield from _apart(f"{column} of {names[place]}", told[place], getattr(one, column))
    slate = answer.slates[0]
    shown = [one.instead_of or one.action for one in slate.recommendations]
    drawn = [name for name, _ in slow.drawn]
    if shown != drawn and not any(r.refused for r in decision.inputs.reservations):
        yield f"drawn was {shown}, here {drawn}"
        return
    yield from _apart("the slate's probability", slate.selection_probability, slow.probability)
    for place, (name, probability) in enumerate(slow.drawn):
        logged_probability = slate.recommendations[place].selection_probability
        yield from _apart(f"probability of {name}", logged_probability, probability)


def _apart(what: str, logged: float, ours: float) -> Iterator[str]:
    if not math.isclose(logged, ours, rel_tol=_NEAR, abs_tol=_NEAR):
        yield f"{what}: {logged!r} was logged, here it is {ours!r}"


def _entries(people: People, number: int, held: Iterable[Reserved]) -> Iterator[Entry]:
    """The log of a customer as it would be, had everything about them gone through it."""
    customer, at = people.ids[number], people.read
    for record in people.timelines[number]:
        packed = record.tobytes()
        event = log_pb2.LogEntry(event=log_pb2.EventLogged(record=packed))
        yield Entry(at, customer, "event", packed, event.SerializeToString())
    adopted = log_pb2.MemberAdopted(ledger=people.ledger(number).tobytes())
    yield _entry(at, customer, "adopted", log_pb2.LogEntry(adopted=adopted))
    profile = people.profile(number)
    for moment in sorted({one.updated_at for one in profile.attributes.values()}):
        changed = log_pb2.ProfileChanged(
            updated_at=timestamp_pb2.Timestamp(
                seconds=moment // 1000, nanos=moment % 1000 * 1_000_000
            )
        )
        for name, told in profile.attributes.items():
            changed.attributes[name].CopyFrom(_value(told.value))
        for one in profile.consents:
            changed.consents.add(purpose=one.purpose, channel=one.channel, granted=one.granted)
        yield _entry(at, customer, "profile", log_pb2.LogEntry(profile=changed))
    for reserved in held:
        entry = log_pb2.LogEntry(reserved=log_pb2.ActionReserved(record=reserved.record))
        yield _entry(reserved.id, customer, "reserved", entry)


def _entry(id: LogId, customer: str, kind: str, entry: log_pb2.LogEntry) -> Entry:
    entry.customer_id = customer
    return Entry(id, customer, kind, None, entry.SerializeToString())


def _value(plain: float | bool | str | None) -> struct_pb2.Value:
    if isinstance(plain, bool):
        return struct_pb2.Value(bool_value=plain)
    if isinstance(plain, str):
        return struct_pb2.Value(string_value=plain)
    return struct_pb2.Value(number_value=plain)
