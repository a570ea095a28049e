"""Compute a logged decision again, to the last byte, from what the log says it saw.

A decision logs the ids that it read, its moment, seed, rung, prices, late inputs and reservation
replies. Folding the log to exactly those ids gives the customer as the decision saw them, whatever
was written at the same time or since; the pipeline is pure; so the same entry must come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import Message

from features import ledger, timeline
from features.record import NEVER, LogId, Records
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import VERSION, questions, reading
from service.answers import Answers
from service.business import Business
from service.callers import EVERYBODY
from service.entries import Entries
from service.errors import Precondition
from service.inputs import Inputs, Known, MemberKnown
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.weighed import Reply
from training import replay
from training.archive import Entry

_SHOWN: Final = 12


class Reproduced(NamedTuple):
    """What came out the second time."""

    decision_id: str
    differences: list[str]  # field by field; empty: every byte is the same

    @property
    def same(self) -> bool:
        """Whether every byte is the same."""
        return not self.differences


class Past(NamedTuple):
    """What a decision was made with."""

    pipeline: Pipeline  # of the configuration that decided
    models: Models | None


def reproduce(logged: bytes, entries: Mapping[str, Sequence[Entry]], past: Past) -> Reproduced:
    """Compute a decision again and compare.

    Args:
        logged: Its log entry.
        entries: Of its customer, and of each who had been merged into them, by customer and in the
            order of their ids.
        past: The configuration and the models that decided.

    Raises:
        Precondition: Another version of Rapport decided.
    """
    entry = log_pb2.LogEntry.FromString(logged)
    decision = entry.decision
    made_with = decision.response.versions.code
    if made_with != VERSION:
        raise Precondition(f"Rapport {made_with} decided, and this is {VERSION}; use that version")
    business = past.pipeline.business
    given = inputs(decision, entry.customer_id, entries, business)
    models = past.models if decision.response.versions.bundle else None
    weighed = past.pipeline.weigh(given, models)
    replies = [Reply(one.refused) for one in decision.inputs.reservations]
    if len(replies) != len(weighed.wants):
        differences = [
            f"inputs.reservations: {len(replies)} were asked for, now {len(weighed.wants)} would be"
        ]
        return Reproduced(decision.response.decision_id, differences)
    answer = past.pipeline.settle(weighed, replies)
    response = Answers(business).written(answer, decision.response.decision_id)
    again = Entries(business).written(
        answer, decision.request.SerializeToString(deterministic=True), response, decision.caller
    )
    if again == logged:
        return Reproduced(decision.response.decision_id, [])
    differences = list(_differences(entry, log_pb2.LogEntry.FromString(again), ""))
    return Reproduced(
        decision.response.decision_id,
        differences[:_SHOWN] or ["the bytes differ, and every field is the same"],
    )


def inputs(
    decision: log_pb2.DecisionLogged,
    customer_id: str,
    entries: Mapping[str, Sequence[Entry]],
    business: Business,
) -> Inputs:
    """Rebuild what a logged decision depended on, configuration and models aside.

    Args:
        decision: As it was logged, with its ``inputs``.
        customer_id: Whom it is about.
        entries: Of the customer, and of each who had been merged into them, by customer and in the
            order of their ids.
        business: The configuration that decided.
    """
    given = decision.inputs
    _, question = questions.read(decision.request, business, EVERYBODY, given.clock)
    return Inputs(
        question._replace(customer_id=customer_id),
        _known(decision, customer_id, entries),
        given.clock,
        given.seed,
        _reason(given, "unscored"),
        {one.name: one.value for one in given.prices},
        frozenset(given.full_ceilings),
        given.greedy,
    )


def _known(
    decision: log_pb2.DecisionLogged,
    customer_id: str,
    entries: Mapping[str, Sequence[Entry]],
) -> Known:
    """The customer as the decision saw them."""
    given, read = decision.inputs, decision.response.read
    unread = _reason(given, "unread")
    if unread is not None:
        return reading.unread(unread)
    own = entries.get(customer_id, ())
    lost = {one.code for one in given.unreadable}
    timeline_id, ledger_id, profile_id = _id(read.timeline), _id(read.ledger), _id(read.profile)
    records: Records | None = _folded(own, timeline_id)
    members = [MemberKnown(one.customer_id, _id(one.timeline)) for one in read.members]
    if members and records is not None:
        parts = [_folded(entries.get(one.customer_id, ()), one.timeline_id) for one in members]
        records = reading.union([records, *parts])
    _, profile = replay.seen(own, NEVER, profile_id)
    return Known(
        None if "TIMELINE_UNREADABLE" in lost else records,
        None if "LEDGER_UNREADABLE" in lost else _ledger(own, ledger_id),
        None if "PROFILE_UNREADABLE" in lost else profile,
        timeline_id,
        ledger_id,
        profile_id,
        members,
        None,
        [Reason(one.code, one.text) for one in given.unreadable],
    )


def _folded(entries: Iterable[Entry], upto: LogId) -> Records:
    records, _ = timeline.fold(
        [entry.record for entry in entries if entry.record and entry.id <= upto]
    )
    return records


def _ledger(entries: Iterable[Entry], upto: LogId) -> Records:
    counted: set[int] = set()
    folding: list[ledger.Entry] = []
    for entry in entries:
        if entry.id > upto or entry.kind not in ("event", "reserved", "adopted"):
            continue
        read = log_pb2.LogEntry.FromString(entry.entry)
        packed, releases = read.reserved.record, b""
        if entry.kind == "event":
            packed, releases = read.event.record, read.event.releases
            if read.event.counted:
                counted.add(int.from_bytes(ledger.hash_of(packed), "little"))
        elif entry.kind == "adopted":
            packed = read.adopted.ledger
        folding.append(ledger.Entry(entry.id.ms, entry.kind, packed, releases))

    def counts(record: np.void) -> bool:
        return int(record["hash"]) in counted

    return ledger.fold(folding, counts)


def _reason(given: log_pb2.DecisionInputs, field: str) -> Reason | None:
    if not given.HasField(field):  # type: ignore[arg-type]
        return None
    reason: pb.Reason = getattr(given, field)
    return Reason(reason.code, reason.text)


def _id(written: str) -> LogId:
    return LogId.parse(written) if written else NEVER


def _differences(before: Message, now: Message, at: str) -> Iterable[str]:
    """Name every field in which two messages differ, the deepest one."""
    for field in before.DESCRIPTOR.fields:
        name = f"{at}{field.name}"
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old == new:
            continue
        if hasattr(old, "__len__") and not isinstance(old, str | bytes):
            if field.message_type is None or len(old) != len(new):
                yield f"{name}: {len(old)} then, {len(new)} now"
                continue
            for i, (one, other) in enumerate(zip(old, new, strict=True)):
                if one != other:
                    yield from _differences(one, other, f"{name}[{i}].")
        elif field.message_type is not None:
            yield from _differences(old, new, f"{name}.")
        else:
            yield f"{name}: {_said(old)} then, {_said(new)} now"


def _said(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)
