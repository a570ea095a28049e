"""What the store holds, in bytes: timelines as measured, the rest as formulas that a test checks.

Sizes are what ``MEMORY USAGE`` says: the key, its value, and what the allocator rounds up to. For
everybody together, multiply by customers; the log, by what a day brings and the days it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from redis import Redis

from features.record import HEADER, SIZE, encode
from features.timeline import LIMIT
from service import keys
from tests.bench.people import TENANT, People

KEY: Final = 80
"""Bytes of a customer's key beside its value: its name of some 30 letters, and its expiry."""

NODE: Final = 4_096
"""Bytes of a stream's last node; each of the 256 partitions has a stream."""

_TTL: Final = 400 * 86_400_000
_SET: Final = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"  # as the scripts do


class Bytes(msgspec.Struct):
    """What timelines take."""

    per_event: float  # mean over all lengths from 1 to the limit
    worst_length: int
    worst_per_event: float
    full_per_event: float  # at the limit


def ledger(records: int) -> float:
    """A contact ledger with so many records: those that limits can still need. Or a timeline."""
    return KEY + HEADER.itemsize + SIZE * records


def profile(packed: int) -> float:
    """A profile whose msgpack takes so many bytes: its name and 15 for each attribute."""
    return KEY + HEADER.itemsize + packed


def identity(letters: int) -> float:
    """An identifier with its namespace, of so many letters, and its place among its customer's."""
    return KEY + 2 * letters + 30


def decision(summary: int) -> float:
    """What outcomes find a decision by, for as long as they may come.

    Args:
        summary: Bytes of who, where, and the names of the actions: some 20 for each, and 60.
    """
    return KEY + 60 + summary


def log(entries: int, size: float) -> float:
    """Log entries of a size in one partition.

    Args:
        entries: A day's, times the days that the log is kept.
        size: Bytes of one; ``bench.json`` has those of a decision, an event has about 200.
    """
    return NODE + entries * (size + 20)


def timelines(url: str, people: People, show: Callable[[int, int], None]) -> Bytes:
    """Store timelines of every length and ask what each takes."""
    redis: Any = Redis.from_url(url)
    stored, found = redis.register_script(_SET), []
    pool = np.concatenate([people.timelines[0], people.timelines[1]])
    for events in range(1, LIMIT + 1):
        key = keys.timeline(TENANT, f"space-{events}")
        stored([key], [encode(people.read, pool[:events]), _TTL])
        found.append(float(redis.memory_usage(key)))
        redis.delete(key)
        if events % 64 == 0:
            show(events, LIMIT)
    redis.close()
    per_event = np.array(found) / np.arange(1, LIMIT + 1)
    worst = int(per_event.argmax())
    return Bytes(float(per_event.mean()), worst + 1, float(per_event[worst]), float(per_event[-1]))
