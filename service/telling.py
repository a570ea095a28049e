"""Write what the chain of events shows and why they are here, as fields of an answer. Pure.

The bytes are those of :func:`service.facts.tell` and the likeliest intents, as
:class:`service.answers.Answers` writes them; see :mod:`service.saying` for how.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features import journey
from features.duration import DAY, HOUR, MINUTE, SECOND
from features.elementary import Floats
from features.kernels import Integers
from service.facts import LIKELY, NOTABLE_TREND
from service.printing import HEAD, UNTOLD, close, digits, double, optional
from service.saying import CHANNELS, CODES, OF_CODE, TITLES, said
from service.writing import put, whole, word

(
    FAILED_KIND, ONE_TRY, TRIES, FAILED_TEXT, FAILED_ON, FAILED_LAST, FAILED_END, COMMA, AND,
    STRANGE, STRANGE_CHANNEL, MOMENT, DAYS, HOURS, MINUTES, SECONDS,
    REPEAT_KIND, LOOKS_LIKE, LOOKS_ABOUT, CONTACTED, TIMES_ABOUT,
) = range(TITLES, TITLES + 21)  # fmt: skip
"""Pieces of sentences, cut where numbers and names stand."""
COUNTED: Final = TIMES_ABOUT + 1
ONE, KIND, BEFORE, AFTER = range(4)
"""Four pieces for each of what is counted: the whole fact where there is one of it, and the kind
and the text around the number where there are more."""
TREND: Final = COUNTED + 3 * 4
"""Kind and text of a mood that gets worse, and of one that improves."""
RELATIONSHIP: Final = TREND + 2
"""The fact of each relationship; empty where it is not worth telling."""
STAGE: Final = RELATIONSHIP + len(journey.Relationship)
"""The same of each stage."""
INTENT: Final = STAGE + len(journey.Stage)
TITLE, FACT_INTENT, SCORED_INTENT = range(3)
"""Three pieces of each intent, or of whatever else models tell apart: its title, and its name as a
field of a fact and of a score."""

WORDS, CHANNEL = range(2)
"""Of a channel: the pieces of its name in words, and as a field of a fact."""

_COUNTED_AT: Final = (journey.UNRESOLVED, journey.UNANSWERED, journey.HOPS)
_UNITS: Final = (DAY, HOUR, MINUTE, SECOND)
_FACT, _SCORE = 6, 5  # fields of an answer
_TEXT: Final = 2
_PLURAL: Final = ord("s")


@numba.njit(cache=True)
def scores(at: int, pieces: int, of_class: Integers, likely: Floats, count: int) -> int:
    """Write the likeliest intents.

    Args:
        at: Address to write to; there is room.
        pieces: Address of the words of :class:`service.pieces.Pieces`.
        of_class: [classes] number of each intent.
        likely: [2 LIKELY] classes and their probabilities, see :class:`service.layout.Layout`.
        count: How many of them are told.
    """
    half = likely.shape[0] // 2
    for i in range(count):
        name = INTENT + 3 * of_class[int(likely[i])] + SCORED_INTENT
        end = double(said(at + HEAD, pieces, name), 2, likely[half + i])
        at = close(at, end, _SCORE)
    return at


@numba.njit(cache=True)
def facts(
    at: int, pieces: int, values: Floats, chain: Integers, likeliest: int, chance: float, now: int
) -> int:
    """Write the facts, or give :data:`service.printing.UNTOLD` where they are before 1970.

    Args:
        at: Address to write to; there is room.
        pieces: Address of the words of :class:`service.pieces.Pieces`.
        values: One for each of :data:`features.journey.FACTS`.
        chain: What :func:`features.journey.read_into` has read beside them.
        likeliest: Number of the likeliest intent; -1: none was scored.
        chance: Its probability.
        now: Milliseconds since 1970-01-01 UTC.
    """
    if values[journey.FAILED] > 0:
        at = _failed(at, pieces, values, chain, now)
        if at == UNTOLD:
            return UNTOLD
    if chain[0] > 0:
        at = _repeated(at, pieces, values, chain, likeliest, chance)
    for i in range(len(_COUNTED_AT)):
        count = int(values[_COUNTED_AT[i]])
        piece = COUNTED + 4 * i
        if count == 1:
            at = said(at, pieces, piece + ONE)
        elif count > 1:
            inside = said(at + HEAD, pieces, piece + KIND)
            end = digits(said(inside + HEAD, pieces, piece + BEFORE), count)
            end = close(inside, said(end, pieces, piece + AFTER), _TEXT)
            at = close(at, optional(end, 3, count), _FACT)
    trend = values[journey.MOOD_TREND]
    if abs(trend) >= NOTABLE_TREND:
        end = optional(said(at + HEAD, pieces, TREND + (trend > 0)), 3, trend)
        at = close(at, end, _FACT)
    at = said(at, pieces, RELATIONSHIP + int(values[journey.RELATIONSHIP]))
    return said(at, pieces, STAGE + int(values[journey.STAGE]))


@numba.njit(cache=True)
def _failed(begin: int, pieces: int, values: Floats, chain: Integers, now: int) -> int:
    """Failed tries at self-service: how many, where, and how long ago the last was."""
    tries = int(values[journey.FAILED])
    failed_on = _named(pieces, chain[4 + 2 * chain[0] :][: chain[3]])
    count = failed_on.shape[0]
    inside = said(begin + HEAD, pieces, FAILED_KIND)
    at = inside + HEAD
    at = said(at, pieces, ONE_TRY) if tries == 1 else said(digits(at, tries), pieces, TRIES)
    at = said(at, pieces, FAILED_ON)
    for i in range(count - 1, -1, -1):  # they were found newest first
        at = said(at, pieces, failed_on[i, WORDS])
        if i > 0:
            at = said(at, pieces, COMMA if i > 1 else AND)
    at = said(at, pieces, FAILED_LAST)
    age = int(np.round(values[journey.SINCE_FAILED] * 1000))
    at = said(_spoken(at, pieces, age), pieces, FAILED_END)
    at = optional(close(inside, at, _TEXT), 3, tries)
    if now < age:
        return UNTOLD
    moment = at
    at = whole(at + HEAD, 1, (now - age) // 1000)
    at = close(moment, whole(at, 2, 1_000_000 * ((now - age) % 1000)), 4)
    for i in range(count - 1, -1, -1):
        at = said(at, pieces, failed_on[i, CHANNEL])
    return close(begin, at, _FACT)


@numba.njit(cache=True)
def _named(pieces: int, codes: Integers) -> Integers:
    """Pieces of some channels; those that nobody has declared are one and the same."""
    channels, known = word(pieces, CHANNELS), word(pieces, CHANNELS + 1) // 2
    found = np.empty((codes.shape[0], 2), np.int64)
    count, unknown = 0, False
    for code in codes:
        declared = 0 <= code < known and word(channels, 2 * code) >= 0
        if declared:
            found[count, WORDS] = word(channels, 2 * code + WORDS)
            found[count, CHANNEL] = word(channels, 2 * code + CHANNEL)
        elif not unknown:
            unknown = True
            found[count, WORDS], found[count, CHANNEL] = STRANGE, STRANGE_CHANNEL
        else:
            continue
        count += 1
    return found[:count]


@numba.njit(cache=True)
def _spoken(at: int, pieces: int, age: int) -> int:
    """A duration as :func:`features.duration.spoken` has it."""
    for i in range(len(_UNITS)):
        count = age // _UNITS[i]
        if count >= 1:
            at = said(digits(at, count), pieces, DAYS + i)
            return put(at, _PLURAL) if count > 1 else at
    return said(at, pieces, MOMENT)


@numba.njit(cache=True)
def _repeated(
    begin: int, pieces: int, values: Floats, chain: Integers, likeliest: int, chance: float
) -> int:
    """Contacts about one intent, this one included where it is likely to be about the same."""
    different, codes = chain[0], word(pieces, CODES)
    count, intent, piece = 0, -1, LOOKS_LIKE
    if likeliest >= 0 and word(codes, likeliest) >= 0 and chance >= LIKELY:
        count = 1
        for i in range(different):
            if chain[4 + i] == word(codes, likeliest):
                count += chain[4 + different + i]
        intent = likeliest
    if count < 2:
        count, piece = int(values[journey.REPEATS]), CONTACTED
        code = int(values[journey.REPEAT_INTENT])
        known = 0 <= code < word(pieces, OF_CODE + 1)
        intent = word(word(pieces, OF_CODE), code) if known else -1
    if count < 2 or intent < 0:
        return begin
    inside = said(begin + HEAD, pieces, REPEAT_KIND)
    at = digits(said(inside + HEAD, pieces, piece), count)
    at = said(said(at, pieces, piece + 1), pieces, INTENT + 3 * intent + TITLE)
    at = optional(close(inside, at, _TEXT), 3, count)
    return close(begin, said(at, pieces, INTENT + 3 * intent + FACT_INTENT), _FACT)
