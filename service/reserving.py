"""Write what reserves an action: its record and its log entry. Pure.

An answer waits for this, so the bytes are put together from what is the same in every decision.
What they mean is in ``features.record`` and in ``ActionReserved`` of ``log.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from features.record import interaction_hash, pack_reservation, reservation_hash
from service.business import Business
from service.declared import OUTCOME_TYPE
from service.store import Hold
from service.weighed import Want, Weighed
from service.wire import varint

# Tags and lengths of the fields of a LogEntry and of its ActionReserved.
_CUSTOMER: Final = b"\x0a"
_RESERVED: Final = b"\x3a\x45"  # 69 bytes, as a record has 40 and the id of a decision 25
_RECORD: Final = b"\x0a\x28"
_DECISION: Final = b"\x12\x19"


class Reserving:
    """Writes reservations for one configuration."""

    def __init__(self, business: Business) -> None:
        vocabulary = business.vocabulary
        self._type = vocabulary.type_codes[OUTCOME_TYPE]
        self._channels = vocabulary.channels
        self._actions = [(one.name, vocabulary.actions[one.name]) for one in business.actions]
        self._usual = business.policies.reserves_for_ms

    def holds(self, weighed: Weighed, wants: Iterable[Want], decision_id: str) -> list[Hold]:
        """What the store is asked of each want; the id of the decision has 25 characters."""
        question = weighed.inputs.question
        seconds = -(-(question.hold_for or self._usual) // 1000)
        within = interaction_hash(question.interaction_id)
        channel = self._channels[question.channel]
        customer = question.customer_id.encode()
        before = b"%b%b%b%b%b" % (_CUSTOMER, varint(len(customer)), customer, _RESERVED, _RECORD)
        after = b"%b%b" % (_DECISION, decision_id.encode())
        holds = []
        for want in wants:
            name, code = self._actions[want.row]
            record = pack_reservation(
                weighed.now, reservation_hash(decision_id, name), within, seconds, self._type,
                code, channel, question.direction,
            )  # fmt: skip
            holds.append(Hold(record, want.caps, before + record + after))
        return holds
