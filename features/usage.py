"""How often what was shown, and what came of it: limits and suppressions in one pass. Pure.

A *key* is what something is counted for, such as "this limit, this action". One event may count for
several keys; which, is looked up by its outcome and action.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from features.duration import DAY
from features.kernels import Integers
from features.record import RESERVED, Records
from features.vocabulary import Outcome

_PRESENTED: Final = int(Outcome.presented)
OUTCOMES: Final = max(Outcome) + 1


class Counting(NamedTuple):
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


class Counts(NamedTuple):
    """What the ledger says of every key."""

    within: Integers  # [keys] events within the window
    until: Integers  # [keys] when the suppression ends, in milliseconds; 0: there is none


@numba.njit(cache=True)
def _open(records: Records, i: int, now: int) -> bool:
    """Whether a reservation still holds."""
    return bool(now < records[i].occurred_at + np.float64(records[i].value) * 1000)


@numba.njit(cache=True)
def _again(records: Records, i: int, now: int) -> bool:
    """Whether another record stands for the same contact: what is held, or else the newest."""
    one = records[i]
    held = one.outcome == RESERVED
    for j in range(0 if not held else i + 1, len(records)):
        other = records[j]
        if (
            j == i
            or other.interaction != one.interaction
            or other.action != one.action
            or other.channel != one.channel
            or other.occurred_at > now
            or other.occurred_at // DAY != one.occurred_at // DAY
        ):
            continue
        if other.outcome == RESERVED and _open(records, j, now):
            return True
        if not held and j > i and other.outcome == _PRESENTED:
            return True
    return False


@numba.njit(cache=True)
def _count(
    records: Records,
    now: int,
    actions: int,
    first: Integers,
    keys: Integers,
    channel: Integers,
    within: Integers,
    after: Integers,
    lasts: Integers,
    most: int,
) -> tuple[Integers, Integers]:
    counts = np.zeros(len(within), np.int64)
    until = np.zeros(len(within), np.int64)
    recent = np.zeros((len(within), most), np.int64)  # moments of the newest, as a ring
    seen = np.zeros(len(within), np.int64)
    for i in range(len(records)):
        record = records[i]
        at = record.occurred_at
        if at > now or record.action >= actions:
            continue
        outcome = np.int64(record.outcome)
        held = outcome == RESERVED
        if held:
            if not _open(records, i, now):
                continue
            outcome = np.int64(_PRESENTED)
        if outcome >= OUTCOMES:
            continue
        if outcome == _PRESENTED and record.interaction != 0 and _again(records, i, now):
            continue
        place = outcome * actions + np.int64(record.action)
        for j in range(first[place], first[place + 1]):
            key = keys[j]
            if channel[key] != 0 and channel[key] != record.channel:
                continue
            if after[key] == 0:
                if held or now - at < within[key]:
                    counts[key] += 1
                continue
            recent[key, seen[key] % after[key]] = at
            seen[key] += 1
            if seen[key] >= after[key]:
                oldest = recent[key, seen[key] % after[key]]
                if at - oldest <= within[key]:
                    until[key] = at + lasts[key]
    return counts, until


def count(records: Records, now: int, counting: Counting) -> Counts:
    """Count a ledger for every key.

    Args:
        records: The ledger, in order. An open reservation counts as presented, and in every window:
            it may be presented any time from now on. What one interaction shows more than once a
            day on a channel is one contact and counts once: as held, or else as last presented.
        now: Milliseconds since 1970-01-01 UTC; later events do not count.
        counting: What to count.
    """
    most = int(counting.after.max(initial=1))
    return Counts(*_count(records, now, *counting, most))
