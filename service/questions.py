"""Turn a DecideRequest into a question, or say what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from features.duration import DAY
from features.profile import Value
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service import intake
from service.business import Business
from service.callers import Caller
from service.checks import SHORT, Checks
from service.inputs import Question
from service.intake import Named

_MAX_PLACEMENTS: Final = 8
_MAX_CONTEXT: Final = 64
_MAX_UTTERANCE: Final = 2_000
_MAX_ACTIONS: Final = 20
_MAX_NAMED: Final = 1_000
_LONGEST_HOLD: Final = 30 * DAY
_DIRECTIONS: Final = frozenset(map(int, Direction))
_ASSURANCES: Final = frozenset(pb.Assurance.values())

_CUSTOMER: Final = pb.DecideRequest.CUSTOMER_FIELD_NUMBER
_CHANNEL: Final = pb.DecideRequest.CHANNEL_FIELD_NUMBER
_DIRECTION: Final = pb.DecideRequest.DIRECTION_FIELD_NUMBER
_PLACEMENTS: Final = pb.DecideRequest.PLACEMENTS_FIELD_NUMBER
_ASSURANCE: Final = pb.DecideRequest.ASSURANCE_FIELD_NUMBER
_LOCALE: Final = pb.DecideRequest.LOCALE_FIELD_NUMBER
_INTERACTION: Final = pb.DecideRequest.INTERACTION_ID_FIELD_NUMBER
_DRY_RUN: Final = pb.DecideRequest.DRY_RUN_FIELD_NUMBER
_CONTACT: Final = (
    ("agent_id", pb.DecideRequest.AGENT_ID_FIELD_NUMBER),
    ("skill", pb.DecideRequest.SKILL_FIELD_NUMBER),
    ("queue", pb.DecideRequest.QUEUE_FIELD_NUMBER),
)
NO_CONTACT: Final = {name: "" for name, _ in _CONTACT}
_TEXTS: Final = frozenset(
    (
        _LOCALE,
        _INTERACTION,
        pb.DecideRequest.PARENT_INTERACTION_ID_FIELD_NUMBER,
        *(number for _, number in _CONTACT),
    )
)
USUAL: Final = _TEXTS | {
    _CUSTOMER,
    _CHANNEL,
    _DIRECTION,
    _PLACEMENTS,
    _ASSURANCE,
    _DRY_RUN,
    pb.DecideRequest.INCLUDE_TRACE_FIELD_NUMBER,
    pb.DecideRequest.INCLUDE_FEATURES_FIELD_NUMBER,
}
"""Fields that the configuration alone judges: what was right with them once stays right."""


def read(
    request: pb.DecideRequest, business: Business, caller: Caller, now: int
) -> tuple[Named, Question]:
    """Check a request.

    Returns:
        Whom it is about, and the question; its customer id is empty where an identifier has yet to
        be resolved.

    Raises:
        InvalidRequest: A field is wrong; all wrong fields are named.
        Denied: The caller lacks scope ``decide``, or ``replay`` where ``as_of`` is set.
    """
    # Most requests say little: only what is said is looked at, and where anything may be wrong
    # with that, everything is.
    said = {field.number: value for field, value in request.ListFields()}
    question = _usual(said, business) if USUAL.issuperset(said) else None
    if question is None:
        return checked(request, business, caller, now)
    caller.need("decide")
    return Named(question.customer_id), question


def _usual(said: Mapping[int, Any], business: Business) -> Question | None:
    """Read what is said, by number of its field; None where anything may be wrong with it."""
    texts = _TEXTS.intersection(said)
    for number in texts:
        if len(said[number]) > SHORT or "\x00" in said[number]:
            return None
    customer_id = said[_CUSTOMER].customer_id if _CUSTOMER in said else ""
    if not customer_id.strip() or len(customer_id) > SHORT or "\x00" in customer_id:
        return None
    channel, direction = said.get(_CHANNEL, ""), said.get(_DIRECTION, 0)
    assurance, placements = said.get(_ASSURANCE, 0), list(said.get(_PLACEMENTS, ()))
    if (
        channel not in business.vocabulary.channels
        or direction not in _DIRECTIONS
        or assurance not in _ASSURANCES
        or len(placements) > _MAX_PLACEMENTS
        or (len(placements) > 1 and len(set(placements)) < len(placements))
    ):
        return None
    for name in placements:
        placement = business.placements.get(name)
        if placement is None or channel not in placement.channels:
            return None
    return Question(
        customer_id,
        channel,
        direction or int(Direction.inbound),
        placements or _of_channel(channel, business),
        max(1, assurance),
        said.get(_LOCALE, ""),
        "",
        {},
        {name: said.get(number, "") for name, number in _CONTACT} if texts else NO_CONTACT,
        said.get(_INTERACTION, ""),
        None,
        None,
        [],
        [],
        None,
        said.get(_DRY_RUN, False),
    )


def checked(
    request: pb.DecideRequest, business: Business, caller: Caller, now: int
) -> tuple[Named, Question]:
    """Check everything of a request: the same as :func:`read`, for every request."""
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
        customer_id=who.customer_id or "",
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
    return asked or _of_channel(request.channel, business)


def _of_channel(channel: str, business: Business) -> list[str]:
    """Every placement of a channel."""
    return [name for name, one in business.placements.items() if channel in one.channels]


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
