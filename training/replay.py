"""Rebuild from the archive what was known of every customer, at any moment.

Two ways to look back. A *moment* of training is seen by when things occurred: the events and the
profile as dated by then. A logged *decision* is seen by what the store held: the log folded to
exactly the ids that the decision read, whatever the clocks said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features import profile as profiles
from features import timeline
from features.profile import Consent, Profile, Value
from features.record import RECORD, LogId, Records
from features.timeline import LIMIT
from rapport.v1 import log_pb2
from training import archive
from training.archive import Entry


class History(NamedTuple):
    """All that the archive holds of one customer."""

    customer_id: str
    records: Records  # in the timeline's order, each once, however many
    changes: list[tuple[LogId, log_pb2.ProfileChanged]]

    def profile(self, moment: int) -> Profile:
        """The profile as told by a moment (milliseconds)."""
        return _folded(change for _, change in self.changes if _milliseconds(change) <= moment)


class Profiles:
    """The profile of one customer at many moments: what was told is folded once.

    Args:
        history: Of the customer.
    """

    def __init__(self, history: History) -> None:
        self._changes = [(_milliseconds(change), change) for _, change in history.changes]
        self._known: dict[tuple[bool, ...], Profile] = {}

    def __call__(self, moment: int) -> Profile:
        """See :meth:`History.profile`."""
        by_then = tuple(at <= moment for at, _ in self._changes)
        if by_then not in self._known:
            self._known[by_then] = _folded(change for at, change in self._changes if at <= moment)
        return self._known[by_then]


def histories(
    folder: Path, partition: int | None = None, erased: Mapping[str, int] | None = None
) -> Iterator[History]:
    """Read the archive, customer by customer.

    Args:
        folder: The archive.
        partition: Only this one; None: all.
        erased: Moments up to which nothing may be used, by customer.
    """
    for customer, entries in grouped(archive.read(folder, ("event", "profile"), partition)):
        packed = [entry.record for entry in entries if entry.record]
        records, changes = _ordered(packed), _changes(entries)
        limit = (erased or {}).get(customer)
        if limit is not None:
            records = records[records["occurred_at"] > limit]
            changes = [(id, change) for id, change in changes if _milliseconds(change) > limit]
        yield History(customer, records, changes)


def grouped(entries: Iterable[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Split entries, sorted by customer, into customers."""
    group: list[Entry] = []
    for entry in entries:
        if group and group[-1].customer_id != entry.customer_id:
            yield group[-1].customer_id, group
            group = []
        group.append(entry)
    if group:
        yield group[-1].customer_id, group


def _ordered(packed: list[bytes]) -> Records:
    """All records in the timeline's order; of the same event, the one that came first."""
    records = np.frombuffer(b"".join(packed), RECORD)
    _, first = np.unique(records["hash"], return_index=True)
    records = records[np.sort(first)]
    order = np.lexsort((records["hash"], records["sequence"], records["occurred_at"]))
    records = records[order]
    records.flags.writeable = False
    return records


def _changes(entries: Iterable[Entry]) -> list[tuple[LogId, log_pb2.ProfileChanged]]:
    return [
        (entry.id, log_pb2.LogEntry.FromString(entry.entry).profile)
        for entry in entries
        if entry.kind == "profile"
    ]


def seen(
    entries: Iterable[Entry], timeline_id: LogId, profile_id: LogId, limit: int = LIMIT
) -> tuple[Records, Profile]:
    """Fold one customer's log to the ids that a decision read.

    Args:
        entries: Of the customer, in the order of their ids.
        timeline_id: Last entry of the timeline that the decision saw.
        profile_id: Last entry of the profile that the decision saw.
        limit: Events that a timeline keeps.
    """
    entries = list(entries)
    packed = [e.record for e in entries if e.record and e.id <= timeline_id]
    records, _ = timeline.fold(packed, limit)
    changes = [change for id, change in _changes(entries) if id <= profile_id]
    return records, _folded(changes)


def _folded(changes: Iterable[log_pb2.ProfileChanged]) -> Profile:
    profile = profiles.EMPTY
    for change in changes:
        moment = _milliseconds(change)
        profile = profile.changed(
            {name: _value(value) for name, value in change.attributes.items()},
            [Consent(c.purpose, c.channel, c.granted, moment) for c in change.consents],
            moment,
        )
    return profile


def _milliseconds(change: log_pb2.ProfileChanged) -> int:
    return change.updated_at.seconds * 1000 + change.updated_at.nanos // 1_000_000


def _value(value: object) -> Value | None:
    kind = value.WhichOneof("kind")  # type: ignore[attr-defined]
    return None if kind in (None, "null_value") else getattr(value, kind)


def erasures(folder: Path) -> dict[str, int]:
    """Moments up to which a forgotten customer's events may not be used."""
    moments: dict[str, int] = {}
    for entry in archive.read(folder, ("erased",)):
        erased = log_pb2.LogEntry.FromString(entry.entry).erased.erased_at
        moments[entry.customer_id] = erased.seconds * 1000 + erased.nanos // 1_000_000
    return moments
