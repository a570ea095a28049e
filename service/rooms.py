"""What limits that several actions share leave to one answer, in places. Pure.

A limit such as "at most 2 to grow within 7 days" may have one place left, and several actions that
would take it. Showing one takes a place of every limit that covers it, or a part of it; what the
contact has shown today, or holds, stands there already and takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.causes import Rows


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
