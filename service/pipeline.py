"""From what is known to an answer. Pure: the same inputs give the same bytes, anywhere, any time.

:meth:`Pipeline.weigh` goes as far as it gets without the store: features, facts, intents, filter
stages, ranks, and the draw. What it drew and has to be reserved is asked of the store, and
:meth:`Pipeline.settle` makes the answer of the replies. A replay does the same with logged inputs
and replies, so nothing here may look at a clock, a queue or chance by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple

import numpy as np

from features import journey, timeline
from features import profile as profiles
from features.elementary import Floats
from features.journey import Journey, Lens, Relationship
from features.plan import Context
from features.profile import Profile, Value
from features.record import EMPTY, NEVER, LogId, Records, interaction_hash
from rapport.v1 import decision_pb2 as pb
from service import exploration, facts
from service.arbitration import (
    HOLD_OUT,
    PROBABILITY_ONLY,
    RANDOM,
    Arbiter,
    Factors,
    Ranked,
    Reason,
    Scores,
    Situation,
)
from service.business import Business
from service.catalogue import ASSURANCE, Exploration, Placement, Price, Treatment
from service.causes import Cause, Filtered, Rows, rows_of, union
from service.chance import Chance
from service.checks import SKEW
from service.experiments import group_of
from service.exploration import Candidates, Drawn, Shape
from service.facts import Fact
from service.models import Models, Seen
from service.policies import Circumstances, Offers, Policies
from service.rooms import Room, Rooms, full
from service.rules import Answers
from service.store import Cap
from service.together import Steps, finished
from service.variables import Subject


class Question(NamedTuple):
    """What the caller asks; all names are declared and all numbers in range."""

    customer_id: str
    channel: str
    direction: int
    placements: Sequence[str]
    assurance: int = 1
    locale: str = ""
    utterance: str = ""
    context: Mapping[str, Value] = {}
    contact: Mapping[str, str] = {}  # agent_id, skill, queue
    interaction_id: str = ""
    max_actions: int | None = None
    as_of: int | None = None  # milliseconds
    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    hold_for: int | None = None  # milliseconds
    dry_run: bool = False
    seed: int | None = None

    @property
    def recorded(self) -> bool:
        """Whether anything of the decision is kept."""
        return self.as_of is None and not self.dry_run


class MemberKnown(NamedTuple):
    """State of the timeline of a customer who was merged into this one."""

    customer_id: str
    timeline_id: LogId


class Known(NamedTuple):
    """What the store told of the customer; None for what could not be read."""

    records: Records | None
    ledger: Records | None
    profile: Profile | None
    timeline_id: LogId = NEVER
    ledger_id: LogId = NEVER
    profile_id: LogId = NEVER
    members: Sequence[MemberKnown] = ()
    unread: Reason | None = None  # why nothing could be read in time; None: it could
    unreadable: Sequence[Reason] = ()  # parts that were read and made no sense


class Inputs(NamedTuple):
    """All that a decision depends on, configuration and models aside."""

    question: Question
    known: Known
    clock: int  # milliseconds
    seed: int
    unscored: Reason | None = None  # why the models may not score; None: they may
    prices: Mapping[str, float] = {}  # shadow prices by resource
    full_ceilings: frozenset[str] = frozenset()
    greedy: bool = False  # the server was told to leave nothing to chance


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


class Weighing(NamedTuple):
    """One placement: who could be shown, and what was drawn."""

    name: str
    offers: Offers
    causes: Sequence[Cause]  # that hold in this placement alone
    ranked: Ranked
    drawn: Drawn
    slots: int
    nothing: float  # priority that an action had to exceed


class Weighed(NamedTuple):
    """A decision up to the point where the store has to agree."""

    inputs: Inputs
    now: int
    rung: pb.Rung.ValueType
    group: str
    advisories: Sequence[Reason]
    intents: Sequence[tuple[str, float]]
    told: Sequence[Fact]
    situation: Situation
    results: Answers
    filtered: Filtered
    weighings: Sequence[Weighing]
    wants: Sequence[Want]
    models: Models | None
    vector: Floats | None
    seen: Seen | None  # what the acceptance model saw
    events: int  # of the timeline, that had happened
    rooms: Sequence[Room] = ()  # what shared limits left to the answer

    @property
    def causes(self) -> Sequence[Cause]:
        """What spoke against actions, whatever the placement."""
        return self.filtered.causes

    def saw(self, row: int) -> Floats | None:
        """What the acceptance model saw of an action: [names of the plan]; None: nothing."""
        return None if self.models is None or self.seen is None else self.models.row(self.seen, row)


class Shown(NamedTuple):
    """One action of an answer."""

    row: int
    treatment: Treatment
    template: pb.Recommendation  # what of it is the same in every answer
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


class Answer(NamedTuple):
    """A whole decision."""

    weighed: Weighed
    slates: Sequence[Slate]
    replies: Sequence[tuple[Want, Reply]]
    advisories: Sequence[Reason]


_RELATIONSHIPS: Final = {int(one): one.name for one in Relationship}


class _Scored(NamedTuple):
    rung: pb.Rung.ValueType
    intents: Sequence[tuple[str, float]] = ()
    scores: Scores = Scores()
    vector: Floats | None = None
    seen: Seen | None = None


class Pipeline:
    """Decides for one configuration.

    Args:
        business: Its conditions are checked.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.policies = Policies(business)
        self.rooms = Rooms(self.policies, business.vocabulary.channels)
        self.arbiter = Arbiter(business)
        self._lens = Lens.of(business.vocabulary, business.definitions.journey)
        self._groups = [action.group for action in business.actions]
        self._excludes = business.beside
        self._traits = business.traits

    def weigh(self, inputs: Inputs, models: Models | None) -> Weighed:
        """Go from what is known to what was drawn."""
        return finished(self.weighing(inputs, models))

    def weighing(self, inputs: Inputs, models: Models | None) -> Steps[Weighed]:
        """The same in steps, for :class:`service.together.Together`."""
        question = inputs.question
        advisories = [*inputs.known.unreadable]
        if inputs.known.unread is not None:
            advisories.append(inputs.known.unread)
        if inputs.known.records is not None and not len(inputs.known.records):
            text = "Never seen before: the answer comes from what is usual"
            advisories.append(Reason("NEW_CUSTOMER", text))
        if question.utterance:
            text = "The utterance was kept and not read: no text model is in charge"
            advisories.append(Reason("UTTERANCE_NOT_READ", text))
        now = _moment(inputs)
        known = _until(inputs.known, now)
        records = EMPTY if known.records is None else known.records
        # The bundle's own windows: what training saw is what the models get.
        lens = self._lens if models is None else models.plan.lens
        chain = None if known.records is None else journey.read(records, now, lens)
        yield
        scored = yield from self._score(models, inputs, known, records, chain, now, advisories)
        magnitudes = facts.magnitudes(chain)
        situation = Situation(
            question.channel, dict(scored.intents), magnitudes, now, self._segment(known.profile),
            inputs.prices,
        )  # fmt: skip
        results = self._conditions(question, known.profile, situation, scored.intents)
        yield
        group = group_of(question.customer_id, self.business.policies.control)
        at = Circumstances(
            question.channel,
            question.direction,
            question.assurance,
            now,
            known.profile,
            known.ledger,
            results,
            inputs.full_ceilings,
            question.allow,
            question.block,
            interaction_hash(question.interaction_id),
            self.policies.counted(known.ledger, now),
        )
        filtered = self.policies.filtered(at)
        rooms = self.rooms.of(at, sum(self._slots(question, name) for name in question.placements))
        yield
        weighings = self._weigh_placements(
            inputs, scored, situation, filtered.dropped, group, rooms
        )
        yield
        told = (
            []
            if chain is None
            else facts.tell(records, chain, now, self.business.vocabulary, scored.intents)
        )
        wants = list(self._wants(question, weighings))
        return Weighed(
            inputs, now, scored.rung, group, advisories, scored.intents, told, situation, results,
            filtered, weighings, wants, models, scored.vector, scored.seen,
            len(records), rooms,
        )  # fmt: skip

    def _conditions(
        self,
        question: Question,
        profile: Profile | None,
        situation: Situation,
        intents: Sequence[tuple[str, float]],
    ) -> Answers:
        """Evaluate every condition of the configuration."""
        return self.policies.conditions.of(
            Subject(
                profile,
                question.context,
                question.contact,
                question.locale,
                question.channel,
                question.direction,
                question.assurance,
                situation.now,
                situation.facts,
                intents,
                situation.intents,
            )
        )

    def _score(
        self,
        models: Models | None,
        inputs: Inputs,
        known: Known,
        records: Records,
        chain: Journey | None,
        now: int,
        advisories: list[Reason],
    ) -> Steps[_Scored]:
        """Score intents and actions, on the highest rung that there is time and data for."""
        if inputs.unscored is not None:
            advisories.append(inputs.unscored)
            out_of_time = inputs.unscored.code == "OUT_OF_TIME"
            return _Scored(pb.RUNG_DEFAULTS if out_of_time else pb.RUNG_WITHOUT_MODELS)
        if models is None:
            advisories.append(Reason("NO_MODEL", "No bundle is active: priors rank the actions"))
            return _Scored(pb.RUNG_WITHOUT_MODELS)
        question = inputs.question
        context = Context(
            self.business.vocabulary.channels[question.channel],
            question.direction,
            question.context,
        )
        vector = models.customer(records, known.profile or profiles.EMPTY, context, now, chain)
        yield
        intents = models.named(models.intents(vector)) if models.scores_intents else []
        yield
        seen = acceptance = uplift = None
        if models.scores_acceptance:
            seen = models.seen(vector, records, now)
            acceptance = models.acceptance(seen)
            if self.arbiter.ranks_by_uplift and models.scores_uplift:
                uplift = models.uplift(seen)
        yield
        rung = pb.RUNG_WITHOUT_TIMELINE if known.records is None else pb.RUNG_FULL
        return _Scored(rung, intents, Scores(acceptance, models.evidence, uplift), vector, seen)

    def _segment(self, profile: Profile | None) -> str:
        by = self.business.policies.segment_by
        told = None if by is None or profile is None else profile.attributes.get(by)
        return told.value if told is not None and isinstance(told.value, str) else ""

    def _weigh_placements(
        self,
        inputs: Inputs,
        scored: _Scored,
        situation: Situation,
        dropped: Rows,
        group: str,
        rooms: Sequence[Room],
    ) -> list[Weighing]:
        """Rank and draw, placement by placement; no action twice in an answer."""
        question = inputs.question
        relationship = _RELATIONSHIPS[int(situation.facts.get("relationship", 0))]
        chance = Chance(inputs.seed)
        taken: Rows = 0
        weighings = []
        for name in question.placements:
            placement = self.business.placements[name]
            offers = self.policies.offers(name, question.channel, question.locale, relationship)
            local = list(self._local(name, placement, offers, question, scored.rung))
            rows = offers.actions & ~(dropped | union(local))
            ranked = self.arbiter.rank(rows, scored.scores, situation, group)
            slots = self._slots(question, name)
            # A probability cannot be compared with what doing nothing is worth in money.
            nothing = 0.0 if group == PROBABILITY_ONLY else placement.nothing
            drawn = exploration.draw(
                Candidates(ranked.rows, ranked.priority, self._traits),
                Shape(slots, placement.per_group, nothing, taken, rooms),
                _left_to_chance(placement, inputs, scored.rung, group),
                chance,
                held_out=group == HOLD_OUT,
            )
            taken |= rows_of(int(ranked.rows[slot.place]) for slot in drawn.slots)
            weighings.append(Weighing(name, offers, local, ranked, drawn, slots, nothing))
        return weighings

    def _slots(self, question: Question, placement: str) -> int:
        return question.max_actions or self.business.placements[placement].max_actions

    def _local(
        self,
        name: str,
        placement: Placement,
        offers: Offers,
        question: Question,
        rung: pb.Rung.ValueType,
    ) -> Iterable[Cause]:
        """What speaks against actions in this placement alone."""
        everything = (1 << len(self.business.actions)) - 1
        if rung == pb.RUNG_DEFAULTS:
            rows = self.business.rows
            others = everything & ~rows_of(rows[default] for default in placement.defaults)
            text = f"There was no time for more than the defaults of {name}"
            yield Cause(pb.STAGE_ELIGIBILITY, "NO_DEFAULT", text, others)
        if without := everything & ~offers.actions:
            text = f"Has no treatment for {name} on {question.channel}"
            yield Cause(pb.STAGE_ELIGIBILITY, "NO_TREATMENT", text, without)
        if question.assurance < ASSURANCE[placement.assurance]:
            text = f"{name} needs a caller who is {placement.assurance}"
            yield Cause(
                pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW", text, everything, placement.assurance
            )

    def _wants(self, question: Question, weighings: Sequence[Weighing]) -> Iterable[Want]:
        """What has to be reserved of what was drawn."""
        if not question.recorded:
            return
        for weighing in weighings:
            for slot in weighing.drawn.slots:
                row = int(weighing.ranked.rows[slot.place])
                caps = self.policies.caps(row, question.channel)
                ceilings = self.policies.ceilings(row)
                if caps or ceilings:
                    yield Want(weighing.name, row, slot.probability, caps, ceilings)

    def settle(self, weighed: Weighed, replies: Sequence[Reply]) -> Answer:
        """Make the answer of what was drawn, and of what the store said of each want, in order."""
        refused = {
            (want.placement, want.row): reply.refused
            for want, reply in zip(weighed.wants, replies, strict=True)
            if reply.refused
        }
        advisories = [*weighed.advisories]
        drawn_of = {
            weighing.name: [int(weighing.ranked.rows[slot.place]) for slot in weighing.drawn.slots]
            for weighing in weighed.weighings
        }
        shown = {row for rows in drawn_of.values() for row in rows}
        standing = rows_of(
            row for name, rows in drawn_of.items() for row in rows if (name, row) not in refused
        )
        # Another decision took the last place of one of these; the store does not say of which.
        spent = {
            cap
            for want, reply in zip(weighed.wants, replies, strict=True)
            if reply.refused == "CAPPED"
            for cap in want.caps
        }
        slates = []
        for weighing in weighed.weighings:
            taken: list[Shown] = []
            groups = Counter(
                self._groups[row]
                for row in drawn_of[weighing.name]
                if (weighing.name, row) not in refused
            )
            for slot in weighing.drawn.slots:
                row = int(weighing.ranked.rows[slot.place])
                if (weighing.name, row) not in refused:
                    taken.append(self._shown(weighed, weighing, row, slot.place, slot.probability))
                    continue
                fallback = self._fallback(weighed, weighing, shown, standing, groups, spent)
                text = f"{self.business.actions[row].name} could not be reserved any more"
                advisories.append(Reason("RESERVATION_FAILED", text))
                if fallback is not None:
                    shown.add(fallback)
                    standing |= 1 << fallback
                    groups[self._groups[fallback]] += 1
                    place = int(np.flatnonzero(weighing.ranked.rows == fallback)[0])
                    taken.append(
                        self._shown(weighed, weighing, fallback, place, slot.probability, row)
                    )
            drawn = weighing.drawn
            slates.append(Slate(weighing.name, taken, drawn.held_back, drawn.probability))
            if drawn.held_back:
                text = f"Chance left {weighing.name} empty, to learn what happens without it"
                advisories.append(Reason("HELD_BACK", text))
            elif weighed.group == HOLD_OUT:
                if weighing is weighed.weighings[0]:
                    text = "The customer belongs to a control group that gets nothing"
                    advisories.append(Reason("HELD_OUT", text))
            elif not taken:
                text = f"No action qualified for {weighing.name}; include_trace says why"
                advisories.append(Reason("NOTHING_QUALIFIED", text))
        answered = list(zip(weighed.wants, replies, strict=True))
        return Answer(weighed, slates, answered, advisories)

    def _shown(
        self,
        weighed: Weighed,
        weighing: Weighing,
        row: int,
        place: int,
        probability: float,
        instead_of: int | None = None,
    ) -> Shown:
        action = self.business.actions[row]
        treatment, template = weighing.offers.treatments[row], weighing.offers.templates[row]
        assert treatment is not None  # noqa: S101  only offers are drawn
        assert template is not None  # noqa: S101
        factors = weighing.ranked.factors(place)
        reasons = self.arbiter.reasons(action, factors, weighed.situation)
        if instead_of is not None:
            drawn = self.business.actions[instead_of].name
            reasons = [Reason("FALLBACK", f"{drawn} could not be reserved"), *reasons]
        price = self.policies.price(row, weighed.results)
        return Shown(row, treatment, template, factors, reasons, probability, price, instead_of)

    def _fallback(
        self,
        weighed: Weighed,
        weighing: Weighing,
        shown: set[int],
        standing: Rows,
        groups: Mapping[str, int],
        spent: Set[Cap],
    ) -> int | None:
        """The first default of the placement that may stand beside what is in the answer.

        Args:
            weighed: The decision.
            weighing: Whose default it is.
            shown: Rows that were drawn, or are fallbacks already.
            standing: Rows that the answer shows.
            groups: How many of each group the placement shows.
            spent: Limits that may have no place left after all.
        """
        dropped = weighed.filtered.dropped | union(weighing.causes)
        dropped |= full(weighed.rooms, standing)
        channel = weighed.inputs.question.channel
        placement = self.business.placements[weighing.name]
        for name in placement.defaults:
            row = self.business.rows[name]
            if (
                row not in shown
                and not dropped >> row & 1
                and not self._excludes[row] & standing
                and groups.get(self._groups[row], 0) < placement.per_group
                and spent.isdisjoint(self.policies.caps(row, channel))
            ):
                return row
        return None


