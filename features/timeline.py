"""A timeline is a set: a customer's newest N events, in order. Pure.

The order is (occurred_at, sequence, hash), so any order of arrival and any number of repeats give
the same bytes. This is the reference that ``service/record.lua`` is tested against, and what
training folds the log with.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import numba
import numpy as np

from features.record import EMPTY, RECORD, SIZE, Records

LIMIT: Final = 512
"""Events that a timeline keeps unless the installation says otherwise."""


class Status(enum.IntEnum):
    """What became of an event; the codes are those of ``record.lua`` and of the API."""

    stored = 1
    duplicate = 2
    conflict = 3
    too_old = 4


@numba.njit(cache=True)
def _before(a: Records, i: int, b: Records, j: int) -> bool:
    x, y = a[i], b[j]
    if x.occurred_at != y.occurred_at:
        return bool(x.occurred_at < y.occurred_at)
    if x.sequence != y.sequence:
        return bool(x.sequence < y.sequence)
    return bool(x.hash < y.hash)


@numba.njit(cache=True)
def _insert(
    buffer: Records, raw: np.ndarray, count: int, new: Records, new_raw: np.ndarray, limit: int
) -> tuple[int, int]:
    """Insert ``new[0]`` into ``buffer[:count]``; give the status and the new count.

    ``raw`` and ``new_raw`` are the same memory as rows of 40 bytes, for comparing and moving.
    """
    for i in range(count):
        if buffer[i].hash == new[0].hash:
            for b in range(raw.shape[1]):
                if raw[i, b] != new_raw[0, b]:
                    return 3, count
            return 2, count
    place = count
    while place > 0 and _before(new, 0, buffer, place - 1):
        place -= 1
    if count == limit:
        if place == 0:
            return 4, count
        for i in range(place - 1):
            raw[i] = raw[i + 1]
        raw[place - 1] = new_raw[0]
        return 1, count
    for i in range(count, place, -1):
        raw[i] = raw[i - 1]
    raw[place] = new_raw[0]
    return 1, count + 1


class Fold:
    """A timeline that is being built, one event after the other.

    Args:
        limit: Events to keep, at least 1.
        start: Records to begin with, in order, at most ``limit``.
    """

    def __init__(self, limit: int = LIMIT, start: Records = EMPTY) -> None:
        self._buffer = np.zeros(limit, RECORD)
        self._raw = self._buffer.view(np.uint8).reshape(limit, SIZE)
        self._buffer[: len(start)] = start
        self._count = len(start)
        self._limit = limit

    def add(self, packed: bytes) -> Status:
        """Add one packed record and say what became of it."""
        new = np.frombuffer(packed, RECORD)
        raw = np.frombuffer(packed, np.uint8).reshape(1, SIZE)
        status, self._count = _insert(self._buffer, self._raw, self._count, new, raw, self._limit)
        return Status(status)

    @property
    def records(self) -> Records:
        """The records so far: a read-only view that the next :meth:`add` may change."""
        view = self._buffer[: self._count]
        view.flags.writeable = False
        return view


def fold(
    packed: Iterable[bytes], limit: int = LIMIT, start: Records = EMPTY
) -> tuple[Records, list[Status]]:
    """Add packed records to a timeline in the order they came.

    Returns:
        The timeline, and what became of each record.
    """
    folding = Fold(limit, start)
    statuses = [folding.add(one) for one in packed]
    return folding.records, statuses


def as_of(records: Records, moment: int) -> Records:
    """The events that had occurred by ``moment`` (milliseconds), as a view."""
    if not len(records) or records["occurred_at"].item(-1) <= moment:
        return records
    return records[: int(np.searchsorted(records["occurred_at"], moment, side="right"))]
