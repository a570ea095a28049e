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
from service.drawing import Bytes
from service.facts import LIKELY, NOTABLE_TREND
from service.printing import HEAD, UNTOLD, close, copy, double, optional, varint, whole
from service.saying import TITLES

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
def scores(blob: Bytes, ends: Integers, of_class: Integers, likely: Floats, count: int,
           out: Bytes, at: int) -> int:  # fmt: skip
    """Write the likeliest intents.

    Args:
        blob: Of all pieces.
        ends: Of them.
        of_class: [classes] number of each intent.
        likely: [2 LIKELY] classes and their probabilities, see :class:`service.sight.Layout`.
        count: How many of them are told.
        out: Gets the bytes.
        at: Where.
    """
    half = likely.shape[0] // 2
    for i in range(count):
        intent = of_class[int(likely[i])]
        end = copy(out, at + HEAD, blob, ends, INTENT + 3 * intent + SCORED_INTENT)
        end = double(out, end, 2, likely[half + i])
        at = close(out, at, end, _SCORE)
    return at


@numba.njit(cache=True)
def facts(
    blob: Bytes,
    ends: Integers,
    channels: Integers,
    of_code: Integers,
    codes: Integers,
    values: Floats,
    chain: Integers,
    likeliest: int,
    chance: float,
    now: int,
    out: Bytes,
    at: int,
) -> int:
    """Write the facts, or give :data:`service.printing.UNTOLD` where they are before 1970.

    Args:
        blob: Of all pieces.
        ends: Of them.
        channels: [codes, 2] pieces of each channel; -1: nobody has declared it.
        of_code: [codes] number of each intent; -1: none has this code.
        codes: [intents] its code; -1: it is none of the vocabulary's intents.
        values: One for each of :data:`features.journey.FACTS`.
        chain: What :func:`features.journey.read_into` has read beside them.
        likeliest: Number of the likeliest intent; -1: none was scored.
        chance: Its probability.
        now: Milliseconds since 1970-01-01 UTC.
        out: Gets the bytes.
        at: Where.
    """
    if values[journey.FAILED] > 0:
        at = _failed(blob, ends, channels, values, chain, now, out, at)
        if at == UNTOLD:
            return UNTOLD
    if chain[0] > 0:
        at = _repeated(blob, ends, of_code, codes, values, chain, likeliest, chance, out, at)
    for i in range(len(_COUNTED_AT)):
        count = int(values[_COUNTED_AT[i]])
        piece = COUNTED + 4 * i
        if count == 1:
            at = copy(out, at, blob, ends, piece + ONE)
        elif count > 1:
            begin = at
            inside = copy(out, at + HEAD, blob, ends, piece + KIND)
            at = copy(out, inside + HEAD, blob, ends, piece + BEFORE)
            at = whole(out, at, count)
            at = copy(out, at, blob, ends, piece + AFTER)
            at = close(out, inside, at, _TEXT)
            at = optional(out, at, 3, count)
            at = close(out, begin, at, _FACT)
    trend = values[journey.MOOD_TREND]
    if abs(trend) >= NOTABLE_TREND:
        end = copy(out, at + HEAD, blob, ends, TREND + (trend > 0))
        end = optional(out, end, 3, trend)
        at = close(out, at, end, _FACT)
    at = copy(out, at, blob, ends, RELATIONSHIP + int(values[journey.RELATIONSHIP]))
    return copy(out, at, blob, ends, STAGE + int(values[journey.STAGE]))


