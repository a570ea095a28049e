"""What limits that several actions share leave to one answer, in places. Pure.

A limit such as "at most 2 to grow within 7 days" may have one place left, and several actions that
would take it. Showing one takes a place of every limit that covers it, or a part of it; what the
contact has shown today, or holds, stands there already and takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.kernels import Integers
from service.causes import Rows, rows_of
from service.policies import Circumstances, Policies, Share


class Room(NamedTuple):
    """What one limit leaves."""

    name: str  # of the limit
    rows: Rows  # showing one of them takes a place
    places: int

    def left(self, shown: Rows) -> int:
        """Places that are left beside what an answer shows."""
        return self.places - (self.rows & shown).bit_count()


def full(rooms: Sequence[Room], shown: Rows) -> Rows:
    """The rows for which some limit has no place beside what an answer shows."""
    found = 0
    for room in rooms:
        if room.left(shown) <= 0:
            found |= room.rows
    return found


class _Shares(NamedTuple):
    """The limits that hold on a channel, in columns."""

    shares: Sequence[Share]
    keys: Integers
    by_most: dict[int, Integers]

    def far(self, most: int) -> Integers:
        """Counts up to which a limit cannot be used up by an answer of so many actions."""
        found = self.by_most.get(most)
        if found is None:
            found = _column([one.at_most - min(one.takes, most) for one in self.shares])
            self.by_most[most] = found
        return found


class Rooms:
    """The shared limits of one configuration."""

    def __init__(self, policies: Policies, channels: dict[str, int]) -> None:
        self._policies = policies
        self._by_channel = {
            name: _columns([one for one in policies.shares if one.holds_on in (0, code)])
            for name, code in channels.items()
        }

    def of(self, at: Circumstances, most: int) -> list[Room]:
        """What is left to an answer, of the limits that it could use up.

        Args:
            at: With what the ledger counts; where it could not be read, nothing counted passes.
            most: Actions that the answer could show.
        """
        here = self._by_channel[at.channel]
        if at.counts is None or not here.shares:
            return []
        counted = at.counts.within.take(here.keys)
        (near,) = (counted > here.far(most)).nonzero()
        if not near.size:
            return []
        own = list(self._policies.own(at)) if at.interaction else []
        found = []
        for place in near.tolist():
            one = here.shares[place]
            places = one.at_most - int(counted[place])
            if places > 0 or own:  # else a filter has dropped them all
                again = rows_of(row for row, age in own if age < one.within)
                found.append(Room(one.name, one.rows & ~again, max(0, places)))
        return found


def _columns(shares: Sequence[Share]) -> _Shares:
    return _Shares(shares, _column([one.key for one in shares]), {})


def _column(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)
