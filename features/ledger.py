"""What contact limits count, folded from the log: the slow reference of the scripts. Pure.

A ledger holds outcomes that some limit counts, in the timeline's order, and reservations: records
of outcome :data:`features.record.RESERVED` that stand for a presentation until it comes or their
time is up. ``service/lua/record.lua``, ``reserve.lua`` and ``adopt.lua`` are tested against this.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.duration import DAY
from features.record import RECORD, RESERVED, SIZE, Records, pack
from features.vocabulary import Outcome


class Entry(NamedTuple):
    """An entry of the log, as far as it concerns the ledger of its customer."""

    ms: int  # of its log id
    kind: str  # "event", "reserved" or "adopted"
    records: bytes  # the record; of "adopted": any number of them
    releases: bytes = b""  # of "event": the hash of the reservation that it ends, if any


def fold(
    entries: Iterable[Entry], counted: Callable[[np.void], bool], horizon: int | None = None
) -> Records:
    """Fold the entries of a customer, in the order of their log, into their ledger.

    Take those up to the id in the ledger's header, and of a customer who was merged into another
    none after that. A store that keeps only the newest of many records of a kind has fewer records
    than this, and the same answer to whether a count is over a limit.

    Args:
        entries: Of one customer; other kinds of entries do nothing.
        counted: Whether limits count an event with this record.
        horizon: Milliseconds past which the ledger forgets; None: never.
    """
    records: list[bytes] = []
    for entry in entries:
        changed = False
        if entry.kind == "event":
            if counted(_parsed(entry.records)[0]):
                _insert(records, entry.records)
                changed = True
            changed |= _end(records, entry.releases)
        elif entry.kind == "reserved":
            of = contact(entry.records)
            records = [one for one in records if not (of and _held_by(one, of))]
            _insert(records, entry.records)
            changed = True
        elif entry.kind == "adopted":
            for record in _split(entry.records):
                if _ends(record):
                    _end(records, hash_of(record))
                else:
                    _insert(records, record)
            changed = True
        if changed:
            records = [record for record in records if _stays(record, entry.ms, horizon)]
    return _parsed(b"".join(records))


def presented(records: Records, now: int) -> npt.NDArray[np.bool_]:
    """Which records count as presented at a moment: those that were, and open reservations.

    Of one :func:`contact` a limit counts one: what is held, or else the newest.
    """
    shown: npt.NDArray[np.bool_] = (records["outcome"] == Outcome.presented) | (
        (records["outcome"] == RESERVED) & (now < held_until(records))
    )
    return shown


def held_until(records: Records) -> npt.NDArray[np.float64]:
    """Milliseconds until which reservations hold; of other records it means nothing."""
    until: npt.NDArray[np.float64] = records["occurred_at"] + 1_000 * records["value"].astype(
        np.float64
    )
    return until


def ended(record: bytes, reservation: bytes) -> bytes:
    """What stands for the end of a reservation among records that a ledger takes over.

    It is a reservation of the same hash that holds for no time at all.

    Args:
        record: The event that ends it.
        reservation: Its hash, 8 bytes.
    """
    moment = int(_parsed(record)["occurred_at"][0])
    hash = int.from_bytes(reservation, "little")
    return pack(occurred_at=moment, hash=hash, type=0, outcome=RESERVED, value=0.0)


def contact(record: bytes) -> tuple[int, int, int, int] | None:
    """The contact that a record is part of: interaction, action, channel and day. None: alone."""
    one = _parsed(record)[0]
    if not one["interaction"]:
        return None
    day = int(one["occurred_at"]) // DAY
    return int(one["interaction"]), int(one["action"]), int(one["channel"]), day


def _held_by(record: bytes, of: tuple[int, int, int, int]) -> bool:
    """Whether a record is a reservation of a contact."""
    return bool(_parsed(record)["outcome"][0] == RESERVED) and contact(record) == of


def hash_of(record: bytes) -> bytes:
    """The 8 bytes that tell a record from all others."""
    return record[8:16]


def order(record: bytes) -> tuple[int, int, int]:
    """What a timeline and a ledger are sorted by."""
    one = _parsed(record)[0]
    return int(one["occurred_at"]), int(one["sequence"]), int(one["hash"])


def _parsed(packed: bytes) -> Records:
    return np.frombuffer(packed, RECORD)


def _split(packed: bytes) -> list[bytes]:
    return [packed[at : at + SIZE] for at in range(0, len(packed), SIZE)]


def _insert(records: list[bytes], record: bytes) -> None:
    if all(hash_of(one) != hash_of(record) for one in records):
        bisect.insort(records, record, key=order)


def _ends(record: bytes) -> bool:
    one = _parsed(record)[0]
    return bool(one["outcome"] == RESERVED and one["value"] == 0)


def _end(records: list[bytes], hash: bytes) -> bool:
    """Remove the reservation with a hash; say whether there was one."""
    for at, record in enumerate(records):
        if hash_of(record) == hash and _parsed(record)["outcome"][0] == RESERVED:
            del records[at]
            return True
    return False


def _stays(record: bytes, ms: int, horizon: int | None) -> bool:
    one = _parsed(record)
    if horizon is not None and one["occurred_at"][0] < ms - horizon:
        return False
    return bool(one["outcome"][0] != RESERVED or ms < held_until(one)[0])
