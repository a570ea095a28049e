"""Write a slate as it was drawn, in the loop that drew it. Pure.

The bytes are those of :class:`service.answers.Answers`, which writes what this cannot: an answer in
which something was refused, and numbers beyond 2 to the 52. Pieces come from
:class:`service.pieces.Pieces`.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]

from features.elementary import Floats
from service import printing
from service.drawing import Bytes
from service.facts import LIKELY
from service.printing import HEAD, UNTOLD, close, double, fixed, optional
from service.reasons import FOREMOST, NOTABLE
from service.rules.kernel import YES
from service.spans import pointer
from service.writing import copy, put, real, word

BLOB, ENDS, ROWS, REASONS, INTENTS, PRICES, CHANNELS, OF_CODE, CODES = range(0, 18, 2)
"""Words of the pieces that hold where an array is, see :class:`service.spans.Spans`: all bytes,
where each piece begins, and the attributes of :class:`service.pieces.Pieces`; the next word has the
size of each."""

OF_ROW: Final = 10
(
    NAMED,
    ENDED,
    PRICE,
    LAST_PRICE,
    FIRST_REASON,
    LAST_REASON,
    FIRST_INTENT,
    LAST_INTENT,
    MUST,
    PRIOR,
) = range(OF_ROW)
"""Of an action: pieces before its rank and after its probability (one for each price, and for
none), where prices, reasons and intents begin and end, whether it is mandatory, and its prior."""

REASON: Final = 5
CONDITION, START, END, STRENGTH, SAID = range(REASON)
"""Of what may speak for an action: the context weight whose condition has to hold, or -1 and the
moments between which a lever holds; the factor, and the piece."""

(
    MATCH, MATCH_TEXT, MATCH_MIDDLE, MATCH_END,
    ACCEPTED, LIFT_TEXT, LIFT_MIDDLE, LIFT_END,
    WORTH, WORTH_TEXT, WORTH_END,
    UPLIFT, UPLIFT_TEXT, UPLIFT_LOW, UPLIFT_HIGH, UPLIFT_END,
    MANDATORY, TITLES,
) = range(18)  # fmt: skip
"""Pieces of sentences: codes, and texts cut where numbers stand; others follow."""

_TEXT: Final = 2  # of a reason
_RANK: Final = 3 << 3
_HELD_BACK: Final = 3 << 3
_PERCENT: Final = ord("%")
_CHANCES: Final = 7  # where probabilities of intents begin in what is asked of ``ranking``
_ACCEPTANCE, _VALUE, _CAPACITY, _WEIGHT, _LEVER, _PRIORITY, _MODEL, _EVIDENCE, _UPLIFT = range(
    3, 12
)
"""Of a slot, see :data:`service.placing.SLOT`."""


@numba.njit(cache=True)
def said(at: int, pieces: int, piece: int) -> int:
    """Write a piece.

    Args:
        at: Address to write to.
        pieces: Address of the words of :class:`service.pieces.Pieces`.
        piece: Number of it.
    """
    ends = word(pieces, ENDS)
    begin = word(ends, piece)
    return copy(at, word(pieces, BLOB) + begin, word(ends, piece + 1) - begin)


@numba.njit(cache=True)
def slate(  # noqa: PLR0913, PLR0917  a kernel takes what it reads
    begin: int,
    pieces: int,
    asked: Floats,
    met: Bytes,
    verdicts: int,
    placement: int,
    treatments: int,
    slots: int,
    size: int,
    filled: int,
    held_back: bool,
    probability: float,
    known: tuple[bool, bool, bool],
    now: int,
) -> int:
    """Write one slate as a field of an answer, or give :data:`service.printing.UNTOLD`.

    Args:
        begin: Address to write to; there is room.
        pieces: Address of the words of :class:`service.pieces.Pieces`.
        asked: Of the request, as :func:`service.ranking.rank` has it.
        met: [context weights] whether each holds.
        verdicts: Address of what each rule says.
        placement: Piece of its name.
        treatments: Address of the first piece of what it shows of each action.
        slots: Address of row, place, probability and factors of each slot.
        size: Bytes from one slot to the next.
        filled: How many there are.
        held_back: Whether chance left it empty.
        probability: Of the slate.
        known: Whether models, evidence and uplift are told.
        now: Milliseconds since 1970-01-01 UTC.
    """
    at = said(begin + HEAD, pieces, placement)
    for rank in range(filled):
        at = _recommendation(
            at, pieces, asked, met, verdicts, treatments, slots + size * rank, rank + 1, known, now
        )
        if at == UNTOLD:
            return UNTOLD
    if held_back:
        at = put(put(at, _HELD_BACK), 1)
    return close(begin, double(at, 4, probability), 7)


@numba.njit(cache=True)
def _recommendation(
    begin: int, pieces: int, asked: Floats, met: Bytes, verdicts: int, treatments: int, slot: int,
    rank: int, known: tuple[bool, bool, bool], now: int,
) -> int:  # fmt: skip
    row = int(real(slot, 0))
    of = word(pieces, ROWS) + 8 * OF_ROW * row
    price = 0
    for i in range(word(of, PRICE), word(of, LAST_PRICE)):
        place = word(word(pieces, PRICES), i)
        if place < 0 or carray(pointer(verdicts + 2 * place), (1,), np.uint16)[0] == YES:
            break
        price += 1
    at = said(begin + HEAD, pieces, word(of, NAMED))
    at = put(put(at, _RANK), rank)
    at = said(at, pieces, word(treatments, row) + price)
    at = _factors(at, slot, known)
    at = _reasons(at, pieces, asked, met, of, slot, known, now)
    if at == UNTOLD:
        return UNTOLD
    at = double(at, 7, real(slot, 2))
    at = said(at, pieces, word(of, ENDED) + price)
    return close(begin, at, 2)


@numba.njit(cache=True)
def _factors(begin: int, slot: int, known: tuple[bool, bool, bool]) -> int:
    """The numbers of an action."""
    at = double(begin + HEAD, 1, real(slot, _ACCEPTANCE))
    at = double(at, 2, real(slot, _VALUE))
    at = double(at, 3, real(slot, _WEIGHT))
    at = double(at, 4, real(slot, _LEVER))
    at = double(at, 5, real(slot, _PRIORITY))
    if known[0]:
        at = optional(at, 6, real(slot, _MODEL))
    if known[1]:
        at = optional(at, 7, real(slot, _EVIDENCE))
    at = double(at, 8, real(slot, _CAPACITY))
    if known[2] and not np.isnan(real(slot, _UPLIFT)):
        for i in range(3):
            at = optional(at, 9 + i, real(slot, _UPLIFT + i))
    return close(begin, at, 5)


@numba.njit(cache=True)
def _reasons(
    at: int, pieces: int, asked: Floats, met: Bytes, of: int, slot: int,
    known: tuple[bool, bool, bool], now: int,
) -> int:  # fmt: skip
    """Why an action is shown, strongest first; see ``service.reasons.Reasons.of``."""
    first, last = word(of, FIRST_REASON), word(of, LAST_REASON)
    found = np.empty(4 + last - first, np.int64)
    strengths = np.empty(4 + last - first)
    count = 0
    chance, title = -1.0, 0
    if asked[3]:
        for i in range(word(of, FIRST_INTENT), word(of, LAST_INTENT)):
            likely = asked[_CHANCES + word(word(pieces, INTENTS), 2 * i)]
            if likely >= chance:
                chance, title = likely, word(word(pieces, INTENTS), 2 * i + 1)
        strength = asked[1] + asked[2] * chance
        if chance >= LIKELY and strength >= 1:
            found[count], strengths[count] = MATCH, strength
            count += 1
    for i in range(first, last):
        one = word(pieces, REASONS) + 8 * REASON * i
        condition = word(one, CONDITION)
        holds = met[condition] != 0 if condition >= 0 else word(one, START) <= now <= word(one, END)
        if holds:
            found[count], strengths[count] = word(one, SAID), real(one, STRENGTH)
            count += 1
    probability, prior = real(slot, _ACCEPTANCE), real(of, PRIOR)
    lift = probability / prior if prior != 0 else 1.0
    if lift >= NOTABLE:
        found[count], strengths[count] = ACCEPTED, lift
        count += 1
    lifted = known[2] and not np.isnan(real(slot, _UPLIFT))
    found[count], strengths[count] = UPLIFT if lifted else WORTH, 1.0
    count += 1
    if word(of, MUST):
        found[count], strengths[count] = MANDATORY, FOREMOST
        count += 1
    order = np.empty(count, np.int64)
    printing.sorted_down(strengths, order)
    for place in order:
        piece, begin = int(found[place]), at
        if piece >= MANDATORY:
            at = said(at, pieces, piece)
            continue
        inside = said(begin + HEAD, pieces, piece)
        at = said(inside + HEAD, pieces, piece + 1)
        if piece == MATCH:
            at = said(said(at, pieces, title), pieces, MATCH_MIDDLE)
            at = _percent(at, chance)
        elif piece == ACCEPTED:
            at = fixed(at, lift, 1)
            if at == UNTOLD:
                return UNTOLD
            at = _percent(said(at, pieces, LIFT_MIDDLE), probability)
        elif piece == WORTH:
            at = fixed(at, real(slot, _VALUE), 2)
        else:
            for i in range(3):
                at = fixed(
                    said(at, pieces, UPLIFT_TEXT + i) if i else at, real(slot, _UPLIFT + i), 2
                )
                if at == UNTOLD:
                    return UNTOLD
        if at == UNTOLD:
            return UNTOLD
        at = said(at, pieces, _last(piece))
        at = close(begin, close(inside, at, _TEXT), 6)
    return at


@numba.njit(cache=True)
def _last(sentence: int) -> int:
    """The piece that ends a sentence."""
    if sentence == MATCH:
        return MATCH_END
    if sentence == ACCEPTED:
        return LIFT_END
    return WORTH_END if sentence == WORTH else UPLIFT_END


@numba.njit(cache=True)
def _percent(at: int, chance: float) -> int:
    """A chance as ``f"{chance:.0%}"`` has it."""
    at = fixed(at, chance * 100, 0)
    return UNTOLD if at == UNTOLD else put(at, _PERCENT)
