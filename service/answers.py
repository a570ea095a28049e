"""Turn decisions into answers. Pure.

They are written as the bytes that protobuf would write, field by field in the order of their
numbers: what is the same in many answers is written once, and no message is built of the rest.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf import timestamp_pb2

from features.record import NEVER, LogId
from rapport.v1 import decision_pb2 as pb
from service import VERSION, pieces, trace, wire
from service.business import Business
from service.catalogue import Price, Treatment
from service.facts import Fact
from service.models import Models
from service.reasons import Reason
from service.slates import Answer, Shown, Slate
from service.weighed import Weighed
from service.wire import Memory, amounts, nested, text, whole

_INTENTS_SHOWN: Final = 5
_SAID: Final = 4_096  # sentences that come back; most do within the hour
_FACTS: Final = 1_024  # many are of one customer alone, and not asked for again
_RANKS: Final = tuple(whole(3, rank) for rank in range(1, 21))  # no placement shows more


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
        release=business.release.name,
        author=business.release.author,
        approver=business.release.approver,
    )


class _Piece(NamedTuple):
    """What of a recommendation is the same whenever it is made at this price."""

    head: bytes  # what stands before its rank
    treatment: bytes
    tail: bytes  # what stands after its probability
    of: tuple[Treatment, Price | None]  # its key holds where these are


class Answers:
    """Writes answers of one configuration.

    Args:
        business: Whose decisions they are.
    """

    def __init__(self, business: Business) -> None:
        self._business = business
        self._names = [text(1, action.name) for action in business.actions]
        self._pieces: dict[tuple[int, int, int], _Piece] = {}
        self._versions = ("", nested(11, versions(business, None).SerializeToString()))

    def written(self, answer: Answer, decision_id: str) -> bytes:
        """Write the :class:`pb.DecideResponse` to a caller, trace and vector aside.

        Args:
            answer: The decision.
            decision_id: Empty where nothing is recorded.
        """
        weighed = answer.weighed
        parts = [
            text(1, decision_id),
            nested(2, wire.moment(weighed.now)),
            whole(3, weighed.rung),
            *map(_advisories.__getitem__, answer.advisories),
            *self._said(answer),
            nested(10, _read(weighed)),
            self._made_with(weighed.models),
            text(12, weighed.group),
        ]
        return b"".join(parts)

    def _made_with(self, models: Models | None) -> bytes:
        bundle = "" if models is None else models.manifest.version
        known, found = self._versions
        if known != bundle:
            found = nested(11, versions(self._business, models).SerializeToString())
            self._versions = bundle, found
        return found

    def _said(self, answer: Answer) -> list[bytes]:
        """Intents, facts and slates; most are written by the kernel that drew the slates."""
        weighed = answer.weighed
        said = weighed.choice.said if answer.as_drawn else None
        if said is not None:
            return [said]
        return [
            *amounts(5, weighed.intents[:_INTENTS_SHOWN]),
            *map(_facts.__getitem__, weighed.told),
            *map(self._slate, answer.slates),
        ]

    def _slate(self, slate: Slate) -> bytes:
        parts = [
            text(1, slate.placement),
            *map(self._recommendation, _RANKS, slate.shown),
            whole(3, slate.held_back),
            wire.double(4, slate.probability),
        ]
        return nested(7, b"".join(parts))

    def _recommendation(self, rank: bytes, one: Shown) -> bytes:
        piece = self._pieces.get((one.row, id(one.treatment), id(one.price)))
        before, treatment, after, _ = piece or self._piece(one)
        factors = trace.factors(one.factors)
        if one.instead_of is not None:
            after = text(8, self._business.actions[one.instead_of].name) + after
        parts = (
            before,
            rank,
            treatment,
            bytes((5 << 3 | 2, len(factors))),
            factors,
            *map(_reasons.__getitem__, one.reasons),
            wire.double(7, one.probability),
            after,
        )
        return nested(2, b"".join(parts))

    def _piece(self, one: Shown) -> _Piece:
        """Make a piece; there are no more than treatments by prices of the configuration."""
        action, treatment, price = self._business.actions[one.row], one.treatment, one.price
        currency = self._business.policies.currency
        piece = _Piece(
            pieces.before(action),
            pieces.expressed(treatment, price, currency),
            pieces.after(action, price, currency),
            (treatment, price),
        )
        self._pieces[one.row, id(treatment), id(price)] = piece
        return piece


def features(weighed: Weighed) -> bytes:
    """The vector that the models saw, as a field of the answer; empty where none scored."""
    if weighed.vector is None or weighed.models is None:
        return b""
    plan = weighed.models.plan
    told = pb.FeatureVector(
        digest=plan.digest,
        names=plan.names[: len(weighed.vector)],
        values=weighed.vector.tolist(),
    )
    return nested(9, told.SerializeToString())


def traced(candidates: list[pb.Candidate]) -> bytes:
    """Every candidate, as a field of the answer: appended, it belongs to it."""
    return pb.DecideResponse(trace=candidates).SerializeToString()


def advisory(reason: Reason) -> bytes:
    """One more advisory, as a field of the answer: appended, it comes after the others."""
    return _advisories[reason]


def _reason(reason: Reason) -> bytes:
    return text(1, reason.code) + text(2, reason.text)


_advisories: Final[Memory[Reason]] = Memory(lambda reason: nested(4, _reason(reason)), _SAID)
_reasons: Final[Memory[Reason]] = Memory(lambda reason: nested(6, _reason(reason)), _SAID)


class _Facts(Memory[Fact]):
    """Facts; most are counts and kinds that many customers have in common."""

    def __missing__(self, fact: Fact) -> bytes:
        # Minus zero is equal to zero, and is written otherwise.
        return super().__missing__(fact) if fact.magnitude else pieces.fact(fact)


_facts: Final = _Facts(pieces.fact, _FACTS)


def _read(weighed: Weighed) -> bytes:
    """What a :class:`pb.ReadIds` holds."""
    known = weighed.inputs.known
    parts = []
    for number, id in enumerate((known.timeline_id, known.ledger_id, known.profile_id), 1):
        if id != NEVER:  # as in _log_id, without three calls
            named = b"%d-%d" % id
            parts.append(bytes((number << 3 | 2, len(named))) + named)
    parts.append(whole(4, weighed.events))
    for one in known.members:
        parts.append(nested(5, text(1, one.customer_id) + _log_id(2, one.timeline_id)))
    return b"".join(parts)


def _log_id(number: int, id: LogId) -> bytes:
    if id == NEVER:
        return b""
    named = b"%d-%d" % id
    return bytes((number << 3 | 2, len(named))) + named
