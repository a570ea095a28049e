"""From what is known to an answer. Pure: the same inputs give the same bytes, anywhere, any time.

:meth:`Pipeline.weigh` goes as far as it gets without the store: features, facts, intents, filter
stages, ranks, and the draw. What it drew and has to be reserved is asked of the store, and
:meth:`Pipeline.settle` makes the answer of the replies. A replay does the same with logged inputs
and replies, so nothing here may look at a clock, a queue or chance by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final

import numpy as np

from features import journey, timeline
from features import profile as profiles
from features.journey import Lens, Relationship
from features.plan import Context
from features.profile import Profile
from features.record import EMPTY, Records, interaction_hash
from rapport.v1 import decision_pb2 as pb
from service import exploration, facts, sight
from service.arbitration import HOLD_OUT, PROBABILITY_ONLY, RANDOM, Arbiter
from service.business import Business
from service.caps import Caps
from service.catalogue import ASSURANCE, Exploration, Placement
from service.causes import Cause, rows_of, union
from service.checks import SKEW
from service.choice import Chosen, Placing, Placings
from service.chooser import Chooser, Choosing
from service.circumstances import Circumstances
from service.experiments import group_of
from service.fallbacks import Fallbacks
from service.inputs import Inputs, Known, Question
from service.models import Models
from service.offers import Offering, Offers
from service.policies import Policies
from service.reasons import Reason, Reasons
from service.rules import Answers
from service.sight import Sight
from service.situation import Situation
from service.slates import Answer, Shown, Slate
from service.together import Steps, finished
from service.variables import Subject
from service.weighed import Reply, Want, Weighed, Weighing

_RELATIONSHIPS: Final = [one.name for one in sorted(Relationship)]
_PLACINGS: Final = 10_000  # as many ways to ask are kept
_UNASKED: Final = Answers(b"", 0, ())


class Pipeline:
    """Decides for one configuration.

    Args:
        business: Its conditions are checked.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.policies = Policies(business)
        self.offering = Offering(business)
        self._caps = Caps(business, self.policies.limits)
        self.arbiter = Arbiter(business)
        self.reasons = Reasons(business)
        self._lens = Lens.of(business.vocabulary, business.definitions.journey)
        self.lay_out()

    def lay_out(self) -> None:
        """Lay out policies and arbiter for the kernels; again whenever one was changed."""
        self._chooser = Chooser(self.policies, self.arbiter, self.business)
        self._placings: dict[tuple[object, ...], Placings] = {}
        self._holds = {
            channel: [
                (self._caps.of(row, channel), self._caps.ceilings(row))
                for row in range(len(self.business.actions))
            ]
            for channel in self.business.vocabulary.channels
        }

    def weigh(self, inputs: Inputs, models: Models | None) -> Weighed:
        """Go from what is known to what was drawn."""
        return finished(self.weighing(inputs, models))

    def weighing(self, inputs: Inputs, models: Models | None) -> Steps[Weighed]:
        """The same in steps, for :class:`service.together.Together`."""
        question, given = inputs.question, inputs.known
        advisories = [*given.unreadable]
        if given.unread is not None:
            advisories.append(given.unread)
        if given.records is not None and not len(given.records):
            text = "Never seen before: the answer comes from what is usual"
            advisories.append(Reason("NEW_CUSTOMER", text))
        if question.utterance:
            text = "The utterance was kept and not read: no text model is in charge"
            advisories.append(Reason("UTTERANCE_NOT_READ", text))
        now, known = _as_of(inputs)
        records = EMPTY if known.records is None else known.records
        rung, seen = self._look(models, inputs, known, records, now, advisories)
        yield False
        if (
            models is not None and seen.layout.actions
            and self.arbiter.ranks_by_uplift and models.scores_uplift
        ):  # fmt: skip
            seen.uplift = models.uplift(seen.seen)
        chain_known = known.records is not None
        at = Circumstances(
            question.channel,
            question.direction,
            question.assurance,
            now,
            known.profile,
            known.ledger,
            _UNASKED,
            inputs.full_ceilings,
            question.allow,
            question.block,
            interaction_hash(question.interaction_id) if question.interaction_id else 0,
        )
        reasons = self._load(question, at, seen, chain_known)
        standing = self.policies.standing.of(at)
        filtered = self.policies.instead(
            at,
            lambda: self.policies.conditions.of(self._subject(question, at, seen, chain_known)),
        )
        group = group_of(question.customer_id, self.business.policies.control)
        segment = self._segment(known.profile)
        placings = self._asked_for(inputs, seen if chain_known else None, rung, group)
        choice = self._chooser.choose(
            Choosing(
                placings, standing.words, None if filtered is None else filtered.dropped,
                known.ledger, now, question.channel, at.interaction, inputs.seed, segment,
                inputs.prices, group, chain_known,
            ),
            seen,
            None if models is None or not seen.scored else models.evidence,
        )  # fmt: skip
        weighings = [
            Weighing(choice, number, placing) for number, placing in enumerate(placings.each)
        ]
        yield False
        wants = list(self._wants(question, weighings)) if question.recorded else []
        return Weighed(
            inputs, now, rung, group, advisories, segment, chain_known, weighings, wants, models,
            seen, choice, self.policies, at, standing, reasons, filtered, len(records),
        )  # fmt: skip

    def _look(
        self,
        models: Models | None,
        inputs: Inputs,
        known: Known,
        records: Records,
        now: int,
        advisories: list[Reason],
    ) -> tuple[pb.Rung.ValueType, Sight]:
        """See the customer, on the highest rung that there is time and data for."""
        # The bundle's own windows: what training saw is what the models get.
        lens = self._lens if models is None else models.plan.lens
        if inputs.unscored is not None:
            advisories.append(inputs.unscored)
            out_of_time = inputs.unscored.code == "OUT_OF_TIME"
            rung = pb.RUNG_DEFAULTS if out_of_time else pb.RUNG_WITHOUT_MODELS
            return rung, sight.unscored(records, now, lens)
        if models is None:
            advisories.append(Reason("NO_MODEL", "No bundle is active: priors rank the actions"))
            return pb.RUNG_WITHOUT_MODELS, sight.unscored(records, now, lens)
        question = inputs.question
        channel = self.business.vocabulary.channels[question.channel]
        context = Context(channel, question.direction, question.context)
        rung = pb.RUNG_WITHOUT_TIMELINE if known.records is None else pb.RUNG_FULL
        return rung, models.look(records, known.profile or profiles.EMPTY, context, now)

    def _load(
        self, question: Question, at: Circumstances, seen: Sight, chain_known: bool
    ) -> Sequence[str]:
        """Load what rules read beside the events; gives why something is not known."""
        return self.policies.conditions.load(
            self._contact(question, at),
            lambda: self._subject(question, at, seen, chain_known),
        )

    def _contact(self, question: Question, at: Circumstances) -> Subject:
        """Whom and what conditions are about, what was seen of the customer aside."""
        return Subject(
            at.profile, question.context, question.contact, question.locale, at.channel,
            at.direction, at.assurance, at.now, {}, (), {},
        )  # fmt: skip

    def _subject(
        self, question: Question, at: Circumstances, seen: Sight, chain_known: bool
    ) -> Subject:
        magnitudes = facts.magnitudes(seen.facts if chain_known else None)
        return self._contact(question, at)._replace(
            facts=magnitudes, intents=seen.intents, chances=seen.chances
        )

    def _segment(self, profile: Profile | None) -> str:
        by = self.business.policies.segment_by
        told = None if by is None or profile is None else profile.attributes.get(by)
        return told.value if told is not None and isinstance(told.value, str) else ""

    def _asked_for(
        self, inputs: Inputs, seen: Sight | None, rung: pb.Rung.ValueType, group: str
    ) -> Placings:
        """What the placements ask for. No action stands twice in an answer."""
        question = inputs.question
        at = 0 if seen is None else int(seen.block.item(journey.RELATIONSHIP))
        same = (
            *question.placements, question.channel, question.locale, at, question.assurance,
            question.max_actions, rung == pb.RUNG_DEFAULTS, group, inputs.greedy,
        )  # fmt: skip
        found = self._placings.get(same)
        if found is None:
            tone = _RELATIONSHIPS[at]
            found = self._chooser.placings(
                [self._placing(name, inputs, tone, rung, group) for name in question.placements]
            )
            if len(self._placings) >= _PLACINGS:
                self._placings.clear()
            self._placings[same] = found
        return found

    def _placing(
        self, name: str, inputs: Inputs, relationship: str, rung: pb.Rung.ValueType, group: str
    ) -> Placing:
        question, placement = inputs.question, self.business.placements[name]
        offers = self.offering.of(name, question.channel, question.locale, relationship)
        local = list(self._local(name, placement, offers, question, rung))
        return self._chooser.placing(
            name,
            offers,
            local,
            offers.actions & ~union(local),
            question.max_actions or placement.max_actions,
            placement.per_group,
            # A probability cannot be compared with what doing nothing is worth in money.
            0.0 if group == PROBABILITY_ONLY else placement.nothing,
            _left_to_chance(placement, inputs, rung, group),
        )

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
        holds = self._holds[question.channel]
        for weighing in weighings:
            for row, probability in zip(weighing.rows, weighing.chances, strict=False):
                caps, ceilings = holds[row]
                if caps or ceilings:
                    yield Want(weighing.name, row, probability, caps, ceilings)

    def settle(self, weighed: Weighed, replies: Sequence[Reply]) -> Answer:
        """Make the answer of what was drawn, and of what the store said of each want, in order."""
        advisories = [*weighed.advisories]
        answered, refused, fallbacks = [], set[tuple[str, int]](), None
        if weighed.wants or replies:  # nothing has to be reserved of most
            answered = list(zip(weighed.wants, replies, strict=True))
            refused = {(want.placement, want.row) for want, reply in answered if reply.refused}
            if refused:
                fallbacks = Fallbacks(self.business, self._caps, weighed, answered)
        slates = []
        for weighing in weighed.weighings:
            filled = len(weighing.rows)
            if fallbacks is not None:
                taken = self._instead(weighed, weighing, refused, fallbacks, advisories)
                slates.append(_slate(weighing, taken))
                filled = len(taken)
            if weighing.held_back:
                text = f"Chance left {weighing.name} empty, to learn what happens without it"
                advisories.append(Reason("HELD_BACK", text))
            elif weighed.group == HOLD_OUT:
                if weighing is weighed.weighings[0]:
                    text = "The customer belongs to a control group that gets nothing"
                    advisories.append(Reason("HELD_OUT", text))
            elif not filled:
                text = f"No action qualified for {weighing.name}; include_trace says why"
                advisories.append(Reason("NOTHING_QUALIFIED", text))
        return Answer(weighed, slates if refused else self._as_drawn, answered, advisories)

    def _as_drawn(self, weighed: Weighed) -> list[Slate]:
        """What was drawn, with reasons and prices."""
        situation, results = weighed.situation, weighed.results
        return [
            _slate(one, [self._shown(one, chosen, situation, results) for chosen in one.chosen])
            for one in weighed.weighings
        ]

    def _instead(
        self,
        weighed: Weighed,
        weighing: Weighing,
        refused: Set[tuple[str, int]],
        fallbacks: Fallbacks,
        advisories: list[Reason],
    ) -> list[Shown]:
        """What was drawn, with defaults in the place of what could not be reserved."""
        situation, results = weighed.situation, weighed.results
        taken: list[Shown] = []
        for one in weighing.chosen:
            if (weighing.name, one.row) not in refused:
                taken.append(self._shown(weighing, one, situation, results))
                continue
            text = f"{self.business.actions[one.row].name} could not be reserved any more"
            advisories.append(Reason("RESERVATION_FAILED", text))
            row = fallbacks.take(weighing)
            if row is not None:
                place = int(np.flatnonzero(weighing.ranked.rows == row)[0])
                instead = Chosen(row, place, one.probability, weighing.ranked.factors(place))
                taken.append(self._shown(weighing, instead, situation, results, one.row))
        return taken

    def _shown(
        self,
        weighing: Weighing,
        one: Chosen,
        situation: Situation,
        results: Answers,
        instead_of: int | None = None,
    ) -> Shown:
        row, offers = one.row, weighing.offers
        treatment = offers.treatments[row]
        assert treatment is not None  # noqa: S101  only offers are drawn
        reasons = self.reasons.of(self.business.actions[row], one.factors, situation)
        if instead_of is not None:
            drawn = self.business.actions[instead_of].name
            reasons = [Reason("FALLBACK", f"{drawn} could not be reserved"), *reasons]
        price = self.policies.conditions.price(row, results)
        return Shown(row, treatment, one.factors, reasons, one.probability, price, instead_of)


def _slate(weighing: Weighing, shown: Sequence[Shown]) -> Slate:
    return Slate(weighing.name, shown, weighing.held_back, weighing.probability)


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


def _as_of(inputs: Inputs) -> tuple[int, Known]:
    """The moment of the decision, and what was known of the customer that had happened by then.

    The moment is never before an event that a faster clock has dated.
    """
    known, moment = inputs.known, inputs.question.as_of
    happened, told = _last(known.records), 0 if known.profile is None else known.profile.newest
    if moment is None:
        moment = max(inputs.clock, happened)
        if moment < told <= moment + SKEW:
            moment = told
    if happened <= moment and told <= moment and _last(known.ledger) <= moment:
        return moment, known
    return moment, known._replace(
        records=None if known.records is None else timeline.as_of(known.records, moment),
        ledger=None if known.ledger is None else timeline.as_of(known.ledger, moment),
        profile=None if known.profile is None else known.profile.as_of(moment),
    )


def _last(records: Records | None) -> int:
    """When the last of some records happened; 0: there is none."""
    if records is None or not len(records):
        return 0
    moment: int = records["occurred_at"].item(-1)
    return moment