def _left_to_chance(
    placement: Placement, inputs: Inputs, rung: pb.Rung.ValueType, group: str
) -> Exploration:
    """How much a placement leaves to chance this time.

    Nothing on the lowest rung, where there was no time to weigh anything.
    """
    if inputs.greedy or rung == pb.RUNG_DEFAULTS:
        return exploration.GREEDY
    if group == RANDOM:
        return exploration.UNIFORM
    return exploration.GREEDY if group else placement.exploration


def _moment(inputs: Inputs) -> int:
    """The moment of the decision: never before an event that a faster clock has dated."""
    if inputs.question.as_of is not None:
        return inputs.question.as_of
    now, known = inputs.clock, inputs.known
    if known.records is not None and len(known.records):
        now = max(now, known.records["occurred_at"].item(-1))
    told = 0 if known.profile is None else known.profile.newest
    return told if now < told <= now + SKEW else now


def _until(known: Known, now: int) -> Known:
    """What was known of the customer that had happened by ``now``."""
    records = None if known.records is None else timeline.as_of(known.records, now)
    ledger = None if known.ledger is None else timeline.as_of(known.ledger, now)
    profile = None if known.profile is None else known.profile.as_of(now)
    if records is known.records and ledger is known.ledger and profile is known.profile:
        return known
    return known._replace(records=records, ledger=ledger, profile=profile)
