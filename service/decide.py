"""Decide inside the caller's deadline: read, weigh, reserve, answer. See :meth:`Decider.decide`.

The pipeline itself is pure (``service.pipeline``); this is what it needs of the world, and the
ladder that it climbs down when the world is late.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, TypeVar, cast
from zoneinfo import ZoneInfo

from features.partition import partition
from features.record import RESERVED, interaction_hash, pack, reservation_hash
from rapport.v1 import log_pb2
from service import ceilings, reading
from service.arbitration import Reason
from service.budget import Budget, Cost
from service.business import Business
from service.declared import OUTCOME_TYPE
from service.errors import StoreUnavailable
from service.leases import Leases
from service.models import Models
from service.pipeline import Answer, Inputs, Known, Pipeline, Question
from service.store import Hold, Snapshot, Store
from service.together import Together
from service.weighed import Reply, Want, Weighed

T = TypeVar("T")


class World(NamedTuple):
    """What a decision needs of the world."""

    store: Store
    models: Callable[[], Models | None]
    prices: Callable[[], Mapping[str, float]]
    leases: Leases
    clock: Callable[[], int]  # milliseconds since 1970-01-01 UTC
    worker: str  # four hexadecimal digits
    greedy: bool = False  # leave nothing to chance


class Decision(NamedTuple):
    """An answer with the name that it is recorded under; empty where nothing is recorded."""

    answer: Answer
    decision_id: str
    customer_id: str  # whom it is about: the root, where customers were merged


class Decider:
    """Answers questions for one configuration."""

    def __init__(self, business: Business, world: World) -> None:
        self.business = business
        self.pipeline = Pipeline(business)
        self._world = world
        self._scoring = Cost(0.005)
        self._together = Together()
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
        models = self._world.models()
        known, customer_id = await self._load(question, budget, unread)
        question = question._replace(customer_id=customer_id)
        clock = self._world.clock()
        inputs = Inputs(
            question,
            known,
            clock,
            secrets.randbits(64) if question.seed is None else question.seed,
            None if models is None else self._unscored(budget),
            self._prices(),
            self._full(clock),
            self._world.greedy,
        )
        if models is None and budget.left <= 0:
            inputs = inputs._replace(unscored=_OUT_OF_TIME)
        start = time.perf_counter()
        weighed = await self._together.run(self.pipeline.weighing(inputs, models))
        if inputs.unscored is None and models is not None:
            self._scoring.note(time.perf_counter() - start)
        decision_id = self._name(customer_id, weighed.now) if question.recorded else ""
        replies = await self._reserve(weighed, decision_id, budget) if weighed.wants else []
        return Decision(self.pipeline.settle(weighed, replies), decision_id, customer_id)

    async def _load(
        self, question: Question, budget: Budget, unread: Reason | None
    ) -> tuple[Known, str]:
        """Read the customer; go on without what comes late, and say so."""
        if unread is not None:
            return reading.unread(unread), question.customer_id
        snapshot = await in_time(self._world.store.read(question.customer_id), budget.read)
        if isinstance(snapshot, Snapshot):
            return reading.known(snapshot), snapshot.customer_id or question.customer_id
        return reading.unread(snapshot), question.customer_id

    def _unscored(self, budget: Budget) -> Reason | None:
        """Why there is no time for the models; None: there is."""
        if budget.left <= 0:
            return _OUT_OF_TIME
        if not self._scoring.fits(budget):
            return Reason("MODELS_SKIPPED", "No time was left for the models")
        return None

    def _name(self, customer_id: str, now: int) -> str:
        """Partition, time, worker and chance: an outcome finds its slot by the id alone."""
        chance = secrets.token_hex(4)
        return f"{partition(customer_id):02x}{now:011x}{self._world.worker}{chance}"

    def _prices(self) -> Mapping[str, float]:
        """What resources cost now; another configuration may have come while the store was read."""
        now, declared = self._world.prices(), self.business.policies.resources
        return {name: now.get(name, one.price) for name, one in declared.items()}

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

    async def _reserve(self, weighed: Weighed, decision_id: str, budget: Budget) -> list[Reply]:
        """Take what ceilings have room for, then let the store recheck the caps, in one step."""
        taken = [self._lease(want, weighed.now) for want in weighed.wants]
        asked = [
            number
            for number, want in enumerate(weighed.wants)
            if want.caps and not taken[number].refused
        ]
        if asked:
            within = interaction_hash(weighed.inputs.question.interaction_id)
            holds = [
                self._hold(weighed, weighed.wants[number], decision_id, within) for number in asked
            ]
            customer_id = weighed.inputs.question.customer_id
            reserving = self._world.store.reserve(customer_id, weighed.now, holds)
            granted = await in_time(reserving, max(0.0, budget.left))
            for place, number in enumerate(asked):
                if isinstance(granted, Reason):
                    taken[number] = Reply("UNAVAILABLE")
                elif not granted[place]:
                    taken[number] = Reply("CAPPED")
                if taken[number].refused:
                    self._release(weighed.wants[number], weighed.now)
        return taken

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
        return Reply()

    def _release(self, want: Want, now: int) -> None:
        for name in want.ceilings:
            one = self._ceilings[name]
            amount = ceilings.amount(one, self.business.actions[want.row])
            self._world.leases.give_back(name, ceilings.period(one, now, self._zone), amount)

    def _hold(self, weighed: Weighed, want: Want, decision_id: str, within: int) -> Hold:
        vocabulary, question = self.business.vocabulary, weighed.inputs.question
        action = self.business.actions[want.row].name
        held = question.hold_for or self.business.policies.reserves_for_ms
        record = pack(
            occurred_at=weighed.now,
            hash=reservation_hash(decision_id, action),
            interaction=within,
            type=vocabulary.type_codes[OUTCOME_TYPE],
            value=float(-(-held // 1000)),
            action=vocabulary.actions[action],
            channel=vocabulary.channels[question.channel],
            direction=question.direction,
            outcome=RESERVED,
        )
        entry = log_pb2.LogEntry(
            customer_id=question.customer_id,
            reserved=log_pb2.ActionReserved(record=record, decision_id=decision_id),
        )
        return Hold(record, want.caps, entry.SerializeToString())


_OUT_OF_TIME: Final = Reason("OUT_OF_TIME", "No time was left to compute anything")


async def in_time(asking: Awaitable[T], seconds: float) -> T | Reason:
    """Wait so long for the store; give what it said, or why there is nothing.

    Args:
        asking: A future of the caller's own (see :meth:`service.store.Store.read`), which is
            answered in the store's place when it is late; or anything else that can be awaited,
            which goes on then.
        seconds: How long.
    """
    loop = asyncio.get_running_loop()
    if asyncio.isfuture(asking) and not isinstance(asking, asyncio.Task):
        own = cast("asyncio.Future[T | Reason]", asking)
    else:
        own = loop.create_future()
        # A call in flight is shared and never cancelled.
        asyncio.ensure_future(asking).add_done_callback(partial(_pass_on, own))
    alarm = loop.call_later(seconds, _late, own)
    try:
        return await own
    except StoreUnavailable as error:
        return Reason("STORE_UNAVAILABLE", str(error))
    finally:
        alarm.cancel()


def _late(own: asyncio.Future[T | Reason]) -> None:
    if not own.done():
        own.set_result(Reason("TIMELINE_LATE", "The store did not answer in time"))


def _pass_on(own: asyncio.Future[T | Reason], asked: asyncio.Future[T]) -> None:
    """Give an answer to whoever still waits; an error after that is nobody's business."""
    error = None if asked.cancelled() else asked.exception()
    if own.done():
        return
    if asked.cancelled():
        own.cancel()
    elif error is not None:
        own.set_exception(error)
    else:
        own.set_result(asked.result())
