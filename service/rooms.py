"""What limits that several actions share leave to one answer, in places. Pure.

A limit such as "at most 2 to grow within 7 days" may have one place left, and several actions that
would take it. Showing one takes a place of every limit that covers it, or a part of it; what the
contact has shown today, or holds, stands there already and takes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from service.causes import Rows, rows_of
from service.declared import Limit
from service.limits import Key


class Share(NamedTuple):
    """A limit on showing that more than one action may come up against."""

    name: str
    key: int  # among the counts
    holds_on: int  # code of the channel; 0: on every channel
    at_most: int
    within: int  # milliseconds
    rows: Rows  # showing one of them counts
    takes: int  # how many of them fit into one answer at most


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


def shares(keys: Sequence[Key], bundles: Sequence[tuple[int, Rows]]) -> Iterable[Share]:
    """Limits on showing that cover more than one action, its bundles included.

    Args:
        keys: Of all limits.
        bundles: Rows of bundles with their parts.
    """
    for number, key in enumerate(keys):
        one = key.declared
        if not isinstance(one, Limit) or one.outcome != "presented":
            continue
        rows = key.actions | rows_of(row for row, parts in bundles if parts & key.actions)
        if rows.bit_count() > 1:
            # An action, its bundles, and bundles that share a part never stand side by side.
            takes = key.actions.bit_count()
            yield Share(one.name, number, key.holds_on, one.at_most, one.within_ms, rows, takes)
