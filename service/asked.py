"""Read the bytes of a DecideRequest: what was read before is known. Pure but for that memory.

An application asks the same for one customer after the other. What follows the customer is byte for
byte what it sent before and has been checked, but for what names the contact: that is cut out, and
checked on its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.callers import Caller
from service.checks import parsed
from service.inputs import Question
from service.questions import NO_CONTACT, USUAL, read

_REMEMBERED: Final = 1_000
_MOST: Final = 1_024  # bytes that are gone through here; parsing many is quicker
_KEY: Final = 0x0A  # field 1 with a length, of the request and of its CustomerKey
_HEAD: Final = 4  # such a key and its length, and those within it
_LONGEST: Final = 0x7F  # a length of one byte, and no more characters than a text may have
_CHANNEL: Final = pb.DecideRequest.CHANNEL_FIELD_NUMBER << 3 | 2
_DIRECTION: Final = pb.DecideRequest.DIRECTION_FIELD_NUMBER << 3
_PLACEMENT: Final = pb.DecideRequest.PLACEMENTS_FIELD_NUMBER << 3 | 2
_BEFORE: Final = (_CHANNEL, _DIRECTION, _PLACEMENT)
_NEW: Final = (
    pb.DecideRequest.INTERACTION_ID_FIELD_NUMBER << 3 | 2,
    pb.DecideRequest.PARENT_INTERACTION_ID_FIELD_NUMBER << 3 | 2,
    pb.DecideRequest.AGENT_ID_FIELD_NUMBER << 3 | 2,
    pb.DecideRequest.SKILL_FIELD_NUMBER << 3 | 2,
    pb.DecideRequest.QUEUE_FIELD_NUMBER << 3 | 2,
)
"""What names a contact and is new in each request, in the order of the numbers."""

_END: Final = b"\xff"  # higher than what is new, and no length of one byte


class Asked(NamedTuple):
    """A request that was read."""

    identifier: tuple[str, str] | None  # namespace and value that name the customer; None: the id
    question: Question
    include_trace: bool
    include_features: bool
    written: bytes  # as it is logged: every field of it is known, and in order


class Reader:
    """Reads what callers send, for one configuration."""

    def __init__(self, business: Business) -> None:
        self._business = business
        self._known: dict[bytes, Asked] = {}  # by what follows the customer, less what is new

    def read(self, sent: bytes, caller: Caller, now: int) -> Asked:
        """Read a request; see :func:`service.questions.read`.

        Raises:
            InvalidRequest: The bytes are no request, or a field is wrong; all wrong ones are named.
            Denied: See :func:`service.questions.read`.
        """
        customer_id, rest = _customer(sent)
        asked = self._known.get(rest)
        if asked is not None:
            question = Question(customer_id, *asked.question[1:])
        else:
            rest, new = _parted(rest)
            asked = self._known.get(rest)
            if asked is None:
                return self._read(sent, caller, now, rest)
            question = _within(asked.question, customer_id, new)
        caller.need("decide")
        return Asked(None, question, *asked[2:4], sent)

    def _read(self, sent: bytes, caller: Caller, now: int, rest: bytes) -> Asked:
        request = parsed(sent, pb.DecideRequest.FromString)
        who, question = read(request, self._business, caller, now)
        written = request.SerializeToString(deterministic=True)
        trace, features = request.include_trace, request.include_features
        asked = Asked(who.identifier, question, trace, features, written)
        # Only where the request is written as we write it do its bytes say all that it says.
        if rest and written == sent and _usual(request):
            if len(self._known) >= _REMEMBERED:  # by one who goes through all there are
                self._known.clear()
            alone = question._replace(contact=NO_CONTACT, interaction_id="")
            self._known[rest] = asked._replace(question=alone)
        return asked


def _usual(request: pb.DecideRequest) -> bool:
    """Whether it says nothing that has to be judged again."""
    return USUAL.issuperset(field.number for field, _ in request.ListFields())


def _within(question: Question, customer_id: str, new: list[str]) -> Question:
    """What was asked before, of this customer and within this contact."""
    interaction_id, _, agent_id, skill, queue = new
    return question._replace(
        customer_id=customer_id,
        contact={"agent_id": agent_id, "skill": skill, "queue": queue},
        interaction_id=interaction_id,
    )


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


def _parted(rest: bytes) -> tuple[bytes, list[str]]:
    """What repeats of that which follows the customer, and what is new; empty for any other.

    What is new stands in one piece, between fields whose numbers are lower and higher. So what
    repeats was written by us where it is known, and what is said here is written alike.
    """
    if len(rest) > _MOST:
        return b"", []
    sent, at, new = rest + _END, 0, []
    try:
        while (tag := sent[at]) in _BEFORE:
            size = sent[at + 1]
            if size > _LONGEST:
                return b"", []
            at += 2 if tag == _DIRECTION else size + 2
        begins = at
        for tag in _NEW:
            value = ""
            if sent[at] == tag:
                size = sent[at + 1]
                if size > _LONGEST:
                    return b"", []
                at += size + 2
                value = sent[at - size : at].decode()
            new.append(value)
        # Another order, or a field twice; a NUL, or the length of an empty text, never written.
        if sent[at] <= _NEW[-1] or 0 in sent[begins:at]:
            return b"", []
    except (IndexError, UnicodeDecodeError):
        return b"", []
    return rest[:begins] + rest[at:], new
