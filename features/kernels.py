"""The one loop that turns events into numbers, for serving and for training alike. Pure.

Every filter is a bit. A table for each coded field says which bits an event's code passes, so one
AND of six table rows gives every filter that an event matches, and the loop visits only those.
Events are walked from the newest back; a bit leaves ``alive`` when its window ends and ``done``
stops it when its answer is known.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats, exp
from features.record import DIRECTION, NO_DURATION, NO_SENTIMENT, Records

VERSION: Final = "1"
"""Part of every feature digest: raise it when a result of this module or of journey changes."""

COUNT, SUM, MEAN, DECAYED, SINCE_LAST, SINCE_FIRST = 0, 1, 2, 3, 4, 5
LAST, GAP, DISTINCT, TREND, RUN, SEQUENCE = 6, 7, 8, 9, 10, 11

TYPE, CHANNEL, INTENT, ACTION, OUTCOME, WAY = 0, 1, 2, 3, 4, 5
AGENT = 6
VALUE, DURATION, SENTIMENT, ONE = 7, 8, 9, 10

_LN2: Final = 0.6931471805599453
_DE_BRUIJN: Final = np.uint64(0x03F79D71B4CB0A89)
_BIT: Final = np.zeros(64, np.int64)
for _i in range(64):
    _BIT[((1 << _i) * 0x03F79D71B4CB0A89 % 2**64) >> 58] = _i

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


class Program(NamedTuple):
    """Compiled filters and operations; see :func:`features.plan.compile`.

    W words hold the bits. The last row of a table is for codes that the vocabulary did not have
    when the program was compiled: only filters that leave the field open pass it.
    """

    tables: tuple[Words, Words, Words, Words, Words, Words]  # [codes + 2, W] by TYPE .. WAY
    windows: Integers  # [windows] milliseconds, ascending
    expire: Words  # [windows, W] the bits whose window that is
    op: Integers  # [bits]
    field: Integers  # [bits]
    parameter: Floats  # [bits] half-life or half a window in ms, `back`, or the largest code
    slot: Integers  # [bits] which feature the bit works for
    step: Integers  # [bits] of a sequence, counted from its end
    steps: Integers  # [features] length of a sequence
    distinct: Integers  # [features] row of the seen-bits, or -1
    shape: Integers  # (rows of seen-bits, words of each)


@numba.njit(cache=True)
def _measured(record: Any, field: int) -> float:
    if field == VALUE:
        return float(record.value)
    if field == DURATION:
        return np.nan if record.duration == NO_DURATION else float(record.duration)
    if field == SENTIMENT:
        return np.nan if record.sentiment == NO_SENTIMENT else record.sentiment / 100.0
    return 1.0


@numba.njit(cache=True)
def _coded(record: Any, field: int) -> int:
    if field == TYPE:
        return int(record.type)
    if field == CHANNEL:
        return int(record.channel)
    if field == INTENT:
        return int(record.intent)
    if field == ACTION:
        return int(record.action)
    if field == OUTCOME:
        return int(record.outcome)
    if field == AGENT:
        return int(record.agent)
    return int(record.flags & DIRECTION)


@numba.njit(cache=True)
def evaluate(
    records: Records, now: int, program: Program, row_of_action: Integers, out: Floats
) -> None:
    """Evaluate a program over a timeline, once or for each action.

    Args:
        records: The timeline, in order. Events later than ``now`` are not seen.
        now: The moment, in milliseconds.
        program: What to compute.
        row_of_action: [codes] row of ``out`` for the events about an action, -1 for none. Empty:
            every event counts, for row 0.
        out: [rows, features], overwritten.
    """
    rows, features = out.shape
    words = program.expire.shape[1]
    by_type, by_channel, by_intent, by_action, by_outcome, by_way = program.tables
    count = np.zeros((rows, features))
    kept = np.zeros((rows, features))
    done = np.zeros((rows, words), np.uint64)
    seen = np.zeros((rows, program.shape[0], program.shape[1]), np.uint64)
    alive = np.full(words, ~np.uint64(0))
    for b in range(program.op.shape[0]):
        blank = np.nan if SINCE_LAST <= program.op[b] <= GAP else 0.0
        for row in range(rows):
            out[row, program.slot[b]] = blank
    ended = 0
    for i in range(records.shape[0] - 1, -1, -1):
        record = records[i]
        age = now - record.occurred_at
        if age < 0:
            continue
        while ended < program.windows.shape[0] and age >= program.windows[ended]:
            for w in range(words):
                alive[w] &= ~program.expire[ended, w]
            ended += 1
        row = 0
        if row_of_action.shape[0] > 0:
            row = row_of_action[min(record.action, row_of_action.shape[0] - 1)]
            if row < 0:
                continue
        for w in range(words):
            bits = (
                alive[w]
                & ~done[row, w]
                & by_type[min(record.type, by_type.shape[0] - 1), w]
                & by_channel[min(record.channel, by_channel.shape[0] - 1), w]
                & by_intent[min(record.intent, by_intent.shape[0] - 1), w]
                & by_action[min(record.action, by_action.shape[0] - 1), w]
                & by_outcome[min(record.outcome, by_outcome.shape[0] - 1), w]
                & by_way[record.flags & DIRECTION, w]
            )
            while bits != 0:
                lowest = bits & (~bits + np.uint64(1))
                bits ^= lowest
                b = w * 64 + _BIT[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                op = program.op[b]
                f = program.slot[b]
                field = program.field[b]
                finished = False
                if op == COUNT:
                    out[row, f] += 1.0
                elif op in (SUM, MEAN):
                    x = _measured(record, field)
                    if not np.isnan(x):
                        out[row, f] += x
                        count[row, f] += 1.0
                elif op == DECAYED:
                    x = _measured(record, field)
                    if not np.isnan(x):
                        out[row, f] += x * exp(-_LN2 * (age / program.parameter[b]))
                elif op == SINCE_LAST:
                    out[row, f] = age / 1000.0
                    finished = True
                elif op == SINCE_FIRST:
                    out[row, f] = age / 1000.0
                elif op == LAST:
                    if count[row, f] == program.parameter[b]:
                        if field >= VALUE:
                            out[row, f] = _measured(record, field)
                        else:
                            out[row, f] = _coded(record, field)
                        finished = True
                    count[row, f] += 1.0
                elif op == GAP:
                    if count[row, f] == program.parameter[b]:
                        kept[row, f] = age
                    elif count[row, f] == program.parameter[b] + 1:
                        out[row, f] = (age - kept[row, f]) / 1000.0
                        finished = True
                    count[row, f] += 1.0
                elif op == DISTINCT:
                    code = _coded(record, field)
                    at = program.distinct[f]
                    if 0 < code <= program.parameter[b]:
                        bit = np.uint64(1) << np.uint64(code & 63)
                        if seen[row, at, code >> 6] & bit == 0:
                            seen[row, at, code >> 6] |= bit
                            out[row, f] += 1.0
                elif op == TREND:
                    out[row, f] += 1.0 if age < program.parameter[b] else -1.0
                elif op == RUN:
                    code = _coded(record, field)
                    if out[row, f] == 0.0:
                        kept[row, f] = code
                    if kept[row, f] == code:
                        out[row, f] += 1.0
                    else:
                        finished = True
                elif count[row, f] == program.step[b] and kept[row, f] != i + 1:
                    kept[row, f] = i + 1  # one event is one step
                    count[row, f] += 1.0
                    if count[row, f] == program.steps[f]:
                        count[row, f] = 0.0
                        out[row, f] += 1.0
                if finished:
                    done[row, w] |= lowest
    for b in range(program.op.shape[0]):
        if program.op[b] == MEAN:
            f = program.slot[b]
            for row in range(rows):
                out[row, f] = out[row, f] / count[row, f] if count[row, f] > 0 else np.nan
