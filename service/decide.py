"""Decide inside the caller's deadline: read, weigh, reserve, answer. See :meth:`Decider.decide`.

The pipeline itself is pure (``service.pipeline``); this is what it needs of the world, and the
ladder that it climbs down when the world is late.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from features import profile as profiles
from features.partition import partition
from features.record import EMPTY
from service import ceilings, reading
from service.answers import Answers
from service.budget import Budget, Cost
from service.business import Business
from service.chance import Entropy
from service.crowd import Crowd
from service.deadlines import Deadlines
from service.entries import Entries
from service.inputs import Inputs, Known, Question
from service.leases import Leases
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.reserving import Reserving
from service.slates import Answer
from service.store import Snapshot, Store
from service.together import Steps, Together
from service.weighed import Reply, Want, Weighed


class World(NamedTuple):
    """What a decision needs of the world."""

    store: Store
    models: Callable[[], Models | None]
    prices: Callable[[], Mapping[str, float]]  # others come as another mapping
    leases: Leases
    clock: Callable[[], int]  # milliseconds since 1970-01-01 UTC
    worker: str  # four hexadecimal digits
    greedy: bool = False  # leave nothing to chance


class Decision(NamedTuple):
    """An answer with the name that it is recorded under; empty where nothing is recorded."""

    answer: Answer
    decision_id: str
    customer_id: str  # whom it is about: the root, where customers were merged
    written: bytes  # the answer as the caller gets it, trace and vector aside


class _Reserved(NamedTuple):
    """What is asked for the wants of a decision."""

    replies: list[Reply]  # of every want, as far as ceilings say
    asked: Sequence[int]  # numbers of the wants that the store was asked
    granted: Awaitable[list[bool]] | None  # for each of these; None: for none


_Draft = tuple[Decision, _Reserved | None, Sequence[Reply]]
"""A decision as it is if the store agrees; what was asked of it (None: nothing), and what it will
say then."""


class Decider:
    """Answers questions for one configuration."""

    def __init__(self, business: Business, world: World) -> None:
        self.business = business
        self.pipeline = Pipeline(business)
        self._world = world
        self._scoring = Cost(0.005)
        self.answers = Answers(business)
        self.entries = Entries(business)
        self._entropy = Entropy()
        self._in_time = Deadlines().in_time
        self._crowd = Crowd()
        self._together = Together(world.store.flush, self._crowd)
        self._reserving = Reserving(business)
        self._priced: tuple[Mapping[str, float] | None, Mapping[str, float]] = None, {}
        self._zone = ZoneInfo(business.definitions.time_zone)
        self._ceilings = {one.name: one for one in business.policies.ceilings}

    async def decide(
        self, question: Question, budget: Budget, unread: Reason | None = None
    ) -> Decision:
        """Answer a question inside its budget, with whatever could be known in time.

        Args:
            question: What the caller asks.
            budget: How long it may take.
            unread: Why nothing of the customer can be read; None: it can.
        """
        self._crowd.enter()
        try:
            models = self._world.models()
            found: Snapshot | Reason | None = unread
            if found is None:
                asking = self._world.store.read(question.customer_id)
                if self._crowd.inside == 1:  # nobody else asks in this turn
                    self._world.store.flush()
                found = await self._in_time(asking, budget.read)
            decision, reserved, expected = await self._together.run(
                self._draft(question, found, budget, models),
                lambda: self._scoring.spare(budget) * _PATIENCE,
            )
            if reserved is None:
                return decision
            weighed = decision.answer.weighed
            replies = await self._replies(weighed, reserved, budget)
            if replies == expected:
                return decision
            answer = self.pipeline.settle(weighed, replies)
            written = self.answers.written(answer, decision.decision_id)
            return decision._replace(answer=answer, written=written)
        finally:
            self._crowd.leave()

    async def rehearse(self) -> None:
        """Decide for nobody once at every placement, and read nobody.

        What is made when it is first needed is there then: the line to the store, treatments,
        words, and all that is laid out for the models in charge. Takes longer than a turn of the
        loop may, so it is for a server that does not serve yet.
        """
        await self._in_time(self._world.store.read(""), 1.0)
        models, clock = self._world.models(), self._world.clock()
        known = Known(EMPTY, EMPTY, profiles.EMPTY)
        for name, placement in self.business.placements.items():
            if not placement.channels:
                continue
            question = Question("", placement.channels[0], 1, [name], assurance=3)
            inputs = Inputs(question, known, clock, 0, None, self._prices(), frozenset(), True)
            weighed = self.pipeline.weigh(inputs, models)
            answer = self.pipeline.settle(weighed, [_GRANTED] * len(weighed.wants))
            self.answers.written(answer, "")

    def _draft(
        self, question: Question, found: Snapshot | Reason, budget: Budget, models: Models | None
    ) -> Steps[_Draft]:
        """Decide, ask the store for what is capped, and write the answer that it will allow.

        It nearly always does: the answer is written while the question is on its way.
        """
        start = time.perf_counter()
        inputs = self._inputs(question, found, budget, models)
        yield False
        weighed = yield from self.pipeline.weighing(inputs, models)
        question = inputs.question
        decision_id = self._name(question.customer_id, weighed.now) if question.recorded else ""
        reserved = self._reserve(weighed, decision_id) if weighed.wants else None
        yield reserved is not None
        expected = [] if reserved is None else [*reserved.replies]
        answer = self.pipeline.settle(weighed, expected)
        written = self.answers.written(answer, decision_id)
        if inputs.unscored is None and models is not None:
            self._scoring.note(time.perf_counter() - start)
        decision = Decision(answer, decision_id, question.customer_id, written)
        return decision, reserved, expected

    def _inputs(
        self, question: Question, found: Snapshot | Reason, budget: Budget, models: Models | None
    ) -> Inputs:
        """All that the decision depends on; what came late is not known, and is said."""
        if isinstance(found, Reason):
            known = reading.unread(found)
        else:
            known = reading.known(found)
            if found.customer_id and found.customer_id != question.customer_id:
                question = question._replace(customer_id=found.customer_id)
        clock = self._world.clock()
        return Inputs(
            question,
            known,
            clock,
            int.from_bytes(self._entropy.bytes(8)) if question.seed is None else question.seed,
            self._unscored(budget, models),
            self._prices(),
            self._full(clock),
            self._world.greedy,
        )

    def _unscored(self, budget: Budget, models: Models | None) -> Reason | None:
        """What there is no time for; None: for everything there is."""
        if models is not None and self._scoring.fits(budget):
            return None
        if budget.left <= 0:
            return _OUT_OF_TIME
        if models is None:
            return None
        return Reason("MODELS_SKIPPED", "No time was left for the models")

    def _name(self, customer_id: str, now: int) -> str:
        """Partition, time, worker and chance: an outcome finds its slot by the id alone."""
        chance = self._entropy.bytes(4).hex()
        return f"{partition(customer_id):02x}{now:011x}{self._world.worker}{chance}"

    def _prices(self) -> Mapping[str, float]:
        """What resources cost now; another configuration may have come while the store was read."""
        now = self._world.prices()
        known, prices = self._priced
        if now is not known:
            declared = self.business.policies.resources
            prices = {name: now.get(name, one.price) for name, one in declared.items()}
            self._priced = now, prices
        return prices

    def _full(self, now: int) -> frozenset[str]:
        """Ceilings that have no room for one more."""
        if not self._ceilings:
            return frozenset()
        leases = self._world.leases
        return frozenset(
            name
            for name, one in self._ceilings.items()
            if leases.room(name, ceilings.period(one, now, self._zone)) <= 0
        )

    def _reserve(self, weighed: Weighed, decision_id: str) -> _Reserved:
        """Take what ceilings have room for, and ask the store for what is capped, in one step.

        The decision has counted all limits over the ledger that it read, so the store need not
        unless that has changed.
        """
        wants, known = weighed.wants, weighed.inputs.known
        replies = [self._lease(want, weighed.now) if want.ceilings else _GRANTED for want in wants]
        asked = [
            number for number, want in enumerate(wants) if want.caps and not replies[number].refused
        ]
        if not asked:
            return _Reserved(replies, asked, None)
        store = self._world.store
        granted = store.reserve(
            weighed.inputs.question.customer_id,
            weighed.now,
            self._reserving.holds(weighed, [wants[number] for number in asked], decision_id),
            None if known.ledger is None else known.ledger_id,
        )
        return _Reserved(replies, asked, granted)

    async def _replies(self, weighed: Weighed, of: _Reserved, budget: Budget) -> list[Reply]:
        """Wait for what the store says of each want; give back what is not needed then."""
        if of.granted is not None:
            granted = await self._in_time(of.granted, max(0.0, budget.left))
            for place, number in enumerate(of.asked):
                if isinstance(granted, Reason):
                    of.replies[number] = Reply("UNAVAILABLE")
                elif not granted[place]:
                    of.replies[number] = Reply("CAPPED")
                else:
                    continue
                self._release(weighed.wants[number], weighed.now)
        return of.replies

    def _lease(self, want: Want, now: int) -> Reply:
        """Take what an action uses up of every ceiling, or of none."""
        taken: list[str] = []
        for name in want.ceilings:
            one = self._ceilings[name]
            period, limit = ceilings.period(one, now, self._zone), ceilings.limit(one)
            amount = ceilings.amount(one, self.business.actions[want.row])
            if not self._world.leases.take(name, period, amount, limit):
                self._release(want._replace(ceilings=taken), now)
                return Reply("CEILING")
            taken.append(name)
        return _GRANTED

    def _release(self, want: Want, now: int) -> None:
        for name in want.ceilings:
            one = self._ceilings[name]
            amount = ceilings.amount(one, self.business.actions[want.row])
            self._world.leases.give_back(name, ceilings.period(one, now, self._zone), amount)


_PATIENCE: Final = 0.25
"""Share of the time to spare that a decision may wait for others; the store is to reserve yet."""

_GRANTED: Final = Reply()
_OUT_OF_TIME: Final = Reason("OUT_OF_TIME", "No time was left to compute anything")
