"""DecisionService: messages to the domain and back, nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc
import msgspec

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import decision_pb2_grpc, event_pb2, log_pb2
from service import answers, callers, deliberation, explain, identity, intake, logs, outcomes, trace
from service.afterwards import Afterwards
from service.asked import Asked
from service.background import Turn
from service.budget import Budget
from service.business import Business
from service.checks import Checks
from service.configuration import Catalogues, Configuration, Serving
from service.deadlines import Deadlines
from service.decide import Decision
from service.errors import NotFound, Violation, invalid
from service.intake import MAX_EVENTS, Taken
from service.interceptors import reads
from service.journal import Journal, Summary
from service.reasons import Reason
from service.registry import Registry
from service.store import ERASED, UNAVAILABLE, Store, Write
from service.taking import Taking

_PAUSES: Final = (0.03, 0.05, 0.07)  # seconds before a young decision is looked for again
_STATUS: Final = {
    1: pb.EventResult.STATUS_STORED,
    2: pb.EventResult.STATUS_DUPLICATE,
    3: pb.EventResult.STATUS_CONFLICT,
    4: pb.EventResult.STATUS_TOO_OLD_FOR_TIMELINE,
    5: pb.EventResult.STATUS_ERASED,
    UNAVAILABLE: pb.EventResult.STATUS_UNAVAILABLE,
}
_RUNGS: Final = {number: name for name, number in pb.Rung.items()}
_UNJOURNALED: Final = Reason("UNJOURNALED", "The decision could not be kept for the log")

Context = grpc.aio.ServicerContext[Any, Any]


def _result(one: pb.EventResult) -> bytes:
    """The bytes of one of the results of a RecordEventsResponse."""
    return pb.RecordEventsResponse(results=[one]).SerializeToString()


_RESULTS: Final = {code: _result(pb.EventResult(status=one)) for code, one in _STATUS.items()}


class _Kept:
    """A decision for the journal."""

    __slots__ = ("_asked", "_caller", "_decision", "_serving", "decision_id")

    def __init__(
        self, serving: Serving, asked: Asked, decision: Decision, caller: callers.Caller
    ) -> None:
        self._serving, self._asked, self._decision = serving, asked, decision
        self._caller = caller
        self.decision_id = decision.decision_id

    @property
    def summary(self) -> Summary:
        answer, actions = self._decision.answer, self._serving.business.actions
        question = answer.weighed.inputs.question
        return Summary(
            self._decision.customer_id,
            question.channel,
            question.interaction_id,
            [actions[row].name for row in answer.rows],
        )

    def build(self) -> bytes:
        return self._serving.decider.entries.written(
            self._decision.answer, self._asked.written, self._decision.written, self._caller.name
        )


def _told(decision: Decision, *, lost: bool) -> logs.Event:
    """What the line of a decision tells."""
    answer = decision.answer
    advisories = [one.code for one in answer.advisories]
    if lost:
        advisories.append(_UNJOURNALED.code)
    return {
        "customer": logs.Hidden(decision.customer_id),
        "decision_id": decision.decision_id,
        "rung": _RUNGS[answer.weighed.rung],
        "events": answer.weighed.events,
        "advisories": advisories,
    }


class Decisions(decision_pb2_grpc.DecisionServiceServicer):
    """Decide, RecordEvents, RecordOutcome and Explain."""

    def __init__(
        self,
        configuration: Configuration,
        store: Store,
        registry: Registry,
        journal: Journal,
        clock: Callable[[], int],
        deadline: float,
        afterwards: Afterwards,
    ) -> None:
        self._configuration = configuration
        self._store = store
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self._deadline = deadline
        self._afterwards = afterwards
        self._catalogues = Catalogues(store)
        self._in_time = Deadlines().in_time
        self._explaining = asyncio.Semaphore(1)

    @property
    def _business(self) -> Business:
        return self._configuration.current.business

    @property
    def _counted(self) -> frozenset[int]:
        return self._configuration.current.counted

    @reads
    async def Decide(  # type: ignore[override]  # bytes in, bytes out
        self, sent: bytes, context: Context
    ) -> bytes:
        """See the API."""
        caller = callers.current.get()
        left = context.time_remaining()
        budget = Budget(self._deadline if left is None else left, time.monotonic)
        serving = self._configuration.current
        asked = serving.questions.read(sent, caller, self._clock())
        question, unread = asked.question, None
        if asked.identifier is not None:
            customer_id, unread = await self._whom(asked.identifier, budget)
            question = question._replace(customer_id=customer_id)
        decision = await serving.decider.decide(question, budget, unread)
        response, lost = decision.written, False
        if decision.decision_id:  # else nothing of it is kept
            lost = not self._journal.append(_Kept(serving, asked, decision, caller))
            if lost:
                response += answers.advisory(_UNJOURNALED)
        logs.note_later(partial(_told, decision, lost=lost))
        if asked.include_trace:
            response += await asyncio.to_thread(_traced, decision, serving.business)
        if asked.include_features:
            response += answers.features(decision.answer.weighed)
        return response

    async def _whom(self, identifier: tuple[str, str], budget: Budget) -> tuple[str, Reason | None]:
        """The customer that an identifier means; one of nobody's means a newcomer.

        So does one that could not be looked up in time, but then nothing is known of them.
        """
        newcomer = identity.newcomer(*identifier)
        found = await self._in_time(self._store.resolve([identifier]), budget.read)
        return (newcomer, found) if isinstance(found, Reason) else (found[0] or newcomer, None)

    async def RecordEvents(  # type: ignore[override]  # the edge takes what is written already
        self, request: pb.RecordEventsRequest, context: Context
    ) -> bytes:
        """See the API."""
        caller = callers.current.get()
        caller.need("record")
        if not 1 <= len(request.events) <= MAX_EVENTS:
            raise invalid("events", f"has {len(request.events)} entries; send 1 to {MAX_EVENTS}")
        taking = Taking(self._business.vocabulary, self._counted, caller, self._clock())
        taken: list[Taken | Violation] = []
        turn = Turn()
        for i, event in enumerate(request.events):
            if turn.over:
                await turn.pause()
            taken.append(taking.take(event, i))
        fit = [one for one in taken if isinstance(one, Taken)]
        statuses = iter(await self._record(fit))
        results = [
            _RESULTS[next(statuses)]
            if isinstance(one, Taken)
            else _result(
                pb.EventResult(
                    status=pb.EventResult.STATUS_INVALID,
                    violation=pb.Violation(field=one.field, description=one.description),
                )
            )
            for one in taken
        ]
        logs.note(events=len(results), refused=len(results) - len(fit))
        dropped = sum(one.sentiment_dropped for one in fit)
        if dropped:
            logs.note(sentiments_dropped=dropped)
        return b"".join(results)

    async def _record(self, taken: list[Taken]) -> list[int]:
        """Store events, once it is known whose they are."""
        names = list(dict.fromkeys(t.who.identifier for t in taken if t.who.identifier))
        found = await self._store.resolve(names) if names else []
        known = dict(zip(names, found, strict=True))
        writes: list[tuple[str, Write]] = []
        for one in taken:
            if one.who.customer_id is not None:
                writes.append((one.who.customer_id, one.write))
            elif one.who.identifier is not None:
                customer = known[one.who.identifier] or identity.newcomer(*one.who.identifier)
                named = intake.addressed(one.write.entry, customer)
                writes.append((customer, one.write._replace(entry=named)))
        statuses = await self._store.record(writes)
        if not names:
            return statuses
        # Only now, and only for events that were kept: an erased one must not bring a name back.
        newcomers = {
            one.who.identifier
            for one, status in zip(taken, statuses, strict=True)
            if status not in (ERASED, UNAVAILABLE)
        }
        for name, customer_id in known.items():
            if customer_id is None and name in newcomers:
                newcomer = identity.newcomer(*name)
                entry = intake.linked(name, newcomer, callers.current.get())
                await self._store.link(*name, newcomer, entry)
        return statuses

    async def RecordOutcome(
        self, request: pb.RecordOutcomeRequest, context: Context
    ) -> pb.RecordOutcomeResponse:
        """See the API."""
        caller = callers.current.get()
        caller.need("record")
        checks = Checks()
        _decision(checks, request.decision_id)
        outcomes.check(checks, request, {action.name: 1 for action in self._business.actions})
        checks.finish()
        decision = await self._summary(request.decision_id, context)
        if decision is None:
            status = await self._orphan(request)
        else:
            taken = outcomes.take(
                request, decision, self._business.vocabulary, self._counted, caller, self._clock()
            )
            writes = [(decision.customer_id, one.write) for one in taken]
            status = _STATUS[outcomes.settled(await self._store.record(writes))]
            logs.note(customer=logs.masked(decision.customer_id))
        logs.note(
            decision_id=request.decision_id,
            outcome=event_pb2.Outcome.Name(request.outcome),
            stored=pb.EventResult.Status.Name(status),
        )
        told = decision is not None and caller.scopes & {"decide", "profile"}
        customer_id = decision.customer_id if decision is not None and told else ""
        return pb.RecordOutcomeResponse(status=status, customer_id=customer_id)

    async def _orphan(self, request: pb.RecordOutcomeRequest) -> pb.EventResult.Status.ValueType:
        """Log an outcome whose decision is not known, so that training can settle it."""
        vocabulary, caller = self._business.vocabulary, callers.current.get()
        for hash, entry in outcomes.orphans(request, vocabulary, caller, self._clock()):
            await self._store.orphan(request.decision_id, hash, entry)
        return pb.EventResult.STATUS_ORPHAN

    async def _summary(self, decision_id: str, context: Context) -> Summary | None:
        """What an outcome has to know, from our own journal or from the store.

        A young decision may wait in another server's journal, so it is looked for a few times; None
        where nobody knows it.
        """
        pauses = _PAUSES if outcomes.on_its_way(decision_id, self._clock()) else ()
        for pause in (0.0, *pauses):
            left = context.time_remaining()
            if pause and left is not None and left < 2 * pause:
                break  # rather an orphan than no answer: training finds its decision
            await asyncio.sleep(pause)
            waiting = self._journal.waiting(decision_id)
            if waiting is not None:
                return waiting.summary
            written = await self._store.decided(decision_id)
            if written is not None:
                return msgspec.msgpack.decode(written, type=Summary)
        return None

    async def _logged(self, decision_id: str) -> bytes:
        """The log entry of a decision, from our own journal or from the store."""
        waiting = self._journal.waiting(decision_id)
        written = waiting.build() if waiting else await self._store.decision(decision_id)
        if written is None:
            raise NotFound(
                f"decision {decision_id!r} is not in the log: it was never taken, recorded "
                "nothing, or the log has been trimmed since; look for it in the archive"
            )
        return written

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """See the API."""
        callers.current.get().need("decide")
        checks = Checks()
        _decision(checks, request.decision_id)
        checks.text("action", request.action, required=request.include_contributions)
        checks.finish()
        entry = log_pb2.LogEntry.FromString(await self._logged(request.decision_id))
        logs.note(customer=logs.masked(entry.customer_id), decision_id=request.decision_id)
        business = await self._catalogues.of(
            entry.decision.response.versions.catalogue, self._business
        )
        if request.action:
            known = dict.fromkeys(business.rows, 1)
            checks.code("action", request.action, known, required=True)
            checks.finish()
        async with self._explaining:  # off the loop, one at a time: decisions come first
            told = await asyncio.to_thread(explain.explain, entry.decision, request, business)
        models = self._registry.models
        if request.include_contributions:
            row = explain.seen(entry.decision, request.action, models)
            assert models is not None  # noqa: S101  it saw the row
            parts = await self._registry.contributions(models, row)
            told.contributions.extend(explain.contributions(parts))
        return told


def _traced(decision: Decision, of: Business) -> bytes:
    """Everything that was compared, as a field of the answer."""
    told = deliberation.written(decision.answer.weighed, len(of.actions))
    compared = log_pb2.Deliberation.FromString(told)
    slates = pb.DecideResponse.FromString(decision.written).slates
    return answers.traced(trace.candidates(compared, slates, of))


def _decision(checks: Checks, decision_id: str) -> None:
    """Check that a text has the form of a decision id."""
    try:
        well_formed = len(bytes.fromhex(decision_id + "0")) == 13 and len(decision_id) == 25
    except ValueError:
        well_formed = False
    if not well_formed:
        checks.wrong(
            "decision_id", f"{decision_id[:64]!r} is no decision id; send that of a DecideResponse"
        )
