"""What is shown in the place of an action that could not be reserved. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from service.business import Business
from service.caps import Caps
from service.causes import rows_of, union
from service.rooms import full
from service.weighed import Reply, Want, Weighed, Weighing


class Fallbacks:
    """The defaults that may stand beside what is in an answer.

    Args:
        business: Whose.
        caps: What caps its actions.
        weighed: The decision.
        replies: What the store said of each want.
    """

    def __init__(
        self,
        business: Business,
        caps: Caps,
        weighed: Weighed,
        replies: Sequence[tuple[Want, Reply]],
    ) -> None:
        self._business, self._caps, self._weighed = business, caps, weighed
        self._dropped = weighed.filtered.dropped
        drawn = {(one.name, chosen.row) for one in weighed.weighings for chosen in one.chosen}
        kept = drawn - {(want.placement, want.row) for want, reply in replies if reply.refused}
        self._shown = {row for _, row in drawn}  # or shown as a fallback already
        self._standing = rows_of(row for _, row in kept)
        self._groups = Counter((name, business.actions[row].group) for name, row in kept)
        # Another decision took the last place of one of these; the store does not say of which.
        self._spent = {
            cap for want, reply in replies if reply.refused == "CAPPED" for cap in want.caps
        }

    def take(self, weighing: Weighing) -> int | None:
        """The row of the first default that fits, which stands in the answer then; None: none."""
        business, channel = self._business, self._weighed.inputs.question.channel
        dropped = self._dropped | union(weighing.causes)
        dropped |= full(self._weighed.rooms, self._standing)
        placement = business.placements[weighing.name]
        for name in placement.defaults:
            row = business.rows[name]
            group = weighing.name, business.actions[row].group
            if (
                row not in self._shown
                and not dropped >> row & 1
                and not business.beside[row] & self._standing
                and self._groups[group] < placement.per_group
                and self._spent.isdisjoint(self._caps.of(row, channel))
            ):
                self._shown.add(row)
                self._standing |= 1 << row
                self._groups[group] += 1
                return row
        return None
