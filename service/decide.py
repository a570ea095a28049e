"""Decide: from a customer's chain of events to the next best actions. Read :meth:`Decider.decide`.

The pipeline knows a store, models and a configuration, and neither gRPC nor redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from features import journey, timeline
from features import profile as profiles
from features.elementary import Floats
from features.journey import Journey, Lens
from features.plan import Context
from features.profile import Profile, Value
from features.record import EMPTY, NEVER, LogId, Records, decode
from rapport.v1 import decision_pb2 as pb
from service import arbitration, facts
from service.arbitration import Factors, Ranked, Reason, Situation
from service.budget import Budget, Cost
from service.business import Business
from service.catalogue import ASSURANCE
from service.checks import SKEW
from service.errors import StoreUnavailable
from service.facts import Fact
from service.models import Models
from service.policies import Drop, Offer, Policies
from service.store import Snapshot, Store

T = TypeVar("T")


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
    max_actions: int | None = None
    as_of: int | None = None  # milliseconds
    unread: Reason | None = None  # why nothing of the customer can be read; None: it can


class Known(NamedTuple):
    """What the store told of the customer; None for what could not be read."""

    records: Records | None
    ledger: Records | None
    profile: Profile | None
    timeline_id: LogId = NEVER
    ledger_id: LogId = NEVER
    profile_id: LogId = NEVER


class Seen(NamedTuple):
    """One action's way through the filters, for the trace."""

    action: str
    placement: str
    drop: Drop | None
    factors: Factors | None = None
    rank: int = 0


class Slate(NamedTuple):
    """The answer for one placement."""

    placement: str
    chosen: Sequence[Ranked]


class Answer(NamedTuple):
    """A whole decision."""

    now: int
    rung: pb.Rung.ValueType
    advisories: Sequence[Reason]
    intents: Sequence[tuple[str, float]]
    facts: Sequence[Fact]
    slates: Sequence[Slate]
    trace: Sequence[Seen]
    known: Known
    models: Models | None
    vector: Floats | None
    rows: Mapping[str, Floats]  # what the acceptance model saw of the actions in the answer


class _Scores(NamedTuple):
    rung: pb.Rung.ValueType
    intents: Sequence[tuple[str, float]] = ()
    acceptance: Mapping[str, float] = {}
    vector: Floats | None = None
    rows: Floats | None = None


