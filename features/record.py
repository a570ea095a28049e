"""The 40 bytes that a timeline keeps of an event, and the header before them. Pure.

A timeline is ``HEADER`` followed by records, and is read with ``numpy.frombuffer`` at no cost.
The layout is little-endian and naturally aligned; ``service/record.lua`` reads the first 18 bytes
of a record and the header, so the two change together.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

RECORD: Final = np.dtype(
    [
        ("occurred_at", "<i8"),  # milliseconds since 1970-01-01 UTC
        ("hash", "<u8"),  # BLAKE2b-64 of source and event id
        ("sequence", "<u2"),  # order within the millisecond
        ("agent", "<u2"),  # BLAKE2b-16 of the agent's id; 0: nobody took part
        ("interaction", "<u4"),  # BLAKE2b-32 of the interaction id; 0: stands alone
        ("value", "<f4"),  # NaN: absent
        ("type", "<u2"),
        ("intent", "<u2"),  # 0: absent, as for every code below
        ("action", "<u2"),
        ("duration", "<u2"),  # whole seconds; 65,535: absent
        ("channel", "u1"),
        ("flags", "u1"),  # bits 0 and 1: direction; bit 2: continues another contact
        ("outcome", "u1"),
        ("sentiment", "i1"),  # hundredths, -100 to 100; -128: absent
    ]
)
SIZE: Final = RECORD.itemsize
_WORDS: Final = SIZE // 8
_PACKED: Final = struct.Struct("<qQHHIfHHHHBBBb")  # the same; numpy takes ten times as long for one
pack_fields: Final = _PACKED.pack
"""Encode one event from the fields of :data:`RECORD`, in their order; :func:`pack` is for most.

Raises ``struct.error`` or ``OverflowError`` where one of them does not fit.
"""

HEADER: Final = np.dtype([("magic", "S8"), ("log_ms", "<u8"), ("log_sequence", "<u8")])
MAGIC: Final = b"rapport1"
_HEADER: Final = HEADER.itemsize
_HEAD: Final = struct.Struct("<8sQQ")

DIRECTION: Final = 0b011
CONTINUATION: Final = 0b100
NO_DURATION: Final = 65_535
MAX_DURATION: Final = 64_800  # 18 hours
NO_SENTIMENT: Final = -128
MAX_SEQUENCE: Final = 2**16 - 1
_END: Final = 253_402_300_800_000  # the year 10,000, in milliseconds

RESERVED: Final = 255
"""Outcome of a ledger's record that holds a place for a presentation; no event has it. Its moment
is that of the decision, and its value the seconds until its window ends."""

Records = npt.NDArray[Any]
"""A one-dimensional array of dtype :data:`RECORD`."""


class LogId(NamedTuple):
    """The id of a log entry, which says when the store received it. (0, 0) is before all."""

    ms: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"

    @classmethod
    def parse(cls, written: str) -> LogId:
        """Read ``"1700000000000-0"``.

        Raises:
            ValueError: It is not two whole numbers with a hyphen between.
        """
        ms, _, sequence = written.partition("-")
        return cls(int(ms), int(sequence))


NEVER: Final = LogId(0, 0)


def event_hash(source: str, event_id: str) -> int:
    """Hash an event's identity; two sources may both have an event "1"."""
    identity = b"%d:%b%b" % (len(source.encode()), source.encode(), event_id.encode())
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "little")


def event_hasher(source: str) -> hashlib.blake2b:
    """What :func:`event_hash` makes of a source; fed with the id, it gives the same hash."""
    written = source.encode()
    return hashlib.blake2b(b"%d:%b" % (len(written), written), digest_size=8)


def reservation_hash(decision_id: str, action: str) -> int:
    """Hash the reservation of a decision's action, so that presenting the action can end it."""
    return event_hash(f"reserved/{decision_id}", action)


def interaction_hash(interaction_id: str) -> int:
    """Hash an interaction id into 32 bits; the empty id is 0, and only it."""
    return _short(interaction_id, 4)


def agent_hash(agent_id: str) -> int:
    """Hash an agent's id into 16 bits; the empty id is 0, and only it."""
    return _short(agent_id, 2)


def _short(name: str, size: int) -> int:
    if not name:
        return 0
    digest = hashlib.blake2b(name.encode(), digest_size=size).digest()
    return int.from_bytes(digest, "little") or 1


