"""What the store holds, in bytes: timelines as measured, the rest as formulas that a test checks.

Sizes are what ``MEMORY USAGE`` says: the key, its value and what the allocator rounds up to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from redis import Redis

from features.record import HEADER, RESERVED, SIZE, LogId, encode, pack
from features.timeline import LIMIT
from service import keys
from tests.bench.people import TENANT, People

KEY: Final = 150
"""Bytes that any key of a customer costs beside its value: its name, its expiry, the tables."""

ROUNDED: Final = 1.30
"""The allocator's classes lie up to a quarter apart."""

_TTL: Final = 400 * 86_400_000
_SET: Final = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"  # as the scripts do


class Bytes(msgspec.Struct):
    """What a customer takes."""

    per_event: float  # of a timeline, mean over all lengths from 1 to the limit
    worst_length: int
    worst_per_event: float
    full_per_event: float  # at the limit
    per_length: list[float]  # bytes of a timeline with 1, 2, ... events


def ledger(records: int) -> float:
    """Bytes of a ledger with so many records; as many as of a timeline."""
    return KEY + HEADER.itemsize + SIZE * records


def profile(packed: int) -> float:
    """Bytes of a profile whose msgpack takes so many: about 15 an attribute beside its name."""
    return KEY + HEADER.itemsize + packed


def identity(name: int) -> float:
    """Bytes of an identifier of so many letters, with its place in the index of its customer."""
    return 2 * KEY + 2 * name


def log(entries: int, entry: float) -> float:
    """Bytes of log entries of a size: a day's entries x days of retention are in the store.

    An event's entry is about 200 bytes; a decision's about 2,000 and 80 for each action that was
    ranked. Streams keep entries in packed nodes of 4 KB.
    """
    return entries * (entry + 24) + 4_096


def timelines(url: str, people: People, show: Callable[[int, int], None]) -> Bytes:
    """Store timelines of every length and ask what each takes."""
    redis: Any = Redis.from_url(url)
    set_, found = redis.register_script(_SET), []
    pool = np.concatenate([people.timelines[0], people.timelines[1]])
    for events in range(1, LIMIT + 1):
        customer = f"space-{events}"
        key = keys.timeline(TENANT, customer)
        set_([key], [encode(people.read, pool[:events]), _TTL])
        found.append(float(redis.memory_usage(key)))
        redis.delete(key)
        if events % 64 == 0:
            show(events, LIMIT)
    redis.close()
    per_event = np.array(found) / np.arange(1, LIMIT + 1)
    worst = int(per_event.argmax())
    return Bytes(
        float(per_event.mean()), worst + 1, float(per_event[worst]), float(per_event[-1]), found
    )


def reserved(number: int) -> bytes:
    """A ledger's record, for measuring."""
    return pack(occurred_at=number, hash=number + 1, type=1, action=1, outcome=RESERVED, value=60.0)


def header(moment: int) -> LogId:
    """Of what was stored at a moment."""
    return LogId(moment, 0)
