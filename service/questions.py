"""Turn a DecideRequest into a question, or say what is wrong with it. Pure."""

from __future__ import annotations

from typing import Final

from features.profile import Value
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service import intake
from service.business import Business
from service.callers import Caller
from service.checks import Checks
from service.decide import Question
from service.intake import Named

_MAX_PLACEMENTS: Final = 8
_MAX_CONTEXT: Final = 64
_MAX_UTTERANCE: Final = 2_000
_MAX_ACTIONS: Final = 20
_DIRECTIONS: Final = frozenset(map(int, Direction))
_ASSURANCES: Final = frozenset(pb.Assurance.values())


def read(
    request: pb.DecideRequest, business: Business, caller: Caller, now: int
) -> tuple[Named, Question]:
    """Check a request.

    Returns:
        Whom it is about, and the question with an empty customer id.

    Raises:
        InvalidRequest: A field is wrong; all wrong fields are named.
        Denied: The caller lacks scope ``decide``, or ``replay`` where ``as_of`` is set.
    """
    caller.need("replay" if request.HasField("as_of") else "decide")
    checks = Checks()
    vocabulary = business.vocabulary
    who = intake.customer(checks, request.customer, vocabulary)
    checks.code("channel", request.channel, vocabulary.channels, required=True)
    direction = checks.enumerated("direction", request.direction, _DIRECTIONS)
    for field in ("interaction_id", "parent_interaction_id", "agent_id", "skill", "queue",
                  "locale"):  # fmt: skip
        checks.text(field, getattr(request, field))
    checks.text("utterance", request.utterance, most=_MAX_UTTERANCE)
    assurance = checks.enumerated("assurance", request.assurance, _ASSURANCES)
    most = None
    if request.HasField("max_actions"):
        most = request.max_actions
        if not 1 <= most <= _MAX_ACTIONS:
            checks.wrong("max_actions", f"{most} is out of range; send 1 to {_MAX_ACTIONS}")
    as_of = None
    if request.HasField("as_of"):
        as_of = checks.moment("as_of", request, "as_of", now, past=True)
    placements = _placements(checks, request, business)
    context = _context(checks, request, business)
    checks.finish()
    return who, Question(
        customer_id="",
        channel=request.channel,
        direction=direction or int(Direction.inbound),
        placements=placements,
        assurance=max(1, assurance),
        locale=request.locale,
        utterance=request.utterance,
        context=context,
        max_actions=most,
        as_of=as_of,
    )


def _placements(checks: Checks, request: pb.DecideRequest, business: Business) -> list[str]:
    known = dict.fromkeys(business.placements, 1)
    asked = list(request.placements)
    if len(asked) > _MAX_PLACEMENTS:
        checks.wrong("placements", f"has {len(asked)} entries; send at most {_MAX_PLACEMENTS}")
        return []
    for i, name in enumerate(asked):
        field = f"placements[{i}]"
        if name in asked[:i]:
            checks.wrong(field, f"{name!r} is asked for twice; leave one out")
        elif checks.code(field, name, known, required=True):
            channels = business.placements[name].channels
            if request.channel not in channels:
                checks.wrong(
                    field,
                    f"{name!r} is not on channel {request.channel!r}; "
                    f"its channels: {', '.join(channels)}",
                )
    return asked or [
        name for name, one in business.placements.items() if request.channel in one.channels
    ]


def _context(checks: Checks, request: pb.DecideRequest, business: Business) -> dict[str, Value]:
    if len(request.context) > _MAX_CONTEXT:
        checks.wrong("context", f"has {len(request.context)} entries; send at most {_MAX_CONTEXT}")
        return {}
    declared = business.vocabulary.context
    values = {}
    for name, sent in request.context.items():
        field = f"context.{name[:64]}"
        value = checks.value(field, sent, declared.get(name), declared)
        if value is not None:
            values[name] = value
    return values
