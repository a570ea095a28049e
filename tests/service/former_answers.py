"""Answers and log entries as they were written before: built as messages, field by field."""

from __future__ import annotations

from features.elementary import Floats
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import causes
from service.answers import log_id, timestamp, versions
from service.business import Business
from service.catalogue import Price
from service.factors import Factors
from service.facts import Fact
from service.reasons import Reason
from service.slates import Answer, Shown
from service.weighed import Weighed, Weighing

_INTENTS_SHOWN = 5


def _seconds(ms: int) -> tuple[int, int]:
    return ms // 1000, ms % 1000 * 1_000_000


def response(answer: Answer, decision_id: str, business: Business) -> pb.DecideResponse:
    """Build the answer to a caller, trace and vector aside."""
    # Parts are added in place: a message that is given to another is copied whole.
    weighed = answer.weighed
    told = pb.DecideResponse(
        decision_id=decision_id,
        decided_at=timestamp(weighed.now),
        rung=weighed.rung,
        read=_read(weighed),
        versions=versions(business, weighed.models),
        control_group=weighed.group,
    )
    for code, message in answer.advisories:
        told.advisories.add(code=code, message=message)
    for intent, probability in weighed.intents[:_INTENTS_SHOWN]:
        told.intents.add(intent=intent, probability=probability)
    for fact in weighed.told:
        _add_fact(told, fact)
    for one in answer.slates:
        slate = told.slates.add(
            placement=one.placement,
            held_back=one.held_back,
            selection_probability=one.probability,
        )
        for rank, shown in enumerate(one.shown, 1):
            _add_recommendation(slate, rank, shown, business)
    return told


def _add_fact(told: pb.DecideResponse, fact: Fact) -> None:
    one = told.facts.add(
        kind=fact.kind,
        text=fact.text,
        magnitude=fact.magnitude,
        intent=fact.intent,
        channels=fact.channels,
    )
    if fact.newest is not None:
        one.newest.seconds, one.newest.nanos = _seconds(fact.newest)


def _add_recommendation(slate: pb.Slate, rank: int, one: Shown, business: Business) -> None:
    told = slate.recommendations.add()
    action, said = business.actions[one.row], one.treatment
    told.action, told.title, told.mandatory = action.name, action.title, action.mandatory
    told.parts.extend(action.parts)
    told.treatment.CopyFrom(
        pb.Treatment(
            name=said.name,
            text=said.text,
            locale=said.locale,
            kind=said.kind,
            disclosures=said.disclosures,
        )
    )
    told.rank = rank
    told.selection_probability = one.probability
    if one.instead_of is not None:
        told.instead_of = business.actions[one.instead_of].name
    factors(one.factors, told.factors)
    for code, text in one.reasons:
        told.reasons.add(code=code, text=text)
    if one.price is not None:
        currency = business.policies.currency
        told.treatment.text = _worded(one.treatment.text, one.price, currency)
        told.price.amount = one.price.amount
        told.price.currency = currency
        told.price.per = one.price.per
        told.price.condition = one.price.condition


def _worded(text: str, price: Price | None, currency: str) -> str:
    """A treatment's text with the price that the customer pays."""
    if price is None:
        return text
    return text.replace("{price}", f"{abs(price.amount):.2f} {currency}")


def _read(weighed: Weighed) -> pb.ReadIds:
    known = weighed.inputs.known
    return pb.ReadIds(
        timeline=log_id(known.timeline_id),
        ledger=log_id(known.ledger_id),
        profile=log_id(known.profile_id),
        events=weighed.events,
        members=[
            pb.MemberRead(customer_id=one.customer_id, timeline=log_id(one.timeline_id))
            for one in known.members
        ],
    )


