"""Turn decisions into messages: for the caller, and for the log. Pure."""

from __future__ import annotations

from google.protobuf import timestamp_pb2

from features.record import NEVER, LogId
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import VERSION
from service.arbitration import Factors, Ranked
from service.business import Business
from service.decide import Answer, Known, Seen
from service.facts import Fact
from service.models import Models

_INTENTS_SHOWN = 5


def timestamp(ms: int) -> timestamp_pb2.Timestamp:
    """A moment in milliseconds as the API writes it."""
    return timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def milliseconds(stamp: timestamp_pb2.Timestamp) -> int:
    """A moment of the API in milliseconds."""
    return stamp.seconds * 1000 + stamp.nanos // 1_000_000


def log_id(id: LogId) -> str:
    """The id of a log entry as the API writes it; empty for none."""
    return "" if id == NEVER else str(id)


def versions(business: Business, models: Models | None) -> pb.Versions:
    """What answers are made with."""
    return pb.Versions(
        code=VERSION,
        catalogue=business.digest,
        bundle="" if models is None else models.manifest.version,
        vocabulary=business.vocabulary.digest,
    )


def response(
    answer: Answer, decision_id: str, business: Business, *, trace: bool, features: bool
) -> pb.DecideResponse:
    """Build the answer to a caller.

    Args:
        answer: The decision.
        decision_id: Empty where nothing is recorded.
        business: Whose configuration decided.
        trace: Whether to add every candidate.
        features: Whether to add the vector.
    """
    built = pb.DecideResponse(
        decision_id=decision_id,
        decided_at=timestamp(answer.now),
        rung=answer.rung,
        advisories=[pb.Advisory(code=one.code, message=one.text) for one in answer.advisories],
        intents=[
            pb.ScoredIntent(intent=name, probability=probability)
            for name, probability in answer.intents[:_INTENTS_SHOWN]
        ],
        facts=[_fact(fact) for fact in answer.facts],
        slates=[
            pb.Slate(
                placement=slate.placement,
                recommendations=[
                    _recommendation(rank, one) for rank, one in enumerate(slate.chosen, 1)
                ],
            )
            for slate in answer.slates
        ],
        read=_read(answer.known),
        versions=versions(business, answer.models),
    )
    if trace:
        built.trace.extend(candidate(seen) for seen in answer.trace)
    if features and answer.vector is not None and answer.models is not None:
        plan = answer.models.plan
        built.features.digest = plan.digest
        built.features.names.extend(plan.names[: len(answer.vector)])
        built.features.values.extend(answer.vector.tolist())
    return built


def _fact(fact: Fact) -> pb.Fact:
    return pb.Fact(
        kind=fact.kind,
        text=fact.text,
        magnitude=fact.magnitude,
        newest=None if fact.newest is None else timestamp(fact.newest),
        intent=fact.intent,
        channels=fact.channels,
    )


def _recommendation(rank: int, one: Ranked) -> pb.Recommendation:
    action, treatment = one.offer
    return pb.Recommendation(
        action=action.name,
        title=action.title,
        rank=rank,
        treatment=pb.Treatment(name=treatment.name, text=treatment.text, locale=treatment.locale),
        factors=_factors(one.factors),
        reasons=[pb.Reason(code=reason.code, text=reason.text) for reason in one.reasons],
        selection_probability=1.0,  # the greedy policy always makes the same choice
    )


def _factors(factors: Factors) -> pb.Factors:
    return pb.Factors(
        acceptance_probability=factors.acceptance_probability,
        value=factors.value,
        context_weight=factors.context_weight,
        lever=factors.lever,
        priority=factors.priority,
    )


def candidate(seen: Seen) -> pb.Candidate:
    """One action's way through the filters."""
    drop = seen.drop
    return pb.Candidate(
        action=seen.action,
        placement=seen.placement,
        dropped_by=pb.STAGE_UNSPECIFIED if drop is None else drop.stage,
        reason=None if drop is None else pb.Reason(code=drop.code, text=drop.text),
        factors=None if seen.factors is None else _factors(seen.factors),
        rank=seen.rank,
    )


def _read(known: Known) -> pb.ReadIds:
    return pb.ReadIds(
        timeline=log_id(known.timeline_id),
        ledger=log_id(known.ledger_id),
        profile=log_id(known.profile_id),
        events=0 if known.records is None else len(known.records),
    )


def logged(
    answer: Answer,
    decision_id: str,
    customer_id: str,
    request: pb.DecideRequest,
    business: Business,
    caller: str,
) -> bytes:
    """Build the log entry of a decision: what it takes to compute it again."""
    entry = log_pb2.LogEntry(
        customer_id=customer_id,
        decision=log_pb2.DecisionLogged(
            request=request,
            response=response(answer, decision_id, business, trace=True, features=False),
            vector=b"" if answer.vector is None else answer.vector.tobytes(),
            feature_digest="" if answer.models is None else answer.models.plan.digest,
            caller=caller,
            action_vectors=[
                log_pb2.ActionVector(action=name, vector=row.tobytes())
                for name, row in answer.rows.items()
            ],
        ),
    )
    return entry.SerializeToString()
