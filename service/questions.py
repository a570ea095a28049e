"""Turn a DecideRequest into a question, or say what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from features.duration import DAY
from features.profile import Value
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service import intake
from service.business import Business
from service.callers import Caller
from service.checks import Checks
from service.intake import Named
from service.pipeline import Question

_MAX_PLACEMENTS: Final = 8
_MAX_CONTEXT: Final = 64
_MAX_UTTERANCE: Final = 2_000
_MAX_ACTIONS: Final = 20
_MAX_NAMED: Final = 1_000
_LONGEST_HOLD: Final = 30 * DAY
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
    for field in ("allow_actions", "block_actions"):
        _named(checks, field, getattr(request, field), business)
    held = _held(checks, request)
    if request.HasField("seed") and not (request.dry_run or request.HasField("as_of")):
        checks.wrong("seed", "needs dry_run or as_of, so that logged chance stays chance")
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
        contact={name: getattr(request, name) for name in ("agent_id", "skill", "queue")},
        interaction_id=request.interaction_id,
        max_actions=most,
        as_of=as_of,
        allow=list(dict.fromkeys(request.allow_actions)),
        block=list(dict.fromkeys(request.block_actions)),
        hold_for=held,
        dry_run=request.dry_run,
        seed=request.seed if request.HasField("seed") else None,
    )


def _named(checks: Checks, field: str, names: Sequence[str], business: Business) -> None:
    if len(names) > _MAX_NAMED:
        checks.wrong(field, f"has {len(names)} entries; send at most {_MAX_NAMED}")
        return
    known = dict.fromkeys(business.rows, 1) if names else {}
    for i, name in enumerate(names):
        checks.code(f"{field}[{i}]", name, known, required=True)


def _held(checks: Checks, request: pb.DecideRequest) -> int | None:
    """How long the answer may wait, in milliseconds; None: not said."""
    if not request.HasField("hold_for"):
        return None
    held = request.hold_for.seconds * 1000 + request.hold_for.nanos // 1_000_000
    if not 0 < held <= _LONGEST_HOLD:
        checks.wrong("hold_for", f"{held / 1000:g} s is out of range; send up to 30 days")
    return held


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