@numba.njit(cache=True)
def _failed(
    blob: Bytes, ends: Integers, channels: Integers, values: Floats, chain: Integers, now: int,
    out: Bytes, begin: int,
) -> int:  # fmt: skip
    """Failed tries at self-service: how many, where, and how long ago the last was."""
    tries = int(values[journey.FAILED])
    failed_on = _named(channels, chain[4 + 2 * chain[0] :][: chain[3]])
    count = failed_on.shape[0]
    inside = copy(out, begin + HEAD, blob, ends, FAILED_KIND)
    at = inside + HEAD
    if tries == 1:
        at = copy(out, at, blob, ends, ONE_TRY)
    else:
        at = whole(out, at, tries)
        at = copy(out, at, blob, ends, TRIES)
    at = copy(out, at, blob, ends, FAILED_ON)
    for i in range(count - 1, -1, -1):  # they were found newest first
        at = copy(out, at, blob, ends, failed_on[i, WORDS])
        if i > 0:
            at = copy(out, at, blob, ends, COMMA if i > 1 else AND)
    at = copy(out, at, blob, ends, FAILED_LAST)
    age = int(np.round(values[journey.SINCE_FAILED] * 1000))
    at = _spoken(blob, ends, age, out, at)
    at = copy(out, at, blob, ends, FAILED_END)
    at = close(out, inside, at, _TEXT)
    at = optional(out, at, 3, tries)
    moment = at
    at += HEAD
    seconds, rest = (now - age) // 1000, (now - age) % 1000
    if now < age:
        return UNTOLD
    for number, value in ((1, seconds), (2, 1_000_000 * rest)):
        if value:
            out[at] = number << 3
            at = varint(out, at + 1, value)
    at = close(out, moment, at, 4)
    for i in range(count - 1, -1, -1):
        at = copy(out, at, blob, ends, failed_on[i, CHANNEL])
    return close(out, begin, at, _FACT)


@numba.njit(cache=True)
def _named(channels: Integers, codes: Integers) -> Integers:
    """Pieces of some channels; those that nobody has declared are one and the same."""
    found = np.empty((codes.shape[0], 2), np.int64)
    count, unknown = 0, False
    for code in codes:
        if 0 <= code < channels.shape[0] and channels[code, 0] >= 0:
            found[count] = channels[code]
        elif not unknown:
            unknown = True
            found[count, WORDS], found[count, CHANNEL] = STRANGE, STRANGE_CHANNEL
        else:
            continue
        count += 1
    return found[:count]


@numba.njit(cache=True)
def _spoken(blob: Bytes, ends: Integers, age: int, out: Bytes, at: int) -> int:
    """A duration as :func:`features.duration.spoken` has it."""
    for i in range(len(_UNITS)):
        count = age // _UNITS[i]
        if count >= 1:
            at = whole(out, at, count)
            at = copy(out, at, blob, ends, DAYS + i)
            if count > 1:
                out[at] = _PLURAL
                at += 1
            return at
    return copy(out, at, blob, ends, MOMENT)


@numba.njit(cache=True)
def _repeated(
    blob: Bytes, ends: Integers, of_code: Integers, codes: Integers, values: Floats,
    chain: Integers, likeliest: int, chance: float, out: Bytes, begin: int,
) -> int:  # fmt: skip
    """Contacts about one intent, this one included where it is likely to be about the same."""
    different = chain[0]
    count, intent, piece = 0, -1, LOOKS_LIKE
    if likeliest >= 0 and codes[likeliest] >= 0 and chance >= LIKELY:
        count = 1
        for i in range(different):
            if chain[4 + i] == codes[likeliest]:
                count += chain[4 + different + i]
        intent = likeliest
    if count < 2:
        count, piece = int(values[journey.REPEATS]), CONTACTED
        code = int(values[journey.REPEAT_INTENT])
        intent = of_code[code] if 0 <= code < of_code.shape[0] else -1
    if count < 2 or intent < 0:
        return begin
    inside = copy(out, begin + HEAD, blob, ends, REPEAT_KIND)
    at = copy(out, inside + HEAD, blob, ends, piece)
    at = whole(out, at, count)
    at = copy(out, at, blob, ends, piece + 1)
    at = copy(out, at, blob, ends, INTENT + 3 * intent + TITLE)
    at = close(out, inside, at, _TEXT)
    at = optional(out, at, 3, count)
    at = copy(out, at, blob, ends, INTENT + 3 * intent + FACT_INTENT)
    return close(out, begin, at, _FACT)
