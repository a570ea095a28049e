"""Prepare what a choice reads, and read what it wrote. Pure.

:class:`Chooser` lays a configuration out for :func:`service.choosing.choose`; a :class:`Choice` is
what came of one request, of which only what an answer needs is made into objects. The rest (ranks
of all candidates, causes, verdicts) is made for whoever asks: the log, Explain, a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from features import fields
from features.elementary import Floats
from features.kernels import Integers
from features.plan import rows_of as places_of
from features.record import EMPTY, Records
from features.usage import Counts
from service import choosing, ranking
from service.arbitration import HOLD_OUT, NO_MODEL, PROBABILITY_ONLY, Arbiter, Factors, Ranked
from service.business import Business
from service.catalogue import Exploration
from service.causes import Cause, Rows
from service.chance import signed
from service.loader import sources
from service.offers import Offers
from service.pieces import Pieces
from service.policies import Policies
from service.printing import MOST, UNTOLD
from service.rooms import Room
from service.rules import Answers
from service.sight import Layout, Sight
from service.spans import Spans

_NONE: Final = np.empty(0)
_BESIDE: Final = 32  # bytes of a slate beside its name and its recommendations
_LAYOUTS: Final = 4  # that are laid out at a time
_DOUBLES: Final = slice(choosing.NOTHING, choosing.NAMED)


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


class Choosing(NamedTuple):
    """What a request asks, beside what was seen of the customer."""

    placings: Placings
    before: Integers  # [2 width] rows that are dropped without counting, and who parts bundles
    instead: (
        Rows | None
    )  # all rows that are dropped, whatever rules and limits say; None: as they do
    ledger: Records | None
    now: int  # milliseconds
    channel: str
    interaction: int  # hash of the contact; 0: it stands alone
    seed: int
    segment: str
    prices: Mapping[str, float]
    group: str
    chain_known: bool


class Chosen(NamedTuple):
    """One action that was drawn, with the numbers that ranked it."""

    row: int
    place: int  # among the candidates
    probability: float
    factors: Factors


class Chooser:
    """Chooses for one configuration.

    Args:
        policies: Its filter stages.
        arbiter: Ranks its actions.
        business: Whose they are.
    """

    def __init__(self, policies: Policies, arbiter: Arbiter, business: Business) -> None:
        vocabulary = business.vocabulary
        codes = [vocabulary.actions[action.name] for action in business.actions]
        self.policies, self.arbiter = policies, arbiter
        self._traits, self._channels = business.traits, vocabulary.channels
        self._row_of_code = places_of(codes)
        self.actions = len(codes)
        self.width = max(1, -(-self.actions // 64))
        self.rules = len(policies.conditions.program)
        self._verdicts = -(-self.rules // 4)
        self.keys, self.shares = len(policies.limits.keys), len(policies.shares)
        self.fixed = (
            choosing.AT_DROPPED + 2 * self.width + self._verdicts + 2 * self.keys
            + self.shares * (2 + self.width)
        )  # fmt: skip
        self._pieces = Pieces(business, policies.conditions, arbiter)
        self._abouts: dict[int, tuple[Layout, Spans]] = {}
        self._prices: tuple[Mapping[str, float], Floats] = {}, _NONE

    def _about(self, layout: Layout) -> Spans:
        """What is laid out for a layout: of the models in charge, of none, or of some before."""
        known = self._abouts.get(id(layout))
        if known is None:
            if len(self._abouts) >= _LAYOUTS:
                del self._abouts[next(iter(self._abouts))]
            known = self._abouts[id(layout)] = layout, self._spans(layout)  # kept, so its id is
        return known[1]

    def _spans(self, layout: Layout) -> Spans:
        """Lay everything out that does not depend on the customer, but on the models' classes."""
        policies, arbiter, width = self.policies, self.arbiter, self.width
        program = policies.conditions.program
        keys, shares, bundles = policies.limits.keys, policies.shares, policies.bundles
        loads, tables = sources(program, layout.names)
        places = {name: place for place, name in enumerate(layout.names)}
        pieces = self._pieces
        return Spans(
            [
                arbiter.catalogue,
                arbiter.columns,
                arbiter.conditions,
                policies.limits.counting.block,
                np.array(
                    [[key.holds_on, key.room, key.shows, key.within] for key in keys], np.int64
                ),
                self._sets([key.actions for key in keys]),
                np.array(
                    [[one.key, one.holds_on, one.at_most, one.within, one.takes] for one in shares],
                    np.int64,
                ),
                self._sets([one.rows for one in shares]),
                np.array([[row, *self._set(parts)] for row, parts in bundles], np.int64),
                self._traits,
                self._row_of_code,
                loads,
                tables,
                np.array([places.get(name, -1) for name in arbiter.intents], np.int64),
                np.array(arbiter.facts_at, np.int64),
                np.array(arbiter.match),
                pieces.numbers(layout.names),
            ],
            [
                self.actions, width, layout.at_chances, len(layout.names), layout.at_acceptance,
                layout.actions, self._verdicts, pieces.address,
            ],
        )  # fmt: skip

    def _set(self, rows: Rows) -> list[int]:
        told: list[int] = np.frombuffer(rows.to_bytes(8 * self.width, "little"), np.int64).tolist()
        return told

    def _sets(self, sets: Sequence[Rows]) -> Integers:
        return np.array([self._set(rows) for rows in sets], np.int64)

    def placing(
        self,
        name: str,
        offers: Offers,
        causes: Sequence[Cause],
        rows: Rows,
        slots: int,
        per_group: int,
        nothing: float,
        left_to_chance: Exploration,
    ) -> Placing:
        """Lay out what a placement asks for.

        Args:
            name: Of the placement.
            offers: What it could show.
            causes: What speaks against actions in this placement alone.
            rows: What is left of the offers beside these.
            slots: How many actions it takes.
            per_group: At most so many of a group.
            nothing: Priority that an action must exceed.
            left_to_chance: How much.
        """
        at_pieces = choosing.PLACING + self.width
        words = np.empty((1, at_pieces + self.actions), np.int64)
        words[0, choosing.SLOTS], words[0, choosing.PER_GROUP] = slots, per_group
        words.view(np.float64)[0, _DOUBLES] = (
            nothing, left_to_chance.hold_back, left_to_chance.temperature, left_to_chance.floor,
        )  # fmt: skip
        words[0, choosing.NAMED] = self._pieces.placements[name]
        words[0, choosing.PLACING : at_pieces] = self._set(rows)
        words[0, at_pieces:] = self._pieces.offered(offers.treatments)
        most = len(name) * 4 + _BESIDE + slots * self._pieces.most
        return Placing(name, offers, causes, slots, nothing, words, most)

    def placings(self, each: Sequence[Placing]) -> Placings:
        """Lay out what several placements ask for together."""
        words = np.empty((0, choosing.PLACING + self.width + self.actions), np.int64)
        ends = [self.fixed]
        for one in each:
            ends.append(ends[-1] + _room(self.actions, one.slots))
        room = self._pieces.most_told + sum(one.bytes for one in each)
        return Placings(
            each, np.concatenate([words, *[one.words for one in each]]), ends,
            room if room < MOST else 0,
        )  # fmt: skip

    def choose(self, asked: Choosing, sight: Sight, evidence: Floats | None) -> Choice:
        """Choose what is shown; fields of the rules that no event tells are loaded already.

        Args:
            asked: What is asked.
            sight: What was seen of the customer.
            evidence: [actions] presentations that the models have learnt from; None: not told.
        """
        about = self._about(sight.layout)
        arbiter, placings = self.arbiter, asked.placings
        how = self._how(asked, sight)
        by_models = how & choosing.BY_MODELS
        uplift = sight.uplift if by_models and arbiter.ranks_by_uplift else None
        before = asked.before
        if asked.instead is not None:
            before = np.array(self._set(asked.instead) * 2, np.int64)
        out, text = np.empty(placings.ends[-1]), np.empty(placings.bytes, np.uint8)
        choosing.choose(
            about.words,
            self.policies.conditions.program.words,
            fields.words(EMPTY if asked.ledger is None else asked.ledger),
            sight.block,
            placings.words,
            before,
            self._priced(asked.prices),
            evidence if by_models and evidence is not None else _NONE,
            _NONE if uplift is None else uplift.reshape(-1),
            asked.now,
            self._channels[asked.channel],
            arbiter.channel(asked.channel),
            asked.interaction,
            signed(asked.seed),
            arbiter.value_column(asked.segment),
            arbiter.lever_column(asked.now),
            how,
            sight.at_journey,
            out,
            text,
        )
        told = by_models != 0 and evidence is not None
        size = out.view(np.int64).item(choosing.SAID)
        said = None if size == UNTOLD else text[:size].tobytes()
        return Choice(out, said, self, placings, how, told=told, lifted=uplift is not None)

    def _how(self, asked: Choosing, sight: Sight) -> int:
        """Bits of how to choose."""
        how = 0 if asked.instead is not None else choosing.FILTERS
        if asked.ledger is not None:
            how |= choosing.LEDGER_KNOWN
        if asked.chain_known:
            how |= choosing.CHAIN_KNOWN
        if sight.scored:
            how |= choosing.ASKED_MODELS
            if sight.layout.actions and asked.group != NO_MODEL:
                how |= choosing.BY_MODELS
        if asked.group == PROBABILITY_ONLY:
            how |= choosing.BY_PROBABILITY
        elif asked.group == HOLD_OUT:
            how |= choosing.HELD_OUT
        return how

    def _priced(self, prices: Mapping[str, float]) -> Floats:
        """Columns and prices; resources seldom change theirs."""
        known, column = self._prices
        if known != prices:
            column = np.array(self.arbiter.priced(prices), np.float64)
            self._prices = dict(prices), column
        return column


