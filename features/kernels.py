"""The one loop that turns events into numbers, for serving and for training alike. Pure.

Every filter is a bit. A table for each coded field says which bits an event's code passes, so one
AND of six table rows gives every filter that an event matches, and the loop visits only those; the
bits that merely count are added up 64 at a time. Events are walked from the newest back; a bit
leaves ``alive`` when its window ends and ``done`` stops it when its answer is known.

All that a run reads beside the events is one block of 8-byte words (:mod:`features.program` writes
it): between two requests caches are cold, and what lies together is fetched together.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from features import fields
from features.elementary import Floats, exp
from features.record import DIRECTION, NO_DURATION, NO_SENTIMENT

VERSION: Final = "1"
"""Part of every feature digest: raise it when a result of this module or of journey changes."""

COUNT, SUM, MEAN, DECAYED, SINCE_LAST, SINCE_FIRST = 0, 1, 2, 3, 4, 5
LAST, GAP, DISTINCT, TREND, RUN, SEQUENCE = 6, 7, 8, 9, 10, 11

TYPE, CHANNEL, INTENT, ACTION, OUTCOME, WAY = 0, 1, 2, 3, 4, 5
AGENT = 6
VALUE, DURATION, SENTIMENT, ONE = 7, 8, 9, 10

BITS, FEATURES, WIDTH, WINDOWS, SEEN = 0, 1, 2, 3, 4
"""Words of a block: how many bits, features, words of bits, windows, and words of seen codes."""
AT_WINDOWS, AT_EXPIRE, AT_OPERATIONS, AT_BLANK, AT_COUNTING = 5, 6, 7, 8, 9
"""Words of a block: where its parts begin."""
AT_TABLES, LAST_ROWS = 10, 16
"""Words of a block from which each field has one: where its table begins, and its last row."""
AT_BESIDE, BESIDE, AT_JOURNEY, JOURNEYS = 22, 23, 24, 25
"""Words of a block: slots of what comes from beside the events, and slot and fact of the rest."""
HEADER: Final = 26

OP, FIELD, PARAMETER, SLOT, STEP, STEPS, OFFSET = 0, 1, 2, 3, 4, 5, 6
"""Words of an operation."""
OPERATION: Final = 8

_LN2: Final = 0.6931471805599453
_DE_BRUIJN: Final = np.uint64(0x03F79D71B4CB0A89)
_BIT: Final = np.zeros(64, np.int64)
for _i in range(64):
    _BIT[((1 << _i) * 0x03F79D71B4CB0A89 % 2**64) >> 58] = _i

Words = npt.NDArray[np.uint64]
Integers = fields.Integers


@numba.njit(cache=True)
def _measured(words: Integers, i: int, field: int) -> float:
    if field == VALUE:
        return fields.value(words, i)
    if field == DURATION:
        held = fields.duration(words, i)
        return np.nan if held == NO_DURATION else float(held)
    if field == SENTIMENT:
        felt = fields.sentiment(words, i)
        return np.nan if felt == NO_SENTIMENT else felt / 100.0
    return 1.0


@numba.njit(cache=True)
def _coded(words: Integers, i: int, field: int) -> int:
    if field == TYPE:
        return fields.type(words, i)
    if field == CHANNEL:
        return fields.channel(words, i)
    if field == INTENT:
        return fields.intent(words, i)
    if field == ACTION:
        return fields.action(words, i)
    if field == OUTCOME:
        return fields.outcome(words, i)
    if field == AGENT:
        return fields.agent(words, i)
    return fields.flags(words, i) & DIRECTION


@numba.njit(cache=True)
def _row(block: Integers, field: int, code: int) -> int:
    """Where the row of a table for a code begins: the last one is for codes yet unknown."""
    return int(block[AT_TABLES + field] + block[WIDTH] * min(code, block[LAST_ROWS + field]))


@numba.njit(cache=True)
def _begin(
    row: int,
    block: Integers,
    out: Floats,
    count: Floats,
    kept: Floats,
    done: Words,
    seen: Words,
    tally: Words,
) -> None:
    """Clear a row of all that a walk keeps."""
    blank = block.view(np.float64)
    for f in range(block[FEATURES]):
        out[row, f] = blank[block[AT_BLANK] + f]
        count[row, f] = 0.0
        kept[row, f] = 0.0
    done[row] = 0
    seen[row] = 0
    tally[row] = 0


@numba.njit(cache=True)
def _walk(
    words: Integers,
    now: int,
    block: Integers,
    row_of_action: Integers,
    rows: Integers,
    out: Floats,
) -> int:
    """Fill ``out`` [n, features] for the ``rows`` [n] that some event counts for; give n."""
    masks, doubles = block.view(np.uint64), block.view(np.float64)
    operations, width, windows = block[BITS], block[WIDTH], block[WINDOWS]
    at_windows, at_expire = block[AT_WINDOWS], block[AT_EXPIRE]
    at_operations, at_counting = block[AT_OPERATIONS], block[AT_COUNTING]
    alone = row_of_action.shape[0] == 0
    events, most, features = words.shape[0] // fields.WORDS, out.shape[0], block[FEATURES]
    planes = 1
    while 1 << planes <= events:
        planes += 1
    count = np.empty((most, features))
    kept = np.empty((most, features))
    done = np.empty((most, width), np.uint64)
    seen = np.empty((most, block[SEEN]), np.uint64)
    tally = np.empty((most, width, planes), np.uint64)  # digit p of what each bit has counted
    place = np.full(rows.shape[0], -1, np.int32)
    alive = np.full(width, ~np.uint64(0))
    living = True
    used, ended, target, row = 0, 0, 0, 0
    if alone:
        _begin(0, block, out, count, kept, done, seen, tally)
        used = 1
    for i in range(events - 1, -1, -1):
        age = now - fields.occurred_at(words, i)
        if age < 0:
            continue
        while ended < windows and age >= block[at_windows + ended]:
            living = False
            for w in range(width):
                alive[w] &= ~masks[at_expire + ended * width + w]
                living |= alive[w] != 0
            ended += 1
        if not living:
            break
        if not alone:
            target = row_of_action[min(fields.action(words, i), row_of_action.shape[0] - 1)]
            if target < 0:
                continue
            row = place[target]
        by_type = _row(block, TYPE, fields.type(words, i))
        by_channel = _row(block, CHANNEL, fields.channel(words, i))
        by_intent = _row(block, INTENT, fields.intent(words, i))
        by_action = _row(block, ACTION, fields.action(words, i))
        by_outcome = _row(block, OUTCOME, fields.outcome(words, i))
        by_way = _row(block, WAY, fields.flags(words, i) & DIRECTION)
        for w in range(width):
            bits = (
                alive[w]
                & masks[by_type + w]
                & masks[by_channel + w]
                & masks[by_intent + w]
                & masks[by_action + w]
                & masks[by_outcome + w]
                & masks[by_way + w]
            )
            if bits == 0:
                continue
            if row < 0:
                row = used
                used += 1
                place[target] = row
                rows[row] = target
                _begin(row, block, out, count, kept, done, seen, tally)
            bits &= ~done[row, w]
            counting = bits & masks[at_counting + w]
            bits ^= counting
            p = 0
            while counting != 0:
                carry = tally[row, w, p] & counting
                tally[row, w, p] ^= counting
                counting = carry
                p += 1
            while bits != 0:
                lowest = bits & (~bits + np.uint64(1))
                bits ^= lowest
                b = w * 64 + _BIT[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                at = at_operations + OPERATION * b
                op = block[at + OP]
                field = block[at + FIELD]
                parameter = doubles[at + PARAMETER]
                f = block[at + SLOT]
                finished = False
                if op in (SUM, MEAN):
                    x = _measured(words, i, field)
                    if not np.isnan(x):
                        out[row, f] += x
                        count[row, f] += 1.0
                elif op == DECAYED:
                    x = _measured(words, i, field)
                    if not np.isnan(x):
                        out[row, f] += x * exp(-_LN2 * (age / parameter))
                elif op == SINCE_LAST:
                    out[row, f] = age / 1000.0
                    finished = True
                elif op == SINCE_FIRST:
                    out[row, f] = age / 1000.0
                elif op == LAST:
                    if count[row, f] == parameter:
                        if field >= VALUE:
                            out[row, f] = _measured(words, i, field)
                        else:
                            out[row, f] = _coded(words, i, field)
                        finished = True
                    count[row, f] += 1.0
                elif op == GAP:
                    if count[row, f] == parameter:
                        kept[row, f] = age
                    elif count[row, f] == parameter + 1:
                        out[row, f] = (age - kept[row, f]) / 1000.0
                        finished = True
                    count[row, f] += 1.0
                elif op == DISTINCT:
                    code = _coded(words, i, field)
                    if 0 < code <= parameter:
                        bit = np.uint64(1) << np.uint64(code & 63)
                        one = block[at + OFFSET] + (code >> 6)
                        if seen[row, one] & bit == 0:
                            seen[row, one] |= bit
                            out[row, f] += 1.0
                elif op == TREND:
                    out[row, f] += 1.0 if age < parameter else -1.0
                elif op == RUN:
                    code = _coded(words, i, field)
                    if out[row, f] == 0.0:
                        kept[row, f] = code
                    if kept[row, f] == code:
                        out[row, f] += 1.0
                    else:
                        finished = True
                elif count[row, f] == block[at + STEP] and kept[row, f] != i + 1:
                    kept[row, f] = i + 1  # one event is one step
                    count[row, f] += 1.0
                    if count[row, f] == block[at + STEPS]:
                        count[row, f] = 0.0
                        out[row, f] += 1.0
                if finished:
                    done[row, w] |= lowest
    for b in range(operations):
        at = at_operations + OPERATION * b
        f = block[at + SLOT]
        if block[at + OP] == COUNT:
            shift = np.uint64(b & 63)
            for row in range(used):
                total = 0
                for p in range(planes):
                    total |= int((tally[row, b >> 6, p] >> shift) & np.uint64(1)) << p
                out[row, f] = total
        elif block[at + OP] == MEAN:
            for row in range(used):
                out[row, f] = out[row, f] / count[row, f] if count[row, f] > 0 else np.nan
    return used


@numba.njit(cache=True)
def customer(
    words: Integers, now: int, block: Integers, beside: Floats, facts: Floats, out: Floats
) -> None:
    """Evaluate a program over a whole timeline, and put what is known already beside it.

    Args:
        words: The timeline, in order; see :func:`features.fields.words`. Events later than ``now``
            are not seen.
        now: The moment, in milliseconds.
        block: What to compute.
        beside: Features that no event tells, in the order they are declared.
        facts: Journey facts; empty where no feature is one.
        out: [features], overwritten.
    """
    none = np.empty(0, np.int64)
    _walk(words, now, block, none, none, out.reshape(1, out.shape[0]))
    for j in range(block[BESIDE]):
        out[block[block[AT_BESIDE] + j]] = beside[j]
    for j in range(block[JOURNEYS]):
        at = block[AT_JOURNEY] + 2 * j
        out[block[at]] = facts[block[at + 1]]


@numba.njit(cache=True)
def touched(
    words: Integers,
    now: int,
    block: Integers,
    row_of_action: Integers,
    rows: Integers,
    out: Floats,
) -> int:
    """Evaluate a program for each action over the events about it, where any counts.

    Args:
        words: The timeline, in order; see :func:`features.fields.words`. Events later than ``now``
            are not seen.
        now: The moment, in milliseconds.
        block: What to compute.
        row_of_action: [codes] row for the events about an action, -1 for none.
        rows: [as many as there are], overwritten with those for which some event counts.
        out: [rows or events, features], overwritten with the numbers of each of them.

    Returns:
        How many of both are filled; what is not has the numbers of no events.
    """
    return _walk(words, now, block, row_of_action, rows, out)
