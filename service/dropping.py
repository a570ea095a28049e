"""The loop that writes what spoke against actions, off what a choice has counted. Pure.

What comes before the rules and after the limits depends on no count, and is written by
:mod:`service.deliberation`, which also says what stands in the arrays. All is read and written at
addresses, as :mod:`service.writing` does.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]

from features.kernels import Integers
from service import choosing
from service.rules.kernel import NO, YES
from service.spans import pointer
from service.writing import address, copy, field, field_size, head, word

CONDITIONS, RULES, RULE_AT, KEYS, KEY_ROWS, LIMITS, LIMIT_AT, BUNDLES, PARTED = range(9)
"""Arrays that depend on the configuration alone: for each rule its place among the verdicts, and
its cause as written, [rules + 1] where each begins; of the keys of limits what :data:`KEY` names,
and their rows; of each limit or suppression its cause as written but for the rows, [limits + 1]
where each begins; row and parts of each bundle; and so the cause of bundles."""
WIDTH, ACTIONS, VERDICTS = range(18, 21)
"""Numbers behind them: words of a set of rows, rows, words of the verdicts."""
WORDS: Final = 21

KEY: Final = 3
HOLDS_ON, ROOM, LIMIT = range(KEY)
"""What is known of a key: its channel, how many there may be before one more is too many, and the
limit or suppression that it belongs to; those of one stand together."""

UNKNOWN: Final = -1
"""In place of a size: a rule could not be evaluated, and only its cause says why."""

_ROWS: Final = 5  # field of a cause


@numba.njit(cache=True)
def room(laid: int) -> int:
    """Bytes that the causes take at most, where ``laid`` are :data:`CONDITIONS` and so on."""
    texts = _size(laid, RULES) + _size(laid, LIMITS) + _size(laid, PARTED)
    each = 20 + (word(laid, ACTIONS) + 7) // 8  # heads of two fields
    return texts + (_size(laid, LIMIT_AT) + 1) * each


@numba.njit(cache=True)
def counted(laid: int, choice: int) -> bool:
    """Whether anything may have to be written at all."""
    if _size(laid, BUNDLES) or word(choice, choosing.OVER):
        return True
    return _any(_ruled(laid, choice), word(laid, WIDTH))


@numba.njit(cache=True)
def rules(laid: int, choice: int, at: int) -> int:
    """Write each rule that does not hold; where that ends, or :data:`UNKNOWN`.

    Args:
        laid: Where :data:`CONDITIONS` and so on are.
        choice: Where that is which was chosen, see :func:`service.choosing.choose`.
        at: Where to write.
    """
    width = word(laid, WIDTH)
    if not _any(_ruled(laid, choice), width):
        return at  # there is none that drops nothing
    places, texts, begins = _at(laid, CONDITIONS), _at(laid, RULES), _at(laid, RULE_AT)
    verdicts = carray(
        pointer(choice + 8 * (choosing.AT_DROPPED + 2 * width)),
        (4 * word(laid, VERDICTS),), np.uint16,
    )  # fmt: skip
    for i in range(_size(laid, CONDITIONS)):
        verdict = verdicts[word(places, i)]
        if verdict == NO:
            begin = word(begins, i)
            at = copy(at, texts + begin, word(begins, i + 1) - begin)
        elif verdict != YES:
            return UNKNOWN
    return at


@numba.njit(cache=True)
def limits(
    laid: int, choice: int, now: int, channel: int, parting: Integers, rows: Integers, at: int
) -> int:
    """Write each limit and suppression that is used up; where that ends.

    A contact that has shown something already may show it again, which is not looked at here.

    Args:
        laid: See :func:`rules`.
        choice: See there.
        now: Milliseconds since 1970-01-01 UTC.
        channel: Its code.
        parting: [width] gets the rows that they drop, too.
        rows: [width] overwritten.
        at: Where to write.
    """
    if not word(choice, choosing.OVER):
        return at
    width, count = word(laid, WIDTH), _size(laid, KEYS) // KEY
    keys, key_rows = _at(laid, KEYS), _at(laid, KEY_ROWS)
    counts = choice + 8 * (choosing.AT_DROPPED + 2 * width + word(laid, VERDICTS))
    texts, begins = _at(laid, LIMITS), _at(laid, LIMIT_AT)
    key = 0
    for limit in range(_size(laid, LIMIT_AT) - 1):
        rows[:] = 0
        found = False
        while key < count and word(keys, KEY * key + LIMIT) == limit:
            over = word(counts, key) > word(keys, KEY * key + ROOM)
            holds_on = word(keys, KEY * key + HOLDS_ON)
            if (over or word(counts, count + key) > now) and holds_on in (0, channel):
                found = True
                for w in range(width):
                    rows[w] |= word(key_rows, width * key + w)
            key += 1
        if found:
            begin = word(begins, limit)
            at = _cause(laid, texts + begin, word(begins, limit + 1) - begin, rows, at)
            for w in range(width):
                parting[w] |= rows[w]
    return at


@numba.njit(cache=True)
def bundles(laid: int, choice: int, parting: Integers, rows: Integers, at: int) -> int:
    """Write what speaks against bundles of which a part is dropped; where that ends.

    Args:
        laid: See :func:`rules`.
        choice: See there.
        parting: [width] rows that something but a rule drops, if not because they were not asked
            for.
        rows: [width] overwritten.
        at: Where to write.
    """
    width, ruled, all_parts = word(laid, WIDTH), _ruled(laid, choice), _at(laid, BUNDLES)
    rows[:] = 0
    found = False
    for i in range(_size(laid, BUNDLES) // (1 + width)):
        one = all_parts + 8 * (1 + width) * i
        for w in range(width):
            if word(one, 1 + w) & (parting[w] | word(ruled, w)):
                rows[word(one, 0) >> 6] |= 1 << (word(one, 0) & 63)
                found = True
    return _cause(laid, _at(laid, PARTED), _size(laid, PARTED), rows, at) if found else at


@numba.njit(cache=True)
def _cause(laid: int, text: int, size: int, rows: Integers, at: int) -> int:
    """Write a cause, all of which is written but the rows; where it ends."""
    sets = (word(laid, ACTIONS) + 7) // 8
    at = copy(head(at, 1, size + field_size(sets)), text, size)
    return field(at, _ROWS, address(rows), sets)


@numba.njit(cache=True, inline="always")
def _at(laid: int, which: int) -> int:
    """Where an array lies."""
    return word(laid, 2 * which)


@numba.njit(cache=True, inline="always")
def _size(laid: int, which: int) -> int:
    """Of an array."""
    return word(laid, 2 * which + 1)


@numba.njit(cache=True, inline="always")
def _ruled(laid: int, choice: int) -> int:
    """Where the rows are that rules drop."""
    return choice + 8 * (choosing.AT_DROPPED + word(laid, WIDTH))


@numba.njit(cache=True)
def _any(rows: int, width: int) -> bool:
    """Whether there is a row in a set."""
    found = False
    for w in range(width):
        found |= word(rows, w) != 0
    return found
