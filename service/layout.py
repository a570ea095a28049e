"""Where a :class:`service.sight.Sight` holds what. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from features import journey

LIKELY: Final = 5
"""Intents that are told of a decision."""

FACTS: Final = len(journey.FACTS)

TOUCHED, JOURNEY, AT_TOUCHED = 2 * LIKELY, 2 * LIKELY + 1, 2 * LIKELY + 2
"""Whole numbers behind places and chances of the likeliest intents: how many of both follow."""


class Layout:
    """Where a sight holds what.

    Facts, features, probabilities of intents and of actions, places and probabilities of the
    likeliest intents; then whole numbers: how many rows were touched and how many numbers of the
    journey follow, and the touched rows; then their pair features, and the numbers of the journey.

    One object for all decisions with the same models, so that what is worked out for a layout can
    be kept.

    Args:
        names: Of the intents, class by class.
        places: Of the classes, by name.
        order: Of the classes, by code.
        features: Of the customer.
        actions: With a probability; 0: nothing is said of them.
        rows: Of the catalogue.
        pairs: Pair features.

    Attributes:
        at_chances: Where the probabilities of the intents begin.
        at_acceptance: Where the probabilities of the actions begin.
        at_numbers: Where the whole numbers begin.
    """

    __slots__ = (
        "actions", "at_acceptance", "at_chances", "at_numbers", "features", "names", "order",
        "pairs", "places", "rows",
    )  # fmt: skip

    def __init__(
        self,
        names: Sequence[str] = (),
        places: Mapping[str, int] | None = None,
        order: Sequence[int] = (),
        features: int = 0,
        actions: int = 0,
        rows: int = 0,
        pairs: int = 0,
    ) -> None:
        self.names, self.places, self.order = names, places or {}, order
        self.features, self.actions, self.rows, self.pairs = features, actions, rows, pairs
        self.at_chances = FACTS + features
        self.at_acceptance = self.at_chances + len(names)
        self.at_numbers = self.at_acceptance + actions

    def without_actions(self) -> Layout:
        """The same of models that say nothing of actions."""
        return Layout(self.names, self.places, self.order, self.features, 0, self.rows, self.pairs)

    def at_journey(self, events: int) -> int:
        """Where the numbers of the journey begin, with so many events in the timeline."""
        touched = self.rows if self.rows < events else events  # min() is a call
        return self.at_numbers + AT_TOUCHED + self.rows + touched * self.pairs


NO_LAYOUT: Final = Layout()
"""Of a sight for which no model was asked."""