def pack(  # noqa: PLR0913  a record has so many fields
    *,
    occurred_at: int,
    hash: int,
    type: int,
    sequence: int = 0,
    agent: int = 0,
    interaction: int = 0,
    value: float | None = None,
    intent: int = 0,
    action: int = 0,
    duration: float | None = None,
    channel: int = 0,
    direction: int = 0,
    continuation: bool = False,
    outcome: int = 0,
    sentiment: float | None = None,
) -> bytes:
    """Encode one event: 40 bytes.

    Args:
        occurred_at: Milliseconds since 1970-01-01 UTC, not negative.
        hash: From :func:`event_hash`.
        type: Code of the event type, as all codes from the vocabulary.
        sequence: Order within the millisecond, 0 to 65,535.
        agent: From :func:`agent_hash`.
        interaction: From :func:`interaction_hash`.
        value: In the business's currency; rounded to 24 bits of precision.
        intent: Code; 0 absent.
        action: Code; 0 absent.
        duration: Seconds, 0 to 64,800; cut to whole seconds.
        channel: Code; 0 absent.
        direction: A :class:`features.vocabulary.Direction`.
        continuation: Whether it continues another contact.
        outcome: A :class:`features.vocabulary.Outcome`.
        sentiment: -1 to 1; rounded to hundredths.
    """
    fields = (
        occurred_at,
        hash,
        sequence,
        agent,
        interaction,
        math.nan if value is None else value,
        type,
        intent,
        action,
        NO_DURATION if duration is None else int(duration),
        channel,
        direction | (CONTINUATION if continuation else 0),
        outcome,
        NO_SENTIMENT if sentiment is None else round(sentiment * 100),
    )
    try:
        return _PACKED.pack(*fields)
    except (OverflowError, struct.error):  # a value beyond 32 bits is infinite; say what else is
        one = np.zeros(1, RECORD)
        one[0] = fields
        return one.tobytes()


def pack_reservation(
    occurred_at: int,
    hash: int,
    interaction: int,
    seconds: int,
    type: int,
    action: int,
    channel: int,
    direction: int,
) -> bytes:
    """Encode a reservation: what :func:`pack` makes of outcome :data:`RESERVED`, 40 bytes.

    Args:
        occurred_at: The moment of the decision, in milliseconds.
        hash: From :func:`reservation_hash`.
        interaction: From :func:`interaction_hash`.
        seconds: How long it holds, up to 30 days.
        type: Code of the event type that presents it.
        action: Code.
        channel: Code.
        direction: A :class:`features.vocabulary.Direction`.
    """
    return _PACKED.pack(
        occurred_at, hash, 0, 0, interaction, seconds, type, 0, action, NO_DURATION, channel,
        direction, RESERVED, NO_SENTIMENT,
    )  # fmt: skip


def header(last: LogId) -> bytes:
    """What stands before the records of a timeline or ledger: 24 bytes."""
    return _HEAD.pack(MAGIC, *last)


def decode(stored: bytes | None) -> tuple[LogId, Records]:
    """Read a stored timeline or ledger without copying it.

    Returns:
        The id of the last log entry folded into it, and its records, read-only and in order.

    Raises:
        ValueError: The bytes are no timeline: wrong magic or length, or an impossible moment.
    """
    one, _ = decode_both(stored, None)
    return one


def decode_both(
    stored: bytes | None, other: bytes | None
) -> tuple[tuple[LogId, Records], tuple[LogId, Records]]:
    """Read two of what :func:`decode` reads for little more than one.

    Raises:
        ValueError: One of them is none.
    """
    last, words = _words(stored)
    last_of_other, words_of_other = _words(other)
    if not _possible(words, words_of_other):
        raise ValueError("a record lies outside the years 1970 to 9999")
    return (last, _records(words)), (last_of_other, _records(words_of_other))


def _words(stored: bytes | None) -> tuple[LogId, npt.NDArray[np.int64]]:
    """The id in a header, and what follows it."""
    if not stored:
        return NEVER, _NO_WORDS
    size = len(stored) - _HEADER
    if size % SIZE == 0:
        magic, ms, sequence = _HEAD.unpack_from(stored)
        if magic == MAGIC:
            words = np.frombuffer(stored, np.int64, -1, _HEADER) if size else _NO_WORDS
            return tuple.__new__(LogId, (ms, sequence)), words  # as LogId() would, in a third
    raise ValueError(
        f"{len(stored)} bytes starting {stored[:8]!r} are no timeline; "
        f"expected {MAGIC!r}, a header of {HEADER.itemsize} bytes and records of {SIZE}"
    )


def _records(words: npt.NDArray[np.int64]) -> Records:
    """Words as the records that they are, as a view takes three times as long to give."""
    return np.ndarray(len(words) // _WORDS, RECORD, words) if len(words) else EMPTY


@numba.njit(cache=True)
def _possible(words: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> bool:
    """Whether every record lies in the years that there are."""
    for i in range(0, words.shape[0], 5):
        if not 0 <= words[i] < _END:
            return False
    for i in range(0, others.shape[0], 5):  # noqa: SIM110  numba
        if not 0 <= others[i] < _END:
            return False
    return True


def encode(last: LogId, records: Records) -> bytes:
    """Write what :func:`decode` reads."""
    return header(last) + records.tobytes()


EMPTY: Final[Records] = np.zeros(0, RECORD)
EMPTY.flags.writeable = False
_NO_WORDS: Final = np.zeros(0, np.int64)
_NO_WORDS.flags.writeable = False
