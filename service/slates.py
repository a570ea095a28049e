"""What a decision answers: of what was drawn, what the store allowed to be shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from service.catalogue import Price, Treatment
from service.factors import Factors
from service.reasons import Reason
from service.weighed import Reply, Want, Weighed


class Shown(NamedTuple):
    """One action of an answer."""

    row: int
    treatment: Treatment
    factors: Factors
    reasons: Sequence[Reason]
    probability: float  # of what was drawn for the slot
    price: Price | None
    instead_of: int | None = None  # row that was drawn and could not be reserved


class Slate(NamedTuple):
    """The answer for one placement."""

    placement: str
    shown: Sequence[Shown]
    held_back: bool
    probability: float


class Answer:
    """A whole decision.

    Args:
        weighed: What was drawn.
        slates: What is shown; or what makes that of what was drawn, where all of it is shown.
        replies: What the store said of each want.
        advisories: What the caller should know.
    """

    __slots__ = ("_rows", "_slates", "advisories", "as_drawn", "replies", "weighed")

    def __init__(
        self,
        weighed: Weighed,
        slates: Sequence[Slate] | Callable[[Weighed], Sequence[Slate]],
        replies: Sequence[tuple[Want, Reply]],
        advisories: Sequence[Reason],
    ) -> None:
        self.weighed, self._slates = weighed, slates
        self.replies, self.advisories = replies, advisories
        self.as_drawn = callable(slates)
        """Whether all is shown that was drawn, and nothing else."""
        self._rows: list[int] | None = None

    @property
    def slates(self) -> Sequence[Slate]:
        """What is shown at each placement; made when it is asked for."""
        if callable(self._slates):
            self._slates = self._slates(self.weighed)
        return self._slates

    @property
    def rows(self) -> list[int]:
        """All that is shown, in order; the log asks twice."""
        if self._rows is None:
            self._rows = (
                [row for one in self.weighed.weighings for row in one.rows]
                if self.as_drawn
                else [one.row for slate in self.slates for one in slate.shown]
            )
        return self._rows
