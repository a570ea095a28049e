"""Prepare what a choice reads, and have the kernel choose. Pure.

:class:`Chooser` lays a configuration out for :func:`service.choosing.choose`; what that wrote is a
:class:`service.choice.Choice`.
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
from service import choosing, given, placing
from service.arbitration import HOLD_OUT, NO_MODEL, PROBABILITY_ONLY, Arbiter
from service.business import Business
from service.catalogue import Exploration
from service.causes import Cause, Rows
from service.chance import signed
from service.choice import Choice, Extent, Placing, Placings
from service.layout import Layout
from service.loader import sources
from service.offers import Offers
from service.pieces import Pieces
from service.policies import Policies
from service.printing import MOST, UNTOLD
from service.sight import Sight
from service.spans import Spans

_NONE: Final = np.empty(0)
_BESIDE: Final = 32  # bytes of a slate beside its name and its recommendations
_LAYOUTS: Final = 4  # that are laid out at a time
_DOUBLES: Final = slice(placing.NOTHING, placing.NAMED)


class Choosing(NamedTuple):
    """What a request asks, beside what was seen of the customer."""

    placings: Placings
    before: Integers  # [2 width] rows that are dropped without counting, and who parts bundles
    instead: Rows | None  # that are dropped, whatever rules and limits say; None: as they do
    ledger: Records | None
    now: int  # milliseconds
    channel: str
    interaction: int  # hash of the contact; 0: it stands alone
    seed: int
    segment: str
    prices: Mapping[str, float]
    group: str
    chain_known: bool


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
        self.extent = Extent(
            len(codes), max(1, -(-len(codes) // 64)), len(policies.conditions.program),
            len(policies.limits.keys), policies.shares,
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
        policies, arbiter, extent = self.policies, self.arbiter, self.extent
        program = policies.conditions.program
        keys, shares, bundles = policies.limits.keys, policies.shares, policies.bundles
        loads, tables = sources(program, layout.names)
        places = {name: place for place, name in enumerate(layout.names)}
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
                self._pieces.numbers(layout.names),
            ],
            [
                extent.actions, extent.width, layout.at_chances, len(layout.names),
                layout.at_acceptance, layout.actions, extent.verdicts, self._pieces.address,
            ],
        )  # fmt: skip

    def _set(self, rows: Rows) -> list[int]:
        words = np.frombuffer(rows.to_bytes(8 * self.extent.width, "little"), np.int64)
        told: list[int] = words.tolist()
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
        at_pieces = placing.PLACING + self.extent.width
        words = np.empty((1, at_pieces + self.extent.actions), np.int64)
        words[0, placing.SLOTS], words[0, placing.PER_GROUP] = slots, per_group
        words.view(np.float64)[0, _DOUBLES] = (
            nothing, left_to_chance.hold_back, left_to_chance.temperature, left_to_chance.floor,
        )  # fmt: skip
        words[0, placing.NAMED] = self._pieces.placements[name]
        words[0, placing.PLACING : at_pieces] = self._set(rows)
        words[0, at_pieces:] = self._pieces.offered(offers.treatments)
        most = len(name) * 4 + _BESIDE + slots * self._pieces.most
        return Placing(name, offers, causes, slots, nothing, words, most)

    def placings(self, each: Sequence[Placing]) -> Placings:
        """Lay out what several placements ask for together."""
        words = np.empty((0, placing.PLACING + self.extent.width + self.extent.actions), np.int64)
        ends = [self.extent.fixed]
        for one in each:
            ends.append(ends[-1] + self.extent.placed(one.slots))
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
        by_models = how & given.BY_MODELS
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
        return Choice(out, said, self.extent, placings, how, told=told, lifted=uplift is not None)

    def _how(self, asked: Choosing, sight: Sight) -> int:
        """Bits of how to choose."""
        how = 0 if asked.instead is not None else given.FILTERS
        if asked.ledger is not None:
            how |= given.LEDGER_KNOWN
        if asked.chain_known:
            how |= given.CHAIN_KNOWN
        if sight.scored:
            how |= given.ASKED_MODELS
            if sight.layout.actions and asked.group != NO_MODEL:
                how |= given.BY_MODELS
        if asked.group == PROBABILITY_ONLY:
            how |= given.BY_PROBABILITY
        elif asked.group == HOLD_OUT:
            how |= given.HELD_OUT
        return how

    def _priced(self, prices: Mapping[str, float]) -> Floats:
        """Columns and prices; resources seldom change theirs."""
        known, column = self._prices
        if known != prices:
            column = np.array(self.arbiter.priced(prices), np.float64)
            self._prices = dict(prices), column
        return column