class Decider:
    """Answers questions for one configuration."""

    def __init__(
        self,
        business: Business,
        store: Store,
        models: Callable[[], Models | None],
        clock: Callable[[], int],
    ) -> None:
        self.business = business
        self._store = store
        self._models = models
        self._clock = clock
        self._policies = Policies(business)
        self._lens = Lens.of(business.vocabulary, business.definitions.journey)
        self._order = {action.name: row for row, action in enumerate(business.actions)}
        self._scoring = Cost(0.005)

    async def decide(self, question: Question, budget: Budget) -> Answer:
        """Answer a question inside its budget, with whatever could be known in time."""
        models = self._models()
        known, advisories = await self._load(question, budget)
        if question.utterance:
            text = "The utterance was kept and not read: no text model is in charge"
            advisories.append(Reason("UTTERANCE_NOT_READ", text))
        now = self._now(question, known)
        known = _until(known, now)
        records = EMPTY if known.records is None else known.records
        # The bundle's own windows: what training saw is what the models get.
        lens = self._lens if models is None else models.plan.lens
        chain = None if known.records is None else journey.read(records, now, lens)
        scores = self._score(models, question, known, records, chain, now, budget, advisories)
        situation = Situation(question.channel, dict(scores.intents), facts.magnitudes(chain), now)
        slates, trace = self._arbitrate(question, known, situation, scores)
        for slate in slates:
            if not slate.chosen:
                text = f"No action qualified for {slate.placement}; include_trace says why"
                advisories.append(Reason("NOTHING_QUALIFIED", text))
        told = (
            []
            if chain is None
            else facts.tell(records, chain, now, self.business.vocabulary, scores.intents)
        )
        return Answer(
            now, scores.rung, advisories, scores.intents, told, slates, trace, known, models,
            scores.vector, self._rows_shown(scores, slates),
        )  # fmt: skip

    async def _load(self, question: Question, budget: Budget) -> tuple[Known, list[Reason]]:
        """Read the customer; go on without what comes late, and say so."""
        nothing = Known(None, None, None)
        if question.unread is not None:
            return nothing, [question.unread]
        snapshot = await in_time(self._store.read(question.customer_id), budget.read)
        if isinstance(snapshot, Reason):
            return nothing, [snapshot]
        known, advisories = _decoded(snapshot)
        if known.records is not None and not len(known.records):
            text = "Never seen before: the answer comes from what is usual"
            advisories.append(Reason("NEW_CUSTOMER", text))
        return known, advisories

    def _now(self, question: Question, known: Known) -> int:
        """The moment of the decision: never before an event that a faster clock has dated."""
        if question.as_of is not None:
            return question.as_of
        now = self._clock()
        if known.records is not None and len(known.records):
            now = max(now, int(known.records[-1]["occurred_at"]))
        told = 0 if known.profile is None else known.profile.newest
        return told if now < told <= now + SKEW else now

    def _score(
        self,
        models: Models | None,
        question: Question,
        known: Known,
        records: Records,
        chain: Journey | None,
        now: int,
        budget: Budget,
        advisories: list[Reason],
    ) -> _Scores:
        """Score intents and actions, on the highest rung that there is time and data for."""
        if budget.left <= 0:
            advisories.append(Reason("OUT_OF_TIME", "No time was left to compute anything"))
            return _Scores(pb.RUNG_DEFAULTS)
        if models is None:
            advisories.append(Reason("NO_MODEL", "No bundle is active: priors rank the actions"))
            return _Scores(pb.RUNG_WITHOUT_MODELS)
        if not self._scoring.fits(budget):
            advisories.append(Reason("MODELS_SKIPPED", "No time was left for the models"))
            return _Scores(pb.RUNG_WITHOUT_MODELS)
        start = time.perf_counter()
        context = Context(
            self.business.vocabulary.channels[question.channel],
            question.direction,
            question.context,
        )
        profile = known.profile or profiles.EMPTY
        vector = models.customer(records, profile, context, now, chain)
        intents = models.named(models.intents(vector)) if models.scores_intents else []
        rows, acceptance = None, {}
        if models.scores_acceptance:
            rows = models.rows(vector, records, now)
            chances = models.acceptance(rows).tolist()
            acceptance = {name: chances[row] for name, row in self._order.items()}
        self._scoring.note(time.perf_counter() - start)
        rung = pb.RUNG_WITHOUT_TIMELINE if known.records is None else pb.RUNG_FULL
        return _Scores(rung, intents, acceptance, vector, rows)

    def _arbitrate(
        self, question: Question, known: Known, situation: Situation, scores: _Scores
    ) -> tuple[list[Slate], list[Seen]]:
        """Filter, rank and choose, placement by placement; no action twice in an answer."""
        usage = self._policies.usage(known.ledger, situation.now)
        slates, trace, taken = [], list[Seen](), set[str]()
        for name in question.placements:
            placement = self.business.placements[name]
            most = question.max_actions or placement.max_actions
            offers = self._policies.offers(name, question.channel, question.locale)
            if scores.rung == pb.RUNG_DEFAULTS:
                offers = [offer for offer in offers if offer.action.name in placement.defaults]
            passed: list[Offer] = []
            for offer in offers:
                drop = self._policies.drop(
                    offer.action,
                    channel=question.channel,
                    now=situation.now,
                    assurance=question.assurance,
                    required=ASSURANCE[placement.assurance],
                    profile=known.profile,
                    usage=usage,
                )
                if drop is None:
                    passed.append(offer)
                else:
                    trace.append(Seen(offer.action.name, name, drop))
            ranked = arbitration.rank(
                passed,
                [scores.acceptance.get(o.action.name, o.action.prior) for o in passed],
                situation,
                self.business.policies,
                self.business.vocabulary,
            )
            elsewhere = frozenset(taken)
            chosen = arbitration.fill(ranked, placement, most, taken)
            slates.append(Slate(name, chosen))
            trace += _ranks(name, ranked, chosen, elsewhere, full=len(chosen) == most)
        return slates, trace

    def _rows_shown(self, scores: _Scores, slates: Sequence[Slate]) -> dict[str, Floats]:
        if scores.rows is None:
            return {}
        names = [one.offer.action.name for slate in slates for one in slate.chosen]
        return {name: scores.rows[self._order[name]].copy() for name in names}


