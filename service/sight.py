"""What the models see of a customer and what they say of it, in one compiled call. Pure.

Facts, features, the likeliest reasons for the contact and the chance of every action follow from
one another without a question to anybody, so nothing is gained by coming back between them: each
way into a kernel and out of it, and each array made on the way, is paid for with cold caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import numba
import numpy as np

from features import fields, journey, kernels
from features.elementary import Floats, exp, softmax
from features.journey import Journey
from features.kernels import Integers
from features.plan import Context, Plan
from features.profile import Profile
from features.record import Records
from service.forest import layout as forest
from service.forest.kernels import score
from service.forest.memory import array
from service.layout import AT_TOUCHED, FACTS, JOURNEY, LIKELY, NO_LAYOUT, TOUCHED, Layout
from service.spans import Spans, span

_LENS, _CUSTOMER, _PAIR, _ROWS, _SCALARS, _ORDER = range(6)
_NUMBERS: Final = 12
(
    _INTENT, _INTENT_SCRATCH, _CLASSES, _ACCEPTANCE, _ACCEPTANCE_SCRATCH, _ACTIONS, _FEATURES,
    _PAIRS, _ACTIONS_SAID,
) = range(_NUMBERS, _NUMBERS + 9)  # fmt: skip


class Seen(NamedTuple):
    """What the models see of one customer and all actions."""

    vector: Floats  # [customer features]
    touched: Integers  # [n] rows of actions whose pair features differ from the usual ones
    pairs: Floats  # [n, pair features] these


class Sight:
    """What was seen of a customer at a moment, and what the models say of it.

    Attributes:
        block: All of it, as ``layout`` says.
        layout: Of the models, one object for all their decisions.
        events: Of the timeline.
        scored: Whether the models were asked; else only the facts mean anything.
        uplift: [actions, 3] mean, low and high; None: nobody was asked.
    """

    __slots__ = ("_facts", "_seen", "block", "events", "layout", "scored", "uplift")

    def __init__(
        self, block: Floats, layout: Layout, events: int, *, scored: bool, seen: Seen | None = None
    ) -> None:
        self.block, self.layout, self.events, self.scored = block, layout, events, scored
        self.uplift: Floats | None = None
        self._seen = seen
        self._facts: list[float] | None = None

    @property
    def facts(self) -> list[float]:
        """One for each of :data:`features.journey.FACTS`."""
        if self._facts is None:
            self._facts = self.block[:FACTS].tolist()
        return self._facts

    @property
    def vector(self) -> Floats:
        """What the models see of the customer: [customer features]."""
        return self.block[FACTS : FACTS + self.layout.features]

    @property
    def chances(self) -> Chances:
        """Probability of each intent; empty where none was scored."""
        return Chances(self.block, self.layout if self.scored else NO_LAYOUT)

    @property
    def intents(self) -> list[tuple[str, float]]:
        """All intents with their probabilities, likeliest first; equal ones in order of code."""
        chances, names = self.chances, self.layout.names
        if not chances:
            return []
        pairs = [(names[place], chances[names[place]]) for place in self.layout.order]
        pairs.sort(key=_chance, reverse=True)
        return pairs

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """The first few of :attr:`intents`."""
        names = self.layout.names
        if not self.scored or not names:
            return []
        at, count = self.layout.at_numbers, min(LIKELY, len(names))
        told = self.block[at : at + 2 * LIKELY].tolist()
        return [(names[int(told[i])], told[LIKELY + i]) for i in range(count)]

    @property
    def acceptance(self) -> Floats | None:
        """[actions] probability of each; None: no model was asked."""
        if not self.scored or not self.layout.actions:
            return None
        begin = self.layout.at_acceptance
        return self.block[begin : begin + self.layout.actions]

    @property
    def seen(self) -> Seen:
        """What the models saw."""
        if self._seen is None:
            layout = self.layout
            numbers = self.block[layout.at_numbers :].view(np.int64)
            count = numbers.item(TOUCHED)
            begin = layout.at_numbers + AT_TOUCHED + layout.rows
            pairs = self.block[begin : begin + count * layout.pairs]
            touched = numbers[AT_TOUCHED : AT_TOUCHED + count]
            self._seen = Seen(self.vector, touched, pairs.reshape(count, layout.pairs))
        return self._seen

    @property
    def at_journey(self) -> int:
        """Where the numbers of the journey begin, beside its facts."""
        return self.layout.at_journey(self.events)

    @property
    def journey(self) -> Journey:
        """The facts, with what they were read off."""
        numbers, begin = self.block.view(np.int64), self.at_journey
        count = numbers.item(self.layout.at_numbers + JOURNEY)
        told = numbers[begin : begin + count].tolist()
        return journey.told(self.block[:FACTS], told)


class Chances(Mapping[str, float]):
    """Probabilities of intents by name, read where they stand.

    Args:
        block: Of a :class:`Sight`.
        layout: Of it; without names: nothing was scored.
    """

    __slots__ = ("_begin", "_block", "_places")

    def __init__(self, block: Floats, layout: Layout) -> None:
        self._block, self._begin, self._places = block, layout.at_chances, layout.places

    def __getitem__(self, name: str) -> float:
        return self._block.item(self._begin + self._places[name])

    def get(self, name: str, default: float = 0.0) -> float:  # type: ignore[override]
        """Probability of an intent that may not be known."""
        place = self._places.get(name)
        return default if place is None else self._block.item(self._begin + place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _chance(one: tuple[str, float]) -> float:
    return one[1]


def _empty(layout: Layout, events: int) -> Floats:
    return np.empty(layout.at_journey(events) + journey.room(events))


def unscored(records: Records, now: int, lens: journey.Lens) -> Sight:
    """See what the chain of events shows, and ask no model.

    Args:
        records: The timeline, in order.
        now: The moment, in milliseconds.
        lens: How facts are read.
    """
    block = _empty(NO_LAYOUT, len(records))
    _read(block, NO_LAYOUT, records, now, lens)
    return Sight(block, NO_LAYOUT, len(records), scored=False)


def _read(block: Floats, layout: Layout, records: Records, now: int, lens: journey.Lens) -> None:
    """Read the facts into a block in which nobody is touched."""
    numbers = block[layout.at_numbers :].view(np.int64)
    numbers[TOUCHED] = 0
    told = block[layout.at_journey(len(records)) :].view(np.int64)
    numbers[JOURNEY] = journey.read_into(
        fields.words(records), now, lens.words, block[:FACTS], told
    )


class Says(Protocol):
    """Whoever has something to say of customers, one step at a time."""

    @property
    def scores_intents(self) -> bool:
        """Whether anything is said of intents."""

    @property
    def scores_acceptance(self) -> bool:
        """Whether anything is said of actions."""

    @property
    def layout(self) -> Layout:
        """One for all decisions; without actions where nothing is said of them."""

    @property
    def plan(self) -> Plan:
        """What the features are."""

    def customer(self, records: Records, profile: Profile, context: Context, now: int) -> Floats:
        """Features of the customer."""

    def intents(self, vector: Floats) -> Floats:
        """Probability of each class."""

    def seen(self, vector: Floats, records: Records, now: int) -> Seen:
        """What is seen of all actions."""

    def acceptance(self, seen: Seen) -> Floats:
        """Probability of each action."""


def said(models: Says, records: Records, profile: Profile, context: Context, now: int) -> Sight:
    """What somebody says of a customer step by step, laid out as :func:`see` would."""
    layout = models.layout
    block = _empty(layout, len(records))
    _read(block, layout, records, now, models.plan.lens)
    likely = block[layout.at_numbers : layout.at_numbers + 2 * LIKELY]
    vector = models.customer(records, profile, context, now)
    block[FACTS : layout.at_chances] = vector
    if models.scores_intents and layout.names:
        block[layout.at_chances : layout.at_acceptance] = models.intents(vector)
        order = np.array(layout.order, np.int64)
        _likeliest(block[layout.at_chances : layout.at_acceptance], order, likely)
    seen = models.seen(vector, records, now)
    if models.scores_acceptance:
        block[layout.at_acceptance : layout.at_numbers] = models.acceptance(seen)
    return Sight(block, layout, len(records), scored=True, seen=seen)


class Compiled(NamedTuple):
    """What :class:`Seer` takes of models."""

    lens: Integers
    customer: Integers  # the compiled customer features
    pair: Integers  # the compiled pair features
    row_of_action: Integers
    intent: tuple[int, int]  # addresses of a forest and its scratch; 0: none
    acceptance: tuple[int, int]
    temperature: float
    slope: float
    offset: float


class Seer:
    """Looks at customers with the models of one bundle.

    Args:
        models: Kept alive by whoever asks.
        layout: Of what is seen.
    """

    def __init__(self, models: Compiled, layout: Layout) -> None:
        self.layout = layout
        scalars = np.array([models.temperature, models.slope, models.offset])
        order = np.array(layout.order, np.int64)
        self._spans = Spans(
            [models.lens, models.customer, models.pair, models.row_of_action, scalars, order],
            [
                *models.intent, len(layout.names), *models.acceptance, layout.rows,
                layout.features, layout.pairs, layout.actions,
            ],
        )  # fmt: skip
        self._words = self._spans.words

    def see(self, records: Records, beside: Floats, now: int) -> Sight:
        """Look at a customer.

        Args:
            records: The timeline, in order; events later than ``now`` are not seen.
            beside: What no event tells, see :class:`features.beside.Beside`.
            now: The moment, in milliseconds.
        """
        events = len(records)
        block = _empty(self.layout, events)
        see(self._words, fields.words(records), now, beside, block)
        return Sight(block, self.layout, events, scored=True)


@numba.njit(cache=True, error_model="numpy")
def see(models: Integers, words: Integers, now: int, beside: Floats, out: Floats) -> None:
    """Fill ``out`` with everything that is seen and said; see :class:`Layout`."""
    classes, actions = models[_CLASSES], models[_ACTIONS_SAID]
    rows, pairs = models[_ACTIONS], models[_PAIRS]
    touched = min(rows, words.shape[0] // fields.WORDS)
    at_chances = FACTS + models[_FEATURES]
    at_acceptance = at_chances + classes
    at_numbers = at_acceptance + actions
    at_pairs = at_numbers + AT_TOUCHED + rows
    at_journey = at_pairs + touched * pairs
    facts, vector = out[:FACTS], out[FACTS:at_chances]
    numbers = out[at_numbers:].view(np.int64)
    lens = span(models, _LENS, np.int64)
    numbers[JOURNEY] = journey.read_into(words, now, lens, facts, out[at_journey:].view(np.int64))
    kernels.customer(words, now, span(models, _CUSTOMER, np.int64), beside, facts, vector)
    scalars = span(models, _SCALARS, np.float64)
    nobody, nothing = np.empty(0, np.int64), np.empty((0, 0))
    if classes:
        forest_at, scratch = models[_INTENT], models[_INTENT_SCRATCH]
        score(forest_at, scratch, vector, nobody, nothing)
        said = array(forest_at, forest.ANSWER, scratch, np.float64)
        cooler = np.empty(classes)
        for i in range(classes):
            cooler[i] = said[i] / scalars[0]
        out[at_chances:at_acceptance] = softmax(cooler)
        likely = out[at_numbers : at_numbers + 2 * LIKELY]
        _likeliest(out[at_chances:at_acceptance], span(models, _ORDER, np.int64), likely)
    found = numbers[AT_TOUCHED : AT_TOUCHED + rows]
    own = out[at_pairs:at_journey].reshape(touched, pairs)
    numbers[TOUCHED] = kernels.touched(
        words, now, span(models, _PAIR, np.int64), span(models, _ROWS, np.int64), found, own
    )
    if actions:
        forest_at, scratch = models[_ACCEPTANCE], models[_ACCEPTANCE_SCRATCH]
        count = numbers[TOUCHED]
        score(forest_at, scratch, vector, found[:count], own[:count])
        said = array(forest_at, forest.ANSWER, scratch, np.float64)
        for i in range(actions):
            x = said[i] * scalars[1] + scalars[2]
            if x >= 0:
                out[at_acceptance + i] = 1.0 / (1.0 + exp(-x))
            else:
                e = exp(x)
                out[at_acceptance + i] = e / (1.0 + e)


@numba.njit(cache=True)
def _likeliest(chances: Floats, order: Integers, found: Floats) -> None:
    """List places and values of the highest few, equal ones as they stand in ``order``."""
    count = 0
    for i in range(order.shape[0]):
        one = order[i]
        at = min(count, LIKELY)
        while at > 0 and found[LIKELY + at - 1] < chances[one]:
            if at < LIKELY:
                found[at], found[LIKELY + at] = found[at - 1], found[LIKELY + at - 1]
            at -= 1
        if at < LIKELY:
            found[at], found[LIKELY + at] = one, chances[one]
            count += 1
