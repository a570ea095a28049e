"""Turn what a store holds of a customer into what is known; what cannot be read is said. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from features import profile as profiles
from features.record import NEVER, Records, decode, decode_both
from features.timeline import LIMIT
from service.errors import Unreadable
from service.inputs import Known, MemberKnown
from service.reasons import Reason
from service.store import Snapshot

T = TypeVar("T")


def known(snapshot: Snapshot) -> Known:
    """Read a snapshot; what cannot be read is as good as lost."""
    if not snapshot.members and not snapshot.unfinished:
        try:
            (timeline_id, records), (ledger_id, ledger) = decode_both(
                snapshot.timeline, snapshot.ledger
            )
            profile_id, profile = profiles.decode(snapshot.profile)
        except ValueError:
            pass  # which of them it was, and what can be read all the same, is looked for below
        else:
            return Known(records, ledger, profile, timeline_id, ledger_id, profile_id)
    return _part_by_part(snapshot)


def _part_by_part(snapshot: Snapshot) -> Known:
    """Read the parts one by one, and the timelines of members."""
    unreadable: list[Reason] = []
    records = ledger = profile = None
    timeline_id = ledger_id = profile_id = NEVER
    members: list[MemberKnown] = []
    try:
        timeline_id, records = decode(snapshot.timeline)
        if snapshot.members:
            parts = [records]
            for member in snapshot.members:
                id, part = decode(member.timeline)
                members.append(MemberKnown(member.customer_id, id))
                parts.append(part)
            records = union(parts)
    except ValueError as error:
        records = None
        unreadable.append(Reason("TIMELINE_UNREADABLE", str(error)))
    try:
        ledger_id, ledger = decode(snapshot.ledger)
        if snapshot.unfinished:
            ledger = None
            text = "The customer is being merged, and how often what was shown is not settled yet"
            unreadable.append(Reason("LEDGER_UNREADABLE", text))
    except ValueError as error:
        unreadable.append(Reason("LEDGER_UNREADABLE", str(error)))
    try:
        profile_id, profile = profiles.decode(snapshot.profile)
    except ValueError as error:
        unreadable.append(Reason("PROFILE_UNREADABLE", str(error)))
    return Known(
        records, ledger, profile, timeline_id, ledger_id, profile_id, members, None, unreadable
    )


def unread(why: Reason) -> Known:
    """What is known of a customer who could not be read in time: nothing."""
    return Known(None, None, None, unread=why)


def needed(decode: Callable[[bytes | None], T], stored: bytes | None) -> T:
    """Decode what there is no answer without.

    Raises:
        Unreadable: It cannot be read.
    """
    try:
        return decode(stored)
    except ValueError as error:
        raise Unreadable(f"{error}; restore it, or forget the customer") from error


def union(parts: list[Records], limit: int = LIMIT) -> Records:
    """The timeline of customers who are one: each event once, the newest of them all."""
    records = np.concatenate(parts)
    _, first = np.unique(records["hash"], return_index=True)
    records = records[first]
    order = np.lexsort((records["hash"], records["sequence"], records["occurred_at"]))
    records = records[order][-limit:]
    records.flags.writeable = False
    return records