async def in_time(reading: Awaitable[T], seconds: float) -> T | Reason:
    """Wait so long for a read of the store; give what it read, or why there is nothing."""
    read = asyncio.ensure_future(reading)
    read.add_done_callback(_settled)
    try:
        # Shielded: a read in flight is shared and never cancelled.
        return await asyncio.wait_for(asyncio.shield(read), seconds)
    except TimeoutError:
        return Reason("TIMELINE_LATE", "The store did not answer in time")
    except StoreUnavailable as error:
        return Reason("STORE_UNAVAILABLE", str(error))


def _settled(read: asyncio.Future[T]) -> None:
    """Look at an error that comes after everybody left: it is nobody's business then."""
    if not read.cancelled():
        read.exception()


def _decoded(snapshot: Snapshot) -> tuple[Known, list[Reason]]:
    """Read what is stored; what cannot be read is as good as lost, and is said."""
    advisories: list[Reason] = []
    records = ledger = profile = None
    timeline_id = ledger_id = profile_id = NEVER
    try:
        timeline_id, records = decode(snapshot.timeline)
    except ValueError as error:
        advisories.append(Reason("TIMELINE_UNREADABLE", str(error)))
    try:
        ledger_id, ledger = decode(snapshot.ledger)
    except ValueError as error:
        advisories.append(Reason("LEDGER_UNREADABLE", str(error)))
    try:
        profile_id, profile = profiles.decode(snapshot.profile)
    except ValueError as error:
        advisories.append(Reason("PROFILE_UNREADABLE", str(error)))
    return Known(records, ledger, profile, timeline_id, ledger_id, profile_id), advisories


def _until(known: Known, now: int) -> Known:
    """What was known of the customer that had happened by ``now``."""
    return known._replace(
        records=None if known.records is None else timeline.as_of(known.records, now),
        ledger=None if known.ledger is None else timeline.as_of(known.ledger, now),
        profile=None if known.profile is None else known.profile.as_of(now),
    )


def _ranks(
    placement: str,
    ranked: Sequence[Ranked],
    chosen: Sequence[Ranked],
    elsewhere: frozenset[str],
    *,
    full: bool,
) -> list[Seen]:
    """Say of each action that passed whether it is in the answer, and if not, why."""
    shown = {one.offer.action.name for one in chosen}
    seen: list[Seen] = []
    left = len(shown)
    for rank, one in enumerate(ranked, 1):
        name = one.offer.action.name
        drop = None
        if name in shown:
            left -= 1
        elif name in elsewhere:
            drop = Drop(pb.STAGE_ARBITRATION, "SHOWN_ELSEWHERE", "Shown in another placement")
        elif one.factors.priority <= 0:
            text = "Nothing speaks for it here: value, probability or context weight is nothing"
            drop = Drop(pb.STAGE_ARBITRATION, "NO_PRIORITY", text)
        elif left or not full:
            text = "As many of its group are shown as the placement takes"
            drop = Drop(pb.STAGE_ARBITRATION, "GROUP_FULL", text)
        else:
            higher = rank - 1
            text = f"{higher} other action{'s rank' if higher > 1 else ' ranks'} higher"
            drop = Drop(pb.STAGE_ARBITRATION, "RANKED_LOWER", text)
        seen.append(Seen(name, placement, drop, one.factors, rank))
    return seen
