"""Turn decisions into log entries. Pure.

They are written as the bytes that protobuf would write, field by field in the order of their
numbers, by one loop (:mod:`service.entering`). What is no number of the decision is
prepared for it: most of that is the same in many of them, and written once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from itertools import accumulate
from typing import Final

import numpy as np

from service import deliberation, entering
from service.business import Business
from service.dropping import UNKNOWN
from service.entering import SCORED
from service.models import Models
from service.reasons import Reason
from service.slates import Answer
from service.spans import Spans
from service.wire import Kept, amounts, double, nested, text, whole

_SAID: Final = 4_096  # reservations that come back
_MODELS: Final = 4  # that are laid out at a time
_SIZE: Final = 16_384  # bytes of an entry, at first
_NOWHERE: Final = Spans([], [0] * entering.WORDS)


class Entries:
    """Writes log entries of one configuration.

    Args:
        business: Whose decisions they are.
    """

    def __init__(self, business: Business) -> None:
        self._names = [action.name for action in business.actions]
        self._models = Kept[Models, Spans](_MODELS)
        self._prices: tuple[dict[str, float], bytes] = {}, b""
        self._out = np.empty(_SIZE, np.uint8)

    def written(self, answer: Answer, request: bytes, response: bytes, caller: str) -> bytes:
        """Write the :class:`log_pb2.LogEntry` of a decision: what it takes to compute it again.

        Args:
            answer: The decision.
            request: Of the caller, every field of it known and in order.
            response: The answer, trace and vector aside, as written.
            caller: Who asked.
        """
        weighed = answer.weighed
        inputs, sight, models = weighed.inputs, weighed.sight, weighed.models
        rows: list[int] = []
        laid, how = _NOWHERE, 0
        if models is not None and sight.scored:
            _, laid = self._models.get(id(models)) or self._models.keep(
                models, self._lay_out(models)
            )
            how = SCORED
            if sight.layout.actions:
                rows = answer.rows
        front = (
            inputs.question.customer_id.encode(), request,
            response, caller.encode(), self._inputs(answer),
        )  # fmt: skip
        own = *map(len, front), len(rows), laid.address, inputs.clock, inputs.seed
        actions, choice = len(self._names), weighed.choice.block[0]
        for counted in (False, True):
            numbers, following, parts = deliberation.given(
                weighed, actions, rows, how, counted=counted
            )
            asked = _packing(len(following))(*numbers, *own, *following)
            given = np.frombuffer(b"".join((asked, *front, *parts)), np.uint8)
            size = entering.entry(given, sight.block, choice, self._out)
            if size > len(self._out):
                self._out = np.empty(2 * size, np.uint8)
                entering.entry(given, sight.block, choice, self._out)
            if size != UNKNOWN:
                break
        return self._out[:size].tobytes()

    def _lay_out(self, models: Models) -> Spans:
        """Lay out what depends on models and catalogue alone."""
        usual, layout = models.usual, models.layout
        names = [name.encode() for name in self._names]
        return Spans(
            [
                usual.rows,
                usual.hiding,
                usual.felt,
                np.array([np.nan]),
                np.frombuffer(b"".join(names), np.uint8),
                np.array([0, *accumulate(map(len, names))], np.int64),
                np.frombuffer(nested(4, models.plan.digest.encode()), np.uint8),
            ],
            [
                layout.features, usual.pair_at, usual.rows.shape[1], layout.at_numbers,
                layout.pairs, layout.rows,
            ],
        )  # fmt: skip

    def _inputs(self, answer: Answer) -> bytes:
        """What a :class:`log_pb2.DecisionInputs` holds behind the seed and the clock."""
        inputs = answer.weighed.inputs
        known = inputs.known
        parts = [self._priced(inputs.prices)]
        if known.unread is not None or inputs.unscored is not None:
            why = ((3, known.unread), (4, inputs.unscored))
            parts[:0] = [nested(number, _reason(one)) for number, one in why if one is not None]
        if inputs.full_ceilings:
            parts += [nested(6, name.encode()) for name in sorted(inputs.full_ceilings)]
        for want, reply in answer.replies:
            asked = _asked(want.placement, self._names[want.row], reply.refused)
            parts.append(nested(7, asked + double(5, want.probability)))
        if known.unreadable:
            parts += [nested(8, _reason(one)) for one in known.unreadable]
        if inputs.greedy:
            parts.append(whole(9, True))
        return b"".join(parts)

    def _priced(self, prices: Mapping[str, float]) -> bytes:
        """What resources cost; they seldom change their prices."""
        known, written = self._prices
        if known != prices:
            written = b"".join(amounts(5, sorted(prices.items())))
            if all(prices.values()):  # zero is equal to minus zero, and is written otherwise
                self._prices = dict(prices), written
        return written


@cache
def _packing(following: int) -> Callable[..., bytes]:
    """Packs what is asked, with so many numbers behind; the seed is one without a sign."""
    return struct.Struct(f"={entering.SEED}qQ{following}q").pack


def _reason(reason: Reason) -> bytes:
    return text(1, reason.code) + text(2, reason.text)


@lru_cache(_SAID)
def _asked(placement: str, action: str, refused: str) -> bytes:
    """A reservation and what was said of it, but for its probability."""
    named = text(1, placement) + text(2, action)
    return named + whole(3, not refused) + text(4, refused)
