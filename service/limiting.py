"""The loops that apply limits: what they drop, and what they leave to several actions. Pure.

What is counted of each key, :mod:`features.usage` has told before; nothing is counted here.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features import fields
from features.duration import DAY
from features.elementary import Floats
from features.kernels import Integers
from features.record import RESERVED
from features.vocabulary import Outcome
from service.given import KEY_ROWS, KEYS, ROW_OF_CODE, SHARE_ROWS, SHARES, WIDTH
from service.spans import span

KEY: Final = 4
HOLDS_ON, ROOM, SHOWS, WITHIN = range(KEY)
"""What is known of a key of the limits: its channel, how many there may be before one more is too
many, whether it limits showing, and its window."""

SHARE: Final = 5
SHARED_KEY, SHARED_ON, AT_MOST, SHARED_WITHIN, TAKES = range(SHARE)
"""What is known of a limit on showing that several actions come up against."""

_PRESENTED: Final = int(Outcome.presented)
_ONE: Final = np.uint64(1)


@numba.njit(cache=True)
def own(
    about: Integers, ledger: Integers, now: int, channel: int, interaction: int
) -> tuple[Integers, Floats]:
    """Rows that the contact itself has shown today, or holds, with the age of each.

    Showing them again on the same day makes no new contact; what is held counts in every window.
    """
    row_of_code = span(about, ROW_OF_CODE, np.int64)
    count = ledger.shape[0] // fields.WORDS
    rows, ages = np.empty(count, np.int64), np.empty(count)
    found = 0
    for i in range(count):
        at, outcome = fields.occurred_at(ledger, i), fields.outcome(ledger, i)
        if (
            fields.interaction(ledger, i) != interaction
            or fields.channel(ledger, i) != channel
            or at > now
            or at // DAY != now // DAY
        ):
            continue
        held = outcome == RESERVED and now < at + 1000 * fields.value(ledger, i)
        if not held and outcome != _PRESENTED:
            continue
        row = row_of_code[min(fields.action(ledger, i), row_of_code.shape[0] - 1)]
        if row >= 0:
            rows[found], ages[found] = row, 0.0 if held else now - at
            found += 1
    return rows[:found], ages[:found]


@numba.njit(cache=True)
def drop(
    about: Integers, counts: Integers, own_rows: Integers, own_ages: Floats, now: int,
    channel: int, dropped: Integers, parting: Integers,
) -> int:  # fmt: skip
    """Drop what limits and suppressions forbid; how many of them forbid something."""
    keys, rows = span(about, KEYS, np.int64), span(about, KEY_ROWS, np.int64)
    width = dropped.shape[0]
    again = np.zeros(width, np.int64)
    found = 0
    for key in range(counts.shape[1]):
        one = keys[KEY * key : KEY * key + KEY]
        over = counts[0, key] > one[ROOM] or counts[1, key] > now
        if not over or (one[HOLDS_ON] != 0 and one[HOLDS_ON] != channel):
            continue
        spared = own_rows.shape[0] > 0 and one[SHOWS] != 0 and counts[0, key] - 1 <= one[ROOM]
        if spared:
            _again(own_rows, own_ages, one[WITHIN], again)
        for w in range(width):
            actions = rows[width * key + w]
            if spared:
                actions &= ~again[w]
            dropped[w] |= actions
            parting[w] |= actions
        found += 1
    return found


@numba.njit(cache=True)
def rooms(
    about: Integers, counts: Integers, own_rows: Integers, own_ages: Floats, channel: int,
    most: int, out: Integers,
) -> int:  # fmt: skip
    """List the shared limits that an answer of so many actions could use up.

    Each with its number, its places and the rows that take one; gives how many there are.
    """
    shares, rows = span(about, SHARES, np.int64), span(about, SHARE_ROWS, np.int64)
    width = about[WIDTH]
    again = np.zeros(width, np.int64)
    found = 0
    for i in range(shares.shape[0] // SHARE):
        one = shares[SHARE * i : SHARE * i + SHARE]
        if one[SHARED_ON] != 0 and one[SHARED_ON] != channel:
            continue
        counted = counts[0, one[SHARED_KEY]]
        if counted <= one[AT_MOST] - min(one[TAKES], most):
            continue
        places = one[AT_MOST] - counted
        if places <= 0 and own_rows.shape[0] == 0:
            continue  # a filter has dropped them all
        _again(own_rows, own_ages, one[SHARED_WITHIN], again)
        at = (2 + width) * found
        out[at], out[at + 1] = i, max(0, places)
        for w in range(width):
            out[at + 2 + w] = rows[width * i + w] & ~again[w]
        found += 1
    return found


@numba.njit(cache=True)
def _again(rows: Integers, ages: Floats, within: int, found: Integers) -> None:
    """The rows that a contact has shown within a window, as a set."""
    found[:] = 0
    for i in range(rows.shape[0]):
        if ages[i] < within:
            found[rows[i] >> 6] |= 1 << (rows[i] & 63)


@numba.njit(cache=True)
def common(a: Integers, b: Integers) -> int:
    """How many rows are in both of two sets."""
    found = 0
    for w in range(a.shape[0]):
        both = np.uint64(a[w] & b[w])
        while both != 0:
            both &= both - _ONE
            found += 1
    return found
