"""What was chosen for one request, read off what the kernel wrote. Pure.

Only what an answer needs is made into objects. The rest (ranks of all candidates, causes, verdicts)
is made for whoever asks: the log, Explain, a test. :class:`service.chooser.Chooser` makes choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from features.usage import Counts
from service import choosing, given, placing, ranking
from service.causes import Cause, Rows
from service.factors import Factors, Ranked
from service.offers import Offers
from service.rooms import Room, Share
from service.rules import Answers


class Extent(NamedTuple):
    """How much there is of what a choice of one configuration holds, and so where."""

    actions: int
    width: int  # words of a set of rows
    rules: int
    keys: int  # of the limits
    shares: Sequence[Share]

    @property
    def verdicts(self) -> int:
        """Words of what the rules say."""
        return -(-self.rules // 4)

    @property
    def at_counts(self) -> int:
        """Where what is counted begins, behind rows and verdicts."""
        return choosing.AT_DROPPED + 2 * self.width + self.verdicts

    @property
    def at_rooms(self) -> int:
        """Where what shared limits leave begins."""
        return self.at_counts + 2 * self.keys

    @property
    def fixed(self) -> int:
        """Where the first placement begins."""
        return self.at_rooms + len(self.shares) * (2 + self.width)

    def placed(self, slots: int) -> int:
        """Words of what is written of a placement; see :func:`service.placing.room`."""
        return (
            placing.PLACED + placing.SLOT * slots + (self.actions + 7) // 8
            + (ranking.UPLIFT + 3) * self.actions
        )  # fmt: skip


class Placing(NamedTuple):
    """What one placement asks for, and what it could show; the same for many requests."""

    name: str
    offers: Offers
    causes: Sequence[Cause]  # that hold in this placement alone
    slots: int
    nothing: float  # priority that an action has to exceed
    words: Integers  # [1, PLACING + width + actions] for the kernel
    bytes: int  # that its slate does not exceed


class Placings(NamedTuple):
    """What all placements of a request ask for; the same for many requests."""

    each: Sequence[Placing]
    words: Integers  # [placements, PLACING + width + actions] of each
    ends: Sequence[int]  # where what is told of each begins, and where the last one ends
    bytes: int  # that the answer's intents, facts and slates do not exceed


class Chosen(NamedTuple):
    """One action that was drawn, with the numbers that ranked it."""

    row: int
    place: int  # among the candidates
    probability: float
    factors: Factors


class Choice:
    """What was chosen for one request.

    Args:
        out: What the kernel wrote.
        said: Intents, facts, and slates as they were drawn, as fields of an answer; None: they hold
            what no kernel writes.
        extent: Of what is held.
        placings: What was asked for.
        how: Bits of how it was chosen.
        told: Whether it is told what the models have learnt from.
        lifted: Whether uplift was asked.
    """

    __slots__ = ("_ends", "_extent", "_lifted", "_modelled", "_out", "_told", "placings", "said")

    def __init__(
        self, out: Floats, said: bytes | None, extent: Extent, placings: Placings, how: int, *,
        told: bool, lifted: bool,
    ) -> None:  # fmt: skip
        self._out, self.said, self._extent = out, said, extent
        self._ends, self.placings = placings.ends, placings.each
        self._modelled, self._told, self._lifted = how & given.BY_MODELS != 0, told, lifted

    @property
    def dropped(self) -> Rows:
        """All rows that something speaks against, whatever the placement."""
        at = choosing.AT_DROPPED
        return int.from_bytes(self._out[at : at + self._extent.width].tobytes(), "little")

    @property
    def ruled(self) -> Rows:
        """Those of them that rules drop."""
        at = choosing.AT_DROPPED + self._extent.width
        return int.from_bytes(self._out[at : at + self._extent.width].tobytes(), "little")

    @property
    def limited(self) -> bool:
        """Whether any limit or suppression forbids something."""
        return bool(self._out.view(np.int64).item(choosing.OVER))

    def answers(self, reasons: Sequence[str]) -> Answers:
        """What every rule says.

        Args:
            reasons: Why something is not known, as they were loaded.
        """
        width, size = self._extent.width, 2 * self._extent.rules
        at = choosing.AT_DROPPED + width
        told = self._out[at : at + width + (size + 7) // 8].tobytes()
        ruled = int.from_bytes(told[: 8 * width], "little")
        return Answers(told[8 * width : 8 * width + size], ruled, reasons)

    @property
    def counts(self) -> Counts:
        """What the ledger says of every key of the limits."""
        begin, end = self._extent.at_counts, self._extent.at_rooms
        both = self._out[begin:end].view(np.int64).reshape(2, -1)
        return Counts(both[0], both[1])

    @property
    def rooms(self) -> list[Room]:
        """What limits that several actions share left to the answer."""
        whole = self._out.view(np.int64)
        count = whole.item(choosing.ROOMS)
        if not count:
            return []
        begin, size = self._extent.at_rooms, 2 + self._extent.width
        found = []
        for one in whole[begin : begin + count * size].reshape(count, size):
            share = self._extent.shares[one.item(0)]
            rows = int.from_bytes(one[2:].tobytes(), "little")
            found.append(Room(share.name, rows, one.item(1)))
        return found

    def drawn(self, number: int) -> list[float]:
        """What was drawn for a placement, as numbers, see :data:`service.placing.PLACED`."""
        begin = self._ends[number]
        end = begin + placing.PLACED + placing.SLOT * self.placings[number].slots
        told: list[float] = self._out[begin:end].tolist()
        return told

    def chosen(self, drawn: Sequence[float]) -> list[Chosen]:
        """The actions of :meth:`drawn`, with their numbers."""
        found = []
        first, size = placing.PLACED, placing.SLOT
        for at in range(first, first + size * int(drawn[placing.FILLED]), size):
            row, place, chance, acceptance, value, capacity, weight, lever, priority, model, \
                evidence, mean, low, high = drawn[at : at + size]  # fmt: skip
            factors = Factors(
                acceptance, value, weight, lever, priority,
                model if self._modelled else None,
                evidence if self._told else None,
                capacity,
                (mean, low, high) if self._lifted and mean == mean else None,  # noqa: PLR0124  NaN
            )  # fmt: skip
            found.append(Chosen(int(row), int(place), chance, factors))
        return found

    def ranked(self, number: int) -> Ranked:
        """All candidates of a placement with their numbers, best first."""
        out, count, at = self._of(number)
        height = ranking.UPLIFT + 3 * self._lifted
        told = out[at : at + height * count].reshape(height, count)
        return Ranked(
            told[ranking.ROW].view(np.int64),
            told[ranking.ACCEPTANCE],
            told[ranking.VALUE],
            told[ranking.CAPACITY],
            told[ranking.WEIGHT],
            told[ranking.LEVER],
            told[ranking.PRIORITY],
            told[ranking.MODEL] if self._modelled else None,
            told[ranking.EVIDENCE] if self._told else None,
            told[ranking.UPLIFT :].reshape(count, 3) if self._lifted else None,
        )

    @property
    def block(self) -> tuple[Floats, Sequence[int], tuple[bool, bool, bool]]:
        """All that was written, and where in it each placement begins.

        At the end, whether what it says of models, of evidence and of uplift means something.
        """
        return self._out, self._ends, (self._modelled, self._told, self._lifted)

    def fates(self, number: int) -> bytes:
        """What became of each candidate of a placement, see :class:`service.exploration.Fate`."""
        out, count, at = self._of(number)
        begin = at - (self._extent.actions + 7) // 8
        return out[begin:at].tobytes()[:count]

    def _of(self, number: int) -> tuple[Floats, int, int]:
        """What was written, how many candidates a placement had, and where their ranks begin."""
        begin, slots = self._ends[number], self.placings[number].slots
        at = begin + placing.PLACED + placing.SLOT * slots + (self._extent.actions + 7) // 8
        return self._out, int(self._out.item(begin + placing.COUNT)), at
