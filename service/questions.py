"""Turn a DecideRequest into a question, or say what is wrong with it. Pure but for a memory.

An application asks the same for one customer after the other: what follows the customer is byte for
byte what it sent before, and has been checked (:class:`Reader`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from features.duration import DAY
from features.profile import Value
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service import intake
from service.business import Business
from service.callers import Caller
from service.checks import SHORT, Checks, parsed
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
_NO_CONTACT: Final = {name: "" for name, _ in _CONTACT}
_TEXTS: Final = frozenset(
    (
        _LOCALE,
        _INTERACTION,
        pb.DecideRequest.PARENT_INTERACTION_ID_FIELD_NUMBER,
        *(number for _, number in _CONTACT),
    )
)
_USUAL: Final = _TEXTS | {
    _CUSTOMER,
    _CHANNEL,
    _DIRECTION,
    _PLACEMENTS,
    _ASSURANCE,
    _DRY_RUN,
    pb.DecideRequest.INCLUDE_TRACE_FIELD_NUMBER,
    pb.DecideRequest.INCLUDE_FEATURES_FIELD_NUMBER,
}
_REPEATED: Final = _USUAL - _TEXTS | {_LOCALE}
"""Fields of which an application has few values; what names a contact is new in each request."""

_REMEMBERED: Final = 1_000
_KEY: Final = 0x0A  # field 1 with a length, of the request and of its CustomerKey
_HEAD: Final = 4  # such a key and its length, and those within it
_LONGEST: Final = 0x7F  # a length of one byte


class Asked(NamedTuple):
    """A request that was read."""

    who: Named
    question: Question
    include_trace: bool
    include_features: bool
    written: bytes  # as it is logged: every field of it is known, and in order


class Reader:
    """Reads what callers send, for one configuration."""

    def __init__(self, business: Business) -> None:
        self._business = business
        self._known: dict[bytes, Asked] = {}  # by what follows the customer

    def read(self, sent: bytes, caller: Caller, now: int) -> Asked:
        """Read a request; see :func:`read`.

        Raises:
            InvalidRequest: The bytes are no request, or a field is wrong; all wrong ones are named.
            Denied: See :func:`read`.
        """
        customer_id, rest = _customer(sent)
        asked = self._known.get(rest) if customer_id else None
        if asked is None:
            return self._read(sent, caller, now, rest if customer_id else None)
        caller.need("decide")
        question = Question(customer_id, *asked.question[1:])
        return Asked(Named(customer_id), question, *asked[2:4], sent)

    def _read(self, sent: bytes, caller: Caller, now: int, rest: bytes | None) -> Asked:
        request = parsed(sent, pb.DecideRequest.FromString)
        who, question = read(request, self._business, caller, now)
        written = request.SerializeToString(deterministic=True)
        asked = Asked(who, question, request.include_trace, request.include_features, written)
        # Only where the request is written as we write it do its bytes say all that it says.
        if rest is not None and written == sent and _repeated(request):
            if len(self._known) >= _REMEMBERED:  # by one who goes through all there are
                self._known.clear()
            self._known[rest] = asked
        return asked


def _repeated(request: pb.DecideRequest) -> bool:
    """Whether others like it will come."""
    return all(field.number in _REPEATED for field, _ in request.ListFields())


def _customer(sent: bytes) -> tuple[str, bytes]:
    """The customer's id and what follows, as requests are usually written; empty for any other."""
    if len(sent) <= _HEAD or not sent[0] == sent[2] == _KEY or sent[1] > _LONGEST:
        return "", b""
    end = sent[1] + 2
    if sent[3] != sent[1] - 2 or len(sent) < end:
        return "", b""
    try:
        customer_id = sent[_HEAD:end].decode()
    except UnicodeDecodeError:
        return "", b""
    return (
        (customer_id, sent[end:]) if customer_id.strip() and "\0" not in customer_id else ("", b"")
    )


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
    question = _usual(said, business) if _USUAL.issuperset(said) else None
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
        {name: said.get(number, "") for name, number in _CONTACT} if texts else _NO_CONTACT,
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
