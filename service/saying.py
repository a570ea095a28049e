"""Write a slate as it was drawn, in the loop that drew it. Pure.

The bytes are those of :class:`service.answers.Answers`, which writes what this cannot: an answer in
which something was refused, and numbers beyond 2 to the 52. Pieces come from
:class:`service.pieces.Pieces`.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import printing, ranking
from service.arbitration import FOREMOST, NOTABLE
from service.drawing import Bytes
from service.facts import LIKELY
from service.printing import HEAD, UNTOLD, close, copy, double, fixed, optional
from service.rules.kernel import YES, Shorts

OF_ROW: Final = 10
NAMED, ENDED, PRICE, PRICES, FIRST_REASON, LAST_REASON, FIRST_INTENT, LAST_INTENT, MUST, PRIOR = (
    range(OF_ROW)
)
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


@numba.njit(cache=True)
def slate(
    pieces: tuple[Bytes, Integers, Integers, Integers, Integers, Integers],
    conditions: Floats,
    asked: Floats,
    verdicts: Shorts,
    placement: int,
    treatments: Integers,
    slots: Floats,
    drawn: tuple[float, float],
    known: tuple[bool, bool, bool],
    now: int,
    out: Bytes,
    begin: int,
) -> int:
    """Write one slate as a field of an answer, or give :data:`service.printing.UNTOLD`.

    Args:
        pieces: Blob, ends, rows, reasons, intents and prices of :class:`service.pieces.Pieces`.
        conditions: [context weights, 5] when each holds.
        asked: Of the request, as :func:`service.ranking.rank` has it.
        verdicts: [rules] what each says.
        placement: Piece of its name.
        treatments: [rows] first piece of what the placement shows of each action.
        slots: [filled, SLOT] row, place, probability and factors of each, see ``choosing``.
        drawn: Whether the slate is held back, and its probability.
        known: Whether models, evidence and uplift are told.
        now: Milliseconds since 1970-01-01 UTC.
        out: Gets the bytes; has room for them.
        begin: Where.
    """
    blob, ends = pieces[0], pieces[1]
    at = copy(out, begin + HEAD, blob, ends, placement)
    for rank in range(slots.shape[0]):
        at = _recommendation(
            pieces, conditions, asked, verdicts, treatments, slots[rank], rank + 1, known, now,
            out, at,
        )  # fmt: skip
        if at == UNTOLD:
            return UNTOLD
    if drawn[0] > 0:
        out[at], out[at + 1] = _HELD_BACK, 1
        at += 2
    at = double(out, at, 4, drawn[1])
    return close(out, begin, at, 7)


@numba.njit(cache=True)
def _recommendation(
    pieces: tuple[Bytes, Integers, Integers, Integers, Integers, Integers],
    conditions: Floats, asked: Floats, verdicts: Shorts, treatments: Integers, slot: Floats,
    rank: int, known: tuple[bool, bool, bool], now: int, out: Bytes, begin: int,
) -> int:  # fmt: skip
    blob, ends, rows, _, _, prices = pieces
    row = int(slot[0])
    of = rows[row]
    price = 0
    for place in prices[of[PRICE] : of[PRICES]]:
        if place < 0 or verdicts[place] == YES:
            break
        price += 1
    at = copy(out, begin + HEAD, blob, ends, of[NAMED])
    out[at], out[at + 1] = _RANK, rank
    at = copy(out, at + 2, blob, ends, treatments[row] + price)
    at = _factors(slot[3:], known, out, at)
    at = _reasons(pieces, conditions, asked, of, slot[3:], known, now, out, at)
    if at == UNTOLD:
        return UNTOLD
    at = double(out, at, 7, slot[2])
    at = copy(out, at, blob, ends, of[ENDED] + price)
    return close(out, begin, at, 2)


@numba.njit(cache=True)
def _factors(slot: Floats, known: tuple[bool, bool, bool], out: Bytes, begin: int) -> int:
    """The numbers of an action, from ``ranking.ACCEPTANCE`` on."""
    at = double(out, begin + HEAD, 1, slot[ranking.ACCEPTANCE - 1])
    at = double(out, at, 2, slot[ranking.VALUE - 1])
    at = double(out, at, 3, slot[ranking.WEIGHT - 1])
    at = double(out, at, 4, slot[ranking.LEVER - 1])
    at = double(out, at, 5, slot[ranking.PRIORITY - 1])
    if known[0]:
        at = optional(out, at, 6, slot[ranking.MODEL - 1])
    if known[1]:
        at = optional(out, at, 7, slot[ranking.EVIDENCE - 1])
    at = double(out, at, 8, slot[ranking.CAPACITY - 1])
    if known[2] and not np.isnan(slot[ranking.UPLIFT - 1]):
        for i in range(3):
            at = optional(out, at, 9 + i, slot[ranking.UPLIFT - 1 + i])
    return close(out, begin, at, 5)


@numba.njit(cache=True)
def _reasons(
    pieces: tuple[Bytes, Integers, Integers, Integers, Integers, Integers],
    conditions: Floats, asked: Floats, of: Integers, slot: Floats, known: tuple[bool, bool, bool],
    now: int, out: Bytes, at: int,
) -> int:  # fmt: skip
    """Why an action is shown, strongest first; see ``service.arbitration.Arbiter.reasons``."""
    blob, ends, _, reasons, intents, _ = pieces
    chances = asked[7 : 7 + int(asked[4])]
    facts = asked[7 + len(chances) : 7 + len(chances) + int(asked[5])]
    said = np.empty(4 + of[LAST_REASON] - of[FIRST_REASON], np.int64)
    strengths = np.empty(said.shape[0])
    count = 0
    chance, title = -1.0, 0
    if asked[3]:
        for i in range(of[FIRST_INTENT], of[LAST_INTENT]):
            if chances[intents[i, 0]] >= chance:
                chance, title = chances[intents[i, 0]], int(intents[i, 1])
        strength = asked[1] + asked[2] * chance
        if chance >= LIKELY and strength >= 1:
            said[count], strengths[count] = MATCH, strength
            count += 1
    for i in range(of[FIRST_REASON], of[LAST_REASON]):
        one = reasons[i]
        if one[CONDITION] >= 0:
            holds = ranking.holds(conditions[one[CONDITION]], asked[0], chances, facts)
        else:
            holds = one[START] <= now <= one[END]
        if holds:
            said[count], strengths[count] = one[SAID], one.view(np.float64)[STRENGTH]
            count += 1
    probability, prior = slot[ranking.ACCEPTANCE - 1], of.view(np.float64)[PRIOR]
    lift = probability / prior if prior != 0 else 1.0
    if lift >= NOTABLE:
        said[count], strengths[count] = ACCEPTED, lift
        count += 1
    lifted = known[2] and not np.isnan(slot[ranking.UPLIFT - 1])
    said[count], strengths[count] = UPLIFT if lifted else WORTH, 1.0
    count += 1
    if of[MUST]:
        said[count], strengths[count] = MANDATORY, FOREMOST
        count += 1
    order = np.empty(count, np.int64)
    printing.sorted_down(strengths, order)
    for place in order:
        piece, begin = int(said[place]), at
        if piece >= MANDATORY:
            at = copy(out, at, blob, ends, piece)
            continue
        inside = copy(out, begin + HEAD, blob, ends, piece)
        at = copy(out, inside + HEAD, blob, ends, piece + 1)
        if piece == MATCH:
            at = copy(out, at, blob, ends, title)
            at = copy(out, at, blob, ends, MATCH_MIDDLE)
            at = _percent(out, at, chance)
        elif piece == ACCEPTED:
            at = fixed(out, at, lift, 1)
            if at == UNTOLD:
                return UNTOLD
            at = copy(out, at, blob, ends, LIFT_MIDDLE)
            at = _percent(out, at, probability)
        elif piece == WORTH:
            at = fixed(out, at, slot[ranking.VALUE - 1], 2)
        else:
            for j in range(3):
                if j:
                    at = copy(out, at, blob, ends, UPLIFT_TEXT + j)
                at = fixed(out, at, slot[ranking.UPLIFT - 1 + j], 2)
                if at == UNTOLD:
                    return UNTOLD
        if at == UNTOLD:
            return UNTOLD
        at = copy(out, at, blob, ends, _last(piece))
        at = close(out, inside, at, _TEXT)
        at = close(out, begin, at, 6)
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
def _percent(out: Bytes, at: int, chance: float) -> int:
    """A chance as ``f"{chance:.0%}"`` has it."""
    at = fixed(out, at, chance * 100, 0)
    if at == UNTOLD:
        return UNTOLD
    out[at] = _PERCENT
    return at + 1
