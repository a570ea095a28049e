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
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import drawing
from service.catalogue import Exploration
from service.causes import Rows
from service.chance import Chance
from service.drawing import Bytes
from service.rooms import Room


class Fate(enum.IntEnum):
    """What became of a candidate; the codes are part of the log."""

    shown = drawing.SHOWN
    below_nothing = drawing.BELOW_NOTHING  # doing nothing is worth more
    elsewhere = drawing.ELSEWHERE  # another placement of the answer shows it
    group_full = drawing.GROUP_FULL  # as many of its group are shown as the placement takes
    bundled = drawing.BUNDLED  # a bundle that holds it, or a part of it, is shown
    ranked_lower = drawing.RANKED_LOWER  # the greedy answer would not have shown it either
    not_drawn = drawing.NOT_DRAWN  # chance decided against it
    held_back = drawing.HELD_BACK  # the slate was held back
    held_out = drawing.HELD_OUT  # the customer is in a control group that gets nothing
    limit_full = drawing.LIMIT_FULL  # what is shown takes the last place that a limit leaves


class Candidates(NamedTuple):
    """What may be drawn for a placement, best first."""

    rows: Integers
    priorities: Floats
    traits: Integers  # of the whole catalogue, see service.drawing


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
    codes: bytes  # of the fates, one for each candidate

    @property
    def fates(self) -> list[Fate]:
        """What became of each candidate."""
        return [_FATES[code] for code in self.codes]


GREEDY = Exploration()
UNIFORM = Exploration(floor=1.0)
NO_CHANCE = Chance(0)  # for draws that leave nothing to it

_FATES: Final = tuple(sorted(Fate))
_NO_NUMBERS: Final = np.empty(0)
_NO_SETS: Final = np.frombuffer(bytes(1), np.uint8).reshape(1, 1)  # read-only, as any other
_NO_LEFT: Final = np.zeros(0, np.int64)


def draw(
    candidates: Candidates,
    shape: Shape,
    exploration: Exploration,
    chance: Chance,
    *,
    held_out: bool = False,
) -> Drawn:
    """Draw a slate.

    Args:
        candidates: Best first.
        shape: What the slate may look like.
        exploration: How much is left to chance.
        chance: One number is taken for the hold-back and one for each drawn slot, where they are
            needed.
        held_out: Whether the customer gets nothing but what is mandatory.
    """
    rows, priorities, traits = candidates
    left_to_chance = (
        float(exploration.hold_back), float(exploration.temperature), float(exploration.floor),
    )  # fmt: skip
    slots = min(shape.slots, len(rows))
    numbers = chance.ahead(slots + 1) if any(left_to_chance) else _NO_NUMBERS
    sets, left = _sets(shape)
    out, fates = np.empty((drawing.HEAD + slots, 2)), np.empty(len(rows), np.uint8)
    drawing.fill(
        traits, rows, priorities, sets, left, numbers, shape.per_group, float(shape.nothing),
        left_to_chance, held_out, out, fates,
    )  # fmt: skip
    (filled, taken), (held_back, probability), *drawn = out.tolist()
    chance.take(int(taken))
    found = [Slot(int(place), one) for place, one in drawn[: int(filled)]]
    return Drawn(found, held_back > 0, probability, fates.tobytes())


def _sets(shape: Shape) -> tuple[Bytes, Integers]:
    """What is taken and what is shared, as bits, and the places that are left."""
    taken, rooms = shape.taken, shape.rooms
    if not taken and not rooms:
        return _NO_SETS, _NO_LEFT
    sets = [taken, *(room.rows for room in rooms)]
    width = max(sets).bit_length() // 8 + 1
    packed = b"".join(one.to_bytes(width, "little") for one in sets)
    left = np.array([room.left(taken) for room in rooms], np.int64)
    return np.frombuffer(packed, np.uint8).reshape(len(sets), -1), left
