"""The loop that writes what spoke against actions, off what a choice has counted. Pure.

What comes before the rules and after the limits depends on no count, and is written by
:mod:`service.deliberation`, which also says what stands in the arrays.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import choosing
from service.drawing import Bytes
from service.rules.kernel import NO, YES
from service.spans import span
from service.writing import copy, field_size, head

CONDITIONS, RULES, RULE_AT, KEYS, KEY_ROWS, LIMITS, LIMIT_AT, BUNDLES, PARTED = range(9)
"""Arrays that depend on the configuration alone: for each rule its place among the verdicts, and
its cause as written, [rules + 1] where each begins; of the keys of limits what :data:`KEY` names,
and their rows; of each limit or suppression its cause as written but for the rows, [limits + 1]
where each begins; row and parts of each bundle; and so the cause of bundles."""
WIDTH, ACTIONS, VERDICTS = range(18, 21)
"""Numbers behind them: words of a set of rows, rows, words of the verdicts."""

KEY: Final = 3
HOLDS_ON, ROOM, LIMIT = range(KEY)
"""What is known of a key: its channel, how many there may be before one more is too many, and the
limit or suppression that it belongs to; those of one stand together."""

UNKNOWN: Final = -1
"""In place of a size: a rule could not be evaluated, and only its cause says why."""

_ROWS: Final = 5  # field of a cause


@numba.njit(cache=True)
def room(laid: Integers) -> int:
    """Bytes that the causes take at most."""
    texts: int = span(laid, RULES, np.uint8).shape[0] + span(laid, LIMITS, np.uint8).shape[0]
    texts += span(laid, PARTED, np.uint8).shape[0]
    count: int = span(laid, LIMIT_AT, np.int64).shape[0] + 1
    each: int = 20 + (laid[ACTIONS] + 7) // 8  # heads of two fields
    return texts + count * each


@numba.njit(cache=True)
def counted(laid: Integers, choice: Floats) -> bool:
    """Whether anything may have to be written at all."""
    if span(laid, BUNDLES, np.int64).shape[0] or choice.view(np.int64)[choosing.OVER]:
        return True
    return _any(choice, choosing.AT_DROPPED + laid[WIDTH], laid[WIDTH])


@numba.njit(cache=True)
def _any(choice: Floats, begin: int, width: int) -> bool:
    """Whether there is a row in a set."""
    words = choice[begin : begin + width].view(np.int64)
    found = False
    for w in range(width):
        found |= words[w] != 0
    return found


@numba.njit(cache=True)
def rules(laid: Integers, choice: Floats, out: Bytes) -> int:
    """Write each rule that does not hold; bytes of it, or :data:`UNKNOWN`."""
    if not _any(choice, choosing.AT_DROPPED + laid[WIDTH], laid[WIDTH]):
        return 0  # there is none that drops nothing
    places, texts = span(laid, CONDITIONS, np.int64), span(laid, RULES, np.uint8)
    begins = span(laid, RULE_AT, np.int64)
    verdicts = choice[choosing.AT_DROPPED + 2 * laid[WIDTH] :].view(np.uint16)
    at = 0
    for i in range(places.shape[0]):
        verdict = verdicts[places[i]]
        if verdict == NO:
            at = copy(out, at, texts[begins[i] : begins[i + 1]])
        elif verdict != YES:
            return UNKNOWN
    return at


@numba.njit(cache=True)
def limits(
    laid: Integers, choice: Floats, now: int, channel: int, parting: Integers, out: Bytes
) -> int:
    """Write each limit and suppression that is used up; bytes of it.

    A contact that has shown something already may show it again, which is not looked at here.

    Args:
        laid: See :data:`CONDITIONS`.
        choice: What was chosen, see :func:`service.choosing.choose`.
        now: Milliseconds since 1970-01-01 UTC.
        channel: Its code.
        parting: [width] gets the rows that they drop, too.
        out: Overwritten.
    """
    wholes, width = choice.view(np.int64), laid[WIDTH]
    if wholes[choosing.OVER] == 0:
        return 0
    keys, rows = span(laid, KEYS, np.int64), span(laid, KEY_ROWS, np.int64)
    count = keys.shape[0] // KEY
    begin = choosing.AT_DROPPED + 2 * width + laid[VERDICTS]
    counts = wholes[begin : begin + 2 * count].reshape(2, count)
    texts, begins = span(laid, LIMITS, np.uint8), span(laid, LIMIT_AT, np.int64)
    dropped = np.zeros(width, np.int64)
    at, key = 0, 0
    for limit in range(begins.shape[0] - 1):
        dropped[:] = 0
        found = False
        while key < count and keys[KEY * key + LIMIT] == limit:
            one = keys[KEY * key : KEY * key + KEY]
            over = counts[0, key] > one[ROOM] or counts[1, key] > now
            if over and (one[HOLDS_ON] == 0 or one[HOLDS_ON] == channel):
                found = True
                for w in range(width):
                    dropped[w] |= rows[width * key + w]
            key += 1
        if found:
            at = _cause(laid, texts[begins[limit] : begins[limit + 1]], dropped, out, at)
            for w in range(width):
                parting[w] |= dropped[w]
    return at


@numba.njit(cache=True)
def bundles(laid: Integers, parting: Integers, out: Bytes) -> int:
    """Write what speaks against bundles of which a part is dropped; bytes of it.

    Args:
        laid: See :data:`CONDITIONS`.
        parting: [width] all rows that are dropped, but for those that were not asked for.
        out: Overwritten.
    """
    laid_out, width = span(laid, BUNDLES, np.int64), laid[WIDTH]
    parted = np.zeros(width, np.int64)
    found = False
    for i in range(laid_out.shape[0] // (1 + width)):
        one = laid_out[(1 + width) * i : (1 + width) * (i + 1)]
        for w in range(width):
            if one[1 + w] & parting[w]:
                parted[one[0] >> 6] |= 1 << (one[0] & 63)
                found = True
    return _cause(laid, span(laid, PARTED, np.uint8), parted, out, 0) if found else 0


@numba.njit(cache=True)
def ruled(laid: Integers, choice: Floats, parting: Integers) -> None:
    """Put what rules drop with the rest."""
    begin = choosing.AT_DROPPED + laid[WIDTH]
    words = choice[begin : begin + laid[WIDTH]].view(np.int64)
    for w in range(laid[WIDTH]):
        parting[w] |= words[w]


@numba.njit(cache=True)
def _cause(laid: Integers, text: Bytes, rows: Integers, out: Bytes, at: int) -> int:
    """Write a cause, all of which is written but the rows; where it ends."""
    size = (laid[ACTIONS] + 7) // 8
    at = head(out, at, 1, text.shape[0] + field_size(size))
    at = copy(out, at, text)
    at = head(out, at, _ROWS, size)
    return copy(out, at, rows.view(np.uint8)[:size])