class Choice:
    """What was chosen for one request.

    Args:
        out: What the kernel wrote.
        said: Intents, facts, and slates as they were drawn, as fields of an answer; None: they hold
            what no kernel writes.
        chooser: Whose choice it is.
        placings: What was asked for.
        how: Bits of how it was chosen.
        told: Whether it is told what the models have learnt from.
        lifted: Whether uplift was asked.
    """

    __slots__ = ("_chooser", "_ends", "_lifted", "_modelled", "_out", "_told", "placings", "said")

    def __init__(
        self, out: Floats, said: bytes | None, chooser: Chooser, placings: Placings, how: int, *,
        told: bool, lifted: bool,
    ) -> None:  # fmt: skip
        self._out, self.said, self._chooser = out, said, chooser
        self._ends, self.placings = placings.ends, placings.each
        self._modelled, self._told, self._lifted = how & choosing.BY_MODELS != 0, told, lifted

    @property
    def dropped(self) -> Rows:
        """All rows that something speaks against, whatever the placement."""
        at = choosing.AT_DROPPED
        return int.from_bytes(self._out[at : at + self._chooser.width].tobytes(), "little")

    @property
    def ruled(self) -> Rows:
        """Those of them that rules drop."""
        at = choosing.AT_DROPPED + self._chooser.width
        return int.from_bytes(self._out[at : at + self._chooser.width].tobytes(), "little")

    @property
    def limited(self) -> bool:
        """Whether any limit or suppression forbids something."""
        return bool(self._out.view(np.int64).item(choosing.OVER))

    def answers(self, reasons: Sequence[str]) -> Answers:
        """What every rule says.

        Args:
            reasons: Why something is not known, as they were loaded.
        """
        width, size = self._chooser.width, 2 * self._chooser.rules
        at = choosing.AT_DROPPED + width
        told = self._out[at : at + width + (size + 7) // 8].tobytes()
        ruled = int.from_bytes(told[: 8 * width], "little")
        return Answers(told[8 * width : 8 * width + size], ruled, reasons)

    @property
    def counts(self) -> Counts:
        """What the ledger says of every key of the limits."""
        chooser = self._chooser
        end = chooser.fixed - chooser.shares * (2 + chooser.width)
        both = self._out[end - 2 * chooser.keys : end].view(np.int64).reshape(2, -1)
        return Counts(both[0], both[1])

    @property
    def rooms(self) -> list[Room]:
        """What limits that several actions share left to the answer."""
        whole = self._out.view(np.int64)
        count = whole.item(choosing.ROOMS)
        if not count:
            return []
        chooser, size = self._chooser, 2 + self._chooser.width
        begin = chooser.fixed - chooser.shares * size
        found = []
        for one in whole[begin : begin + count * size].reshape(count, size):
            share = chooser.policies.shares[one.item(0)]
            rows = int.from_bytes(one[2:].tobytes(), "little")
            found.append(Room(share.name, rows, one.item(1)))
        return found

    def drawn(self, number: int) -> list[float]:
        """What was drawn for a placement, as numbers, see :data:`service.choosing.PLACED`."""
        begin = self._ends[number]
        end = begin + choosing.PLACED + choosing.SLOT * self.placings[number].slots
        told: list[float] = self._out[begin:end].tolist()
        return told

    def chosen(self, drawn: Sequence[float]) -> list[Chosen]:
        """The actions of :meth:`drawn`, with their numbers."""
        found = []
        first, size = choosing.PLACED, choosing.SLOT
        for at in range(first, first + size * int(drawn[choosing.FILLED]), size):
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
        begin = at - (self._chooser.actions + 7) // 8
        return out[begin:at].tobytes()[:count]

    def _of(self, number: int) -> tuple[Floats, int, int]:
        """What was written, how many candidates a placement had, and where their ranks begin."""
        begin, slots = self._ends[number], self.placings[number].slots
        at = begin + choosing.PLACED + choosing.SLOT * slots + (self._chooser.actions + 7) // 8
        return self._out, int(self._out.item(begin + choosing.COUNT)), at


def _room(actions: int, slots: int) -> int:
    """Words of what is written of a placement; see :func:`service.choosing.room_of_placement`."""
    return (
        choosing.PLACED + choosing.SLOT * slots + (actions + 7) // 8
        + (ranking.UPLIFT + 3) * actions
    )  # fmt: skip
