"""From what a caller says became of an action to the events that are stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from features.duration import SECOND
from features.vocabulary import Outcome, Vocabulary
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import event_pb2, log_pb2
from service import intake
from service.callers import Caller
from service.checks import EARLIEST, SKEW, Checks
from service.declared import OUTCOME_TYPE
from service.errors import Violation, invalid
from service.intake import Fit, Taken
from service.journal import Summary
from service.store import CONFLICT, DUPLICATE, ERASED, STORED, TOO_OLD, UNAVAILABLE

SOURCE: Final = "outcome/"
"""Sources of outcomes begin with it; each decision has one of its own."""

_YOUNG: Final = 10 * SECOND
_KINDS: Final = frozenset(map(int, Outcome)) - {0}
_INSTEAD_OF: Final = "instead_of"
_TELLING: Final = (UNAVAILABLE, ERASED, STORED, CONFLICT, TOO_OLD, DUPLICATE)


def check(checks: Checks, request: pb.RecordOutcomeRequest, catalogue: Mapping[str, int]) -> None:
    """Note what is wrong with a request, whatever its decision was.

    Args:
        checks: Where to note it.
        request: As it was sent.
        catalogue: Names of the actions that there are.
    """
    if request.outcome not in _KINDS:
        checks.wrong("outcome", "is absent; send what happened, such as OUTCOME_ACCEPTED")
    checks.text("event_id", request.event_id)
    if not request.presented_instead:
        return
    if request.outcome != event_pb2.OUTCOME_OVERRIDDEN:
        checks.wrong("presented_instead", "comes with OUTCOME_OVERRIDDEN only; leave it out")
    elif request.presented_instead == request.action:
        checks.wrong(
            "presented_instead",
            f"{request.action[:128]!r} is the action that was overridden; send the other one, or "
            "OUTCOME_PRESENTED",
        )
    else:
        checks.code("presented_instead", request.presented_instead, catalogue)


def taken_at(decision_id: str) -> int:
    """The moment in milliseconds that a decision id holds."""
    return int(decision_id[2:13], 16)


def on_its_way(decision_id: str, now: int) -> bool:
    """Whether a decision is so young that the store may not know it yet."""
    return abs(now - taken_at(decision_id)) < _YOUNG


def take(
    request: pb.RecordOutcomeRequest,
    decision: Summary,
    vocabulary: Vocabulary,
    counted: frozenset[int],
    caller: Caller,
    now: int,
) -> list[Taken]:
    """Turn an outcome of a known decision into what to store: one event, or two.

    Raises:
        InvalidRequest: The action was not in the answer, or a field is wrong.
    """
    if request.action and request.action not in decision.actions:
        raise invalid(
            "action",
            f"{request.action[:128]!r} was not in the answer; it had: "
            f"{', '.join(decision.actions) or 'none'}",
        )
    decided = taken_at(request.decision_id)
    told = request.occurred_at.seconds * 1000 + request.occurred_at.nanos // 1_000_000
    if request.HasField("occurred_at") and told < decided - SKEW:
        raise invalid("occurred_at", "lies before the decision; send when it happened")
    taken = []
    for event in _events(request, decision, decided):
        one = intake.take(event, "", vocabulary, counted, _speaker(caller, event), now)
        if isinstance(one, Violation):
            raise invalid(one.field, one.description)
        taken.append(one)
    return taken


def orphans(
    request: pb.RecordOutcomeRequest, vocabulary: Vocabulary, caller: Caller, now: int
) -> list[tuple[bytes, bytes]]:
    """Turn an outcome of a decision that is not known into hashes and log entries.

    It may be dated long ago: what became of a decision may be told after the decision is forgotten.

    Raises:
        InvalidRequest: A field is wrong.
    """
    checks = Checks()
    checks.code("action", request.action, vocabulary.actions)
    checks.finish()
    decided = taken_at(request.decision_id)
    if not EARLIEST <= decided <= now + SKEW:
        decided = now  # no server of ours has given such an id; its moment means nothing
    logged = []
    for event in _events(request, Summary("", request.channel, "", []), decided):
        checks = Checks()
        fit = intake.fit(checks, event, vocabulary, _speaker(caller, event), now, past=True)
        if fit is None:
            raise invalid(*checks.violations[0])
        logged.append((fit.record[8:16], _orphaned(request.decision_id, fit, caller)))
    return logged


def settled(statuses: Sequence[int]) -> int:
    """The one status that tells of all events of a request: what is new outweighs what was known.

    An action that was presented instead may have been reported as presented before.
    """
    return next(one for one in _TELLING if one in statuses)


def _events(
    request: pb.RecordOutcomeRequest, decision: Summary, decided: int
) -> list[event_pb2.Event]:
    event = event_pb2.Event(
        event_id=request.event_id or f"{request.action}/{_name(request.outcome)}",
        source=f"{SOURCE}{request.decision_id}",
        customer=event_pb2.CustomerKey(customer_id=decision.customer_id),
        type=OUTCOME_TYPE,
        sequence=request.outcome,  # presented comes before accepted
        channel=request.channel or decision.channel,
        action=request.action,
        outcome=request.outcome,
        interaction_id=decision.interaction_id,
        decision_id=request.decision_id,
    )
    if request.HasField("occurred_at"):
        event.occurred_at.CopyFrom(request.occurred_at)
    else:
        # Repeating it must give the same bytes, so its moment is the decision's own.
        event.occurred_at.FromMilliseconds(decided)
    if request.HasField("value"):
        event.value = request.value
    if not request.presented_instead:
        return [event]
    instead = event_pb2.Event()
    instead.CopyFrom(event)
    instead.ClearField("value")  # which is that of the override
    instead.action, instead.outcome = request.presented_instead, event_pb2.OUTCOME_PRESENTED
    instead.sequence = event_pb2.OUTCOME_PRESENTED
    instead.attributes[_INSTEAD_OF] = request.action
    if request.event_id:
        instead.source += "/instead"  # the same id again would be the override itself
    else:
        # The id of any presentation of this action: reported twice, it is still seen once.
        instead.event_id = f"{request.presented_instead}/{_name(instead.outcome)}"
    return [event, instead]


def _name(outcome: event_pb2.Outcome.ValueType) -> str:
    return event_pb2.Outcome.Name(outcome)


def _speaker(caller: Caller, event: event_pb2.Event) -> Caller:
    """A caller who may send outcomes, which are of a source of ours."""
    return caller._replace(sources=frozenset({event.source}))


def _orphaned(decision_id: str, fit: Fit, caller: Caller) -> bytes:
    entry = log_pb2.LogEntry(
        orphan=log_pb2.OutcomeOrphaned(decision_id=decision_id, event=fit.kept, caller=caller.name)
    )
    return entry.SerializeToString()