def logged(
    answer: Answer,
    request: pb.DecideRequest,
    response: bytes,
    business: Business,
    caller: str,
) -> bytes:
    """Write the log entry of a decision: what it takes to compute it again.

    The bytes are those that protobuf would write of a :class:`log_pb2.LogEntry`, field by field in
    the order of their numbers; what is in bytes already is not made into messages again.

    """
    weighed = answer.weighed
    parts = [
        _nested(1, request.SerializeToString(deterministic=True)),
        _nested(2, response),
    ]
    if weighed.vector is not None and weighed.models is not None:
        parts.append(_nested(3, weighed.vector.tobytes()))
        parts.append(_nested(4, weighed.models.plan.digest.encode()))
    if caller:
        parts.append(_nested(5, caller.encode()))
    parts += [
        _nested(
            6,
            log_pb2.ActionVector(
                action=business.actions[one.row].name, vector=saw.tobytes()
            ).SerializeToString(),
        )
        for slate in answer.slates
        for one in slate.shown
        if (saw := weighed.saw(one.row)) is not None
    ]
    parts.append(_nested(7, _inputs(answer, business).SerializeToString()))
    parts.append(_nested(8, deliberation(weighed, len(business.actions))))
    customer_id = weighed.inputs.question.customer_id
    return log_pb2.LogEntry(customer_id=customer_id).SerializeToString() + _nested(
        3, b"".join(parts)
    )


def _nested(number: int, payload: bytes) -> bytes:
    """A field of a message that holds bytes, text or a message."""
    size, length = len(payload), bytearray((number << 3 | 2,))
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + payload


def _inputs(answer: Answer, business: Business) -> log_pb2.DecisionInputs:
    inputs = answer.weighed.inputs
    return log_pb2.DecisionInputs(
        seed=inputs.seed,
        clock=inputs.clock,
        unread=_reason(inputs.known.unread),
        unscored=_reason(inputs.unscored),
        prices=[
            log_pb2.NamedNumber(name=name, value=price)
            for name, price in sorted(inputs.prices.items())
        ],
        full_ceilings=sorted(inputs.full_ceilings),
        reservations=[
            log_pb2.ReservationReply(
                placement=want.placement,
                action=business.actions[want.row].name,
                reserved=not reply.refused,
                refused=reply.refused,
                selection_probability=want.probability,
            )
            for want, reply in answer.replies
        ],
        unreadable=[pb.Reason(code=o.code, text=o.text) for o in inputs.known.unreadable],
        greedy=inputs.greedy,
    )


def _reason(reason: Reason | None) -> pb.Reason | None:
    return None if reason is None else pb.Reason(code=reason.code, text=reason.text)


def deliberation(weighed: Weighed, actions: int) -> bytes:
    """Write what a decision compared."""
    size = (actions + 7) // 8
    rest = log_pb2.Deliberation(
        placements=map(_placement, weighed.weighings),
        rooms=[
            log_pb2.LimitRoom(
                limit=one.name, actions=one.rows.to_bytes(size, "little"), places=one.places
            )
            for one in weighed.rooms
        ],
    )
    local = [
        causes.written(cause, actions, weighing.name)
        for weighing in weighed.weighings
        for cause in weighing.causes
    ]
    return b"".join([*local, weighed.filtered.written(actions), rest.SerializeToString()])


def _placement(weighing: Weighing) -> log_pb2.PlacementDeliberation:
    ranked = weighing.ranked

    def column(values: Floats | None) -> bytes:
        return b"" if values is None else values.astype("<f8", copy=False).tobytes()

    return log_pb2.PlacementDeliberation(
        placement=weighing.name,
        rows=ranked.rows.astype("<u2").tobytes(),
        acceptance=column(ranked.acceptance),
        model=column(ranked.model),
        evidence=column(ranked.evidence),
        value=column(ranked.value),
        capacity=column(ranked.capacity),
        context_weight=column(ranked.context_weight),
        lever=column(ranked.lever),
        priority=column(ranked.priority),
        uplift=column(ranked.uplift),
        fate=weighing.drawn.codes,
        slots=weighing.slots,
        nothing=weighing.nothing,
    )


def factors(numbers: Factors, told: pb.Factors) -> None:
    """Write the numbers that ranked an action as the API has them."""
    told.acceptance_probability = numbers.acceptance_probability
    told.value = numbers.value
    told.context_weight = numbers.context_weight
    told.lever = numbers.lever
    told.priority = numbers.priority
    told.capacity_cost = numbers.capacity
    if numbers.model is not None:
        told.model_probability = numbers.model
    if numbers.evidence is not None:
        told.evidence = numbers.evidence
    if numbers.uplift is not None:
        told.uplift, told.uplift_low, told.uplift_high = numbers.uplift
