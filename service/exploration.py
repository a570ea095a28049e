"""Draw slates with known probabilities, so that a log can be learnt from. Pure.

First the placement holds back with a small probability: an empty slate, the only honest ground for
uplift. Then slot by slot, from (1 - floor) softmax + floor uniform over what still fits. Candidates
are fixed before the draw. The probability of a slot is conditional on the slots above it, and their
product is the slate's. What is mandatory is shown first, never drawn and never held back.

The softmax is over priority / (temperature x best priority of what still fits), so that a
temperature means the same at every placement and slot; at 0 the best is always taken.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np

from features.elementary import Floats, softmax
from service.catalogue import Exploration
from service.causes import Rows
from service.rooms import Room, full


class Fate(enum.IntEnum):
    """What became of a candidate; the codes are part of the log."""

    shown = 0
    below_nothing = 1  # doing nothing is worth more
    elsewhere = 2  # another placement of the answer shows it
    group_full = 3  # as many of its group are shown as the placement takes
    bundled = 4  # a bundle that holds it, or a part of it, is shown
    ranked_lower = 5  # the greedy answer would not have shown it either
    not_drawn = 6  # chance decided against it
    held_back = 7  # the slate was held back
    held_out = 8  # the customer is in a control group that gets nothing
    limit_full = 9  # what is shown takes the last place that a limit leaves


class Candidates(NamedTuple):
    """What may be drawn for a placement, best first."""

    rows: Sequence[int]
    priorities: Floats
    groups: Sequence[str]
    mandatory: Sequence[bool]
    excludes: Sequence[Rows]  # rows that may not stand beside each


class Shape(NamedTuple):
    """What a slate may look like."""

    slots: int
    per_group: int
    nothing: float  # priority that an action must exceed
    taken: Rows = 0  # rows that the answer shows already
    rooms: Sequence[Room] = ()  # what shared limits leave to the whole answer


class Slot(NamedTuple):
    """One drawn action."""

    place: int  # among the candidates
    probability: float  # given the slots above and that the slate is not held back


class Drawn(NamedTuple):
    """A slate as it was drawn."""

    slots: Sequence[Slot]
    held_back: bool
    probability: float  # of the whole slate, the hold-back included
    fates: Sequence[Fate]  # one for each candidate


GREEDY = Exploration()
UNIFORM = Exploration(floor=1.0)
NO_CHANCE = random.Random(0)  # noqa: S311  for draws that leave nothing to it


def draw(
    candidates: Candidates,
    shape: Shape,
    exploration: Exploration,
    chance: random.Random,
    *,
    held_out: bool = False,
) -> Drawn:
    """Draw a slate.

    Args:
        candidates: Best first.
        shape: What the slate may look like.
        exploration: How much is left to chance.
        chance: Seeded; one number is taken for the hold-back and one for each drawn slot, where
            they are needed.
        held_out: Whether the customer gets nothing but what is mandatory.
    """
    slate = _Slate(candidates, shape)
    if held_out:
        return slate.closed(Fate.held_out)
    probability = 1.0
    if exploration.hold_back:
        if chance.random() < exploration.hold_back:
            return slate.closed(Fate.held_back, probability=exploration.hold_back)
        probability -= exploration.hold_back
    if not exploration.temperature and not exploration.floor:
        slate.fill()
        return slate.closed(Fate.ranked_lower, probability=probability)
    while slate.room and slate.fitting:
        chances = _chances(candidates.priorities[slate.fitting], exploration)
        at = _drawn(chances, chance.random())
        probability *= float(chances[at])
        slate.show(slate.fitting[at], float(chances[at]))
    best_slate = _Slate(candidates, shape)
    best_slate.fill()
    greedy = {slot.place for slot in best_slate.slots}
    return slate.closed(Fate.ranked_lower, probability=probability, greedy=greedy)


def _chances(priorities: Floats, exploration: Exploration) -> Floats:
    """Probability of each to be drawn next."""
    best = float(priorities.max())
    if exploration.temperature and best > 0:
        soft = softmax(priorities / (exploration.temperature * best))
    else:
        soft = np.zeros(len(priorities))
        soft[0] = 1.0
    return (1.0 - exploration.floor) * soft + exploration.floor / len(priorities)


def _drawn(chances: Floats, number: float) -> int:
    """Place of the interval, of all laid end to end, that a number from 0 to 1 falls into."""
    total = 0.0
    for place, one in enumerate(chances.tolist()):
        total += one
        if number < total:
            return place
    return len(chances) - 1  # the numbers add up to a hair less than 1


class _Slate:
    """A slate that is being filled; it begins with what is mandatory."""

    def __init__(self, candidates: Candidates, shape: Shape) -> None:
        self._candidates = candidates
        self._shape = shape
        self._shown: Rows = 0
        self._excluded: Rows = 0
        self._groups: dict[str, int] = {}
        self._full = full(shape.rooms, shape.taken)
        self.slots: list[Slot] = []
        everything = range(len(candidates.rows))
        self.fitting = [place for place in everything if self._unfit(place) is None]
        for place in [place for place in self.fitting if candidates.mandatory[place]]:
            if self.room and place in self.fitting:
                self.show(place, 1.0)

    @property
    def room(self) -> int:
        """Slots that are still empty."""
        return self._shape.slots - len(self.slots)

    def show(self, place: int, probability: float) -> None:
        """Put a candidate into the next slot; ``fitting`` is what may still come below it."""
        row, group = self._candidates.rows[place], self._candidates.groups[place]
        self._shown |= 1 << row
        self._excluded |= self._candidates.excludes[place]
        self._groups[group] = self._groups.get(group, 0) + 1
        self.slots.append(Slot(place, probability))
        if self._shape.rooms:
            self._full = full(self._shape.rooms, self._shape.taken | self._shown)
        if self._groups[group] >= self._shape.per_group or self._excluded or self._full:
            self.fitting = [one for one in self.fitting if self._unfit(one) is None]
        if place in self.fitting:
            self.fitting.remove(place)

    def fill(self) -> None:
        """Take the best that fit until there is no room."""
        while self.room and self.fitting:
            self.show(self.fitting[0], 1.0)

    def _unfit(self, place: int) -> Fate | None:
        """Why a candidate may not be shown; None: it may, or is."""
        row, shape = self._candidates.rows[place], self._shape
        mandatory = self._candidates.mandatory[place]
        if not mandatory and not self._candidates.priorities[place] > shape.nothing:
            return Fate.below_nothing
        if shape.taken >> row & 1:
            return Fate.elsewhere
        excludes = self._candidates.excludes[place]
        if self._excluded >> row & 1 or excludes & (self._shown | shape.taken):
            return Fate.bundled
        if self._groups.get(self._candidates.groups[place], 0) >= shape.per_group:
            return Fate.group_full
        if self._full >> row & 1:
            return Fate.limit_full
        return None

    def closed(self, fate: Fate, *, probability: float = 1.0, greedy: Container[int] = ()) -> Drawn:
        """The slate, with what became of everybody.

        Args:
            fate: Of those who could still be shown.
            probability: Of the slate.
            greedy: Places of the candidates that the slate would hold without chance.
        """
        fates = []
        for place, row in enumerate(self._candidates.rows):
            if self._shown >> row & 1:
                fates.append(Fate.shown)
            elif place in greedy:
                fates.append(Fate.not_drawn)
            else:
                fates.append(self._unfit(place) or fate)
        return Drawn(self.slots, fate is Fate.held_back, probability, fates)
