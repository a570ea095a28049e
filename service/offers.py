"""What a placement could show on a channel, and in which words, whoever the customer is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from service.business import Business
from service.catalogue import Treatment, treatment
from service.causes import Rows, rows_of

_KEPT: Final = 10_000  # ways to ask; callers may send any locale


class Offers(NamedTuple):
    """What a placement could show on a channel."""

    actions: Rows
    treatments: Sequence[Treatment | None]  # by row


class Offering:
    """What the placements of one configuration could show; the same way to ask is worked out once.

    Args:
        business: Its catalogue.
    """

    def __init__(self, business: Business) -> None:
        self._actions = business.actions
        self._offers: dict[tuple[str, str, str, str], Offers] = {}

    def of(self, placement: str, channel: str, locale: str, relationship: str) -> Offers:
        """The actions that have a treatment for the placement and channel, in the fitting tone."""
        at = (placement, channel, locale, relationship)
        found = self._offers.get(at)
        if found is None:
            treatments = [treatment(action, *at) for action in self._actions]
            found = Offers(rows_of(row for row, one in enumerate(treatments) if one), treatments)
            if len(self._offers) >= _KEPT:
                self._offers.clear()
            self._offers[at] = found
        return found
