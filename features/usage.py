"""How often what was shown, and what came of it: limits and suppressions in one pass. Pure.

A *key* is what something is counted for, such as "this limit, this action". One event may count for
several keys; which, is looked up by its outcome and action.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numba
import numpy as np

from features import fields
from features.duration import DAY
from features.fields import Integers
from features.record import RESERVED, Records
from features.vocabulary import Outcome

_PRESENTED: Final = int(Outcome.presented)
OUTCOMES: Final = max(Outcome) + 1
_HEADER, _OPERATION = 4, 5
"""Words of the header of a block, and of what it says of a key."""


@dataclass(frozen=True, eq=False)
class Counting:
    """What to count, compiled from limits and suppressions.

    Events with outcome o about action a count for ``keys[first[o * actions + a] :
    first[o * actions + a + 1]]``.
    """

    actions: int  # codes of actions go up to here, exclusive
    first: Integers  # [OUTCOMES * actions + 1]
    keys: Integers
    channel: Integers  # [keys] only what happened there; 0: anywhere
    within: Integers  # [keys] milliseconds
    after: Integers  # [keys] events of a suppression; 0: it is a limit
    lasts: Integers  # [keys] milliseconds

    @cached_property
    def block(self) -> Integers:
        """All of it as one block of words for the kernel: a header, operations, first and keys."""
        operations = np.zeros((len(self.within), _OPERATION), np.int64)
        columns = (self.channel, self.within, self.after, self.lasts)
        for column, values in enumerate(columns):
            operations[:, column] = values
        operations[:, 4] = np.cumsum(self.after) - self.after  # where a key's ring begins
        at_first = _HEADER + operations.size
        header = [self.actions, len(self.within), int(self.after.sum()), at_first]
        flat = [np.array(header, np.int64), operations.reshape(-1), self.first, self.keys]
        return np.concatenate(flat)

    @cached_property
    def nothing(self) -> Counts:
        """What an empty ledger says."""
        none = np.zeros(len(self.within), np.int64)
        none.flags.writeable = False
        return Counts(none, none)


class Counts(NamedTuple):
    """What the ledger says of every key."""

    within: Integers  # [keys] events within the window
    until: Integers  # [keys] when the suppression ends, in milliseconds; 0: there is none


@numba.njit(cache=True)
def _open(words: Integers, i: int, now: int) -> bool:
    """Whether a reservation still holds."""
    return bool(now < fields.occurred_at(words, i) + fields.value(words, i) * 1000)


@numba.njit(cache=True)
def _again(words: Integers, i: int, now: int) -> bool:
    """Whether another record stands for the same contact: what is held, or else the newest."""
    held = fields.outcome(words, i) == RESERVED
    day = fields.occurred_at(words, i) // DAY
    for j in range(0 if not held else i + 1, words.shape[0] // fields.WORDS):
        if (
            j == i
            or fields.interaction(words, j) != fields.interaction(words, i)
            or fields.action(words, j) != fields.action(words, i)
            or fields.channel(words, j) != fields.channel(words, i)
            or fields.occurred_at(words, j) > now
            or fields.occurred_at(words, j) // DAY != day
        ):
            continue
        outcome = fields.outcome(words, j)
        if outcome == RESERVED and _open(words, j, now):
            return True
        if not held and j > i and outcome == _PRESENTED:
            return True
    return False


@numba.njit(cache=True)
def count_into(words: Integers, now: int, block: Integers, out: Integers) -> None:
    """Count a ledger inside a kernel; see :func:`count`.

    Args:
        words: The ledger, see :func:`features.fields.words`.
        now: Milliseconds since 1970-01-01 UTC.
        block: Of :class:`Counting`.
        out: [2, keys] gets the events within the window, and when the suppression ends.
    """
    actions, keys, rings, at_first = block[0], block[1], block[2], block[3]
    at_keys = at_first + OUTCOMES * actions + 1
    recent = np.zeros(rings, np.int64)  # moments of the newest, a ring for each key
    seen = np.zeros(keys, np.int64)
    out[:] = 0
    for i in range(words.shape[0] // fields.WORDS):
        at, action = fields.occurred_at(words, i), fields.action(words, i)
        if at > now or action >= actions:
            continue
        outcome = fields.outcome(words, i)
        held = outcome == RESERVED
        if held:
            if not _open(words, i, now):
                continue
            outcome = _PRESENTED
        if outcome >= OUTCOMES:
            continue
        alone = outcome != _PRESENTED or fields.interaction(words, i) == 0
        if not alone and _again(words, i, now):
            continue
        place = at_first + outcome * actions + action
        for j in range(at_keys + block[place], at_keys + block[place + 1]):
            key = block[j]
            one = _HEADER + _OPERATION * key
            channel, within, after = block[one], block[one + 1], block[one + 2]
            if channel != 0 and channel != fields.channel(words, i):
                continue
            if after == 0:
                if held or now - at < within:
                    out[0, key] += 1
                continue
            ring = block[one + 4]
            recent[ring + seen[key] % after] = at
            seen[key] += 1
            if seen[key] >= after:
                oldest = recent[ring + seen[key] % after]
                if at - oldest <= within:
                    out[1, key] = at + block[one + 3]


def count(records: Records, now: int, counting: Counting) -> Counts:
    """Count a ledger for every key.

    Args:
        records: The ledger, in order. An open reservation counts as presented, and in every window:
            it may be presented any time from now on. What one interaction shows more than once a
            day on a channel is one contact and counts once: as held, or else as last presented.
        now: Milliseconds since 1970-01-01 UTC; later events do not count.
        counting: What to count.
    """
    if not len(records):
        return counting.nothing
    out = np.empty((2, len(counting.within)), np.int64)
    count_into(fields.words(records), now, counting.block, out)
    return Counts(out[0], out[1])
