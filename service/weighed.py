"""A decision up to the point where the store has to agree. Pure.

What an answer needs is there; what only the log, Explain or an audit needs is made when it is asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from features.elementary import Floats
from rapport.v1 import decision_pb2 as pb
from service import facts
from service.causes import Cause, Filtered
from service.choice import Choice, Chosen, Placing
from service.circumstances import Circumstances
from service.exploration import Drawn, Slot
from service.factors import Ranked
from service.facts import Fact
from service.inputs import Inputs
from service.models import Models
from service.offers import Offers
from service.placing import CHANCE_OF_SLOT, FILLED, HELD_BACK, PLACED, PROBABILITY, SLOT
from service.policies import Policies
from service.reasons import Reason
from service.rooms import Room
from service.rules import Answers
from service.sight import Seen, Sight
from service.situation import Situation
from service.standing import Standing
from service.store import Cap


class Want(NamedTuple):
    """A drawn action that has to be reserved before it is shown."""

    placement: str
    row: int
    probability: float  # of having been drawn for its slot
    caps: Sequence[Cap]
    ceilings: Sequence[str]


class Reply(NamedTuple):
    """What became of a want; ``refused`` says why, and is empty where it was granted."""

    refused: str = ""


class Weighing:
    """One placement: who could be shown, and what was drawn.

    Args:
        choice: That was made.
        number: Of the placement among those of the request.
        placing: What it asked for.

    Attributes:
        rows: That were drawn, in the order to show them.
    """

    __slots__ = ("_chosen", "_drawn", "choice", "number", "placing", "rows")

    def __init__(self, choice: Choice, number: int, placing: Placing) -> None:
        self.choice, self.number, self.placing = choice, number, placing
        self._drawn = drawn = choice.drawn(number)
        last = PLACED + SLOT * int(drawn[FILLED])
        self.rows = [int(drawn[at]) for at in range(PLACED, last, SLOT)]
        self._chosen: list[Chosen] | None = None

    @property
    def chosen(self) -> list[Chosen]:
        """What was drawn, with the numbers that ranked it."""
        if self._chosen is None:
            self._chosen = self.choice.chosen(self._drawn)
        return self._chosen

    @property
    def chances(self) -> list[float]:
        """Probability of each row, given those before it."""
        return self._drawn[PLACED + CHANCE_OF_SLOT :: SLOT]

    @property
    def held_back(self) -> bool:
        """Whether chance left it empty."""
        return self._drawn[HELD_BACK] > 0

    @property
    def probability(self) -> float:
        """Of the whole slate, the hold-back included."""
        return self._drawn[PROBABILITY]

    @property
    def name(self) -> str:
        """Of the placement."""
        return self.placing.name

    @property
    def offers(self) -> Offers:
        """What the placement could show."""
        return self.placing.offers

    @property
    def causes(self) -> Sequence[Cause]:
        """What holds in this placement alone."""
        return self.placing.causes

    @property
    def slots(self) -> int:
        """Actions that it takes."""
        return self.placing.slots

    @property
    def nothing(self) -> float:
        """Priority that an action had to exceed."""
        return self.placing.nothing

    @property
    def ranked(self) -> Ranked:
        """All candidates with their numbers, best first."""
        return self.choice.ranked(self.number)

    @property
    def fates(self) -> bytes:
        """What became of each candidate, as codes of :class:`service.exploration.Fate`."""
        return self.choice.fates(self.number)

    @property
    def drawn(self) -> Drawn:
        """The slate as it was drawn, with what became of everybody."""
        slots = [Slot(one.place, one.probability) for one in self.chosen]
        return Drawn(slots, self.held_back, self.probability, self.fates)


class Weighed(NamedTuple):
    """A decision up to the point where the store has to agree."""

    inputs: Inputs
    now: int
    rung: pb.Rung.ValueType
    group: str
    advisories: Sequence[Reason]
    segment: str
    chain_known: bool
    weighings: Sequence[Weighing]
    wants: Sequence[Want]
    models: Models | None
    sight: Sight
    choice: Choice
    policies: Policies
    at: Circumstances  # without what was counted and answered
    standing: Standing
    reasons: Sequence[str]  # why something that rules ask for is not known
    filter: Filtered | None = None  # None: as the policies have it
    events: int = 0  # of the timeline, that had happened

    @property
    def intents(self) -> Sequence[tuple[str, float]]:
        """The likeliest, likeliest first."""
        return self.sight.likeliest

    @property
    def told(self) -> Sequence[Fact]:
        """What the chain of events shows; nothing where it could not be read."""
        if not self.chain_known:
            return []
        vocabulary = self.policies.business.vocabulary
        return facts.tell(self.sight.journey, self.now, vocabulary, self.intents)

    @property
    def rooms(self) -> Sequence[Room]:
        """What limits that several actions share left to the answer."""
        return self.choice.rooms

    @property
    def situation(self) -> Situation:
        """What context weights look at."""
        told = self.sight.facts if self.chain_known else None
        return Situation(
            self.inputs.question.channel, self.sight.chances, facts.magnitudes(told), self.now,
            self.segment, self.inputs.prices,
        )  # fmt: skip

    @property
    def results(self) -> Answers:
        """What every condition of the configuration says."""
        return self.choice.answers(self.reasons)

    @property
    def filtered(self) -> Filtered:
        """What spoke against actions, whatever the placement."""
        if self.filter is not None:
            return self.filter
        choice, at = self.choice, self.at
        if choice.limited or choice.ruled:
            at = at._replace(results=self.results, counts=choice.counts)
        return self.policies.explained(
            at, self.standing, limited=choice.limited, dropped=choice.dropped
        )

    @property
    def causes(self) -> Sequence[Cause]:
        """The same, cause by cause."""
        return self.filtered.causes

    @property
    def vector(self) -> Floats | None:
        """What the models saw of the customer; None: nothing."""
        return self.sight.vector if self.sight.scored and self.models is not None else None

    @property
    def seen(self) -> Seen | None:
        """What the acceptance model saw; None: nothing."""
        sight = self.sight
        if self.models is None or not sight.scored or not sight.layout.actions:
            return None
        return sight.seen

    def saw(self, row: int) -> Floats | None:
        """What the acceptance model saw of an action: [names of the plan]; None: nothing."""
        seen = self.seen
        return None if self.models is None or seen is None else self.models.row(seen, row)
