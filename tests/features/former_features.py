"""The features as they were computed before events were read as words: the same to the bit.

A structure of arrays for each program, records field by field, and a look at the definitions for
every feature that no event tells. ``tests.features.oracle`` says what a feature means; this says
what its last bit is.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numba
import numpy as np

from features import definitions as declared
from features import filters, journey, kernels
from features import profile as profiles
from features.definitions import Where
from features.duration import milliseconds
from features.elementary import Floats, exp
from features.kernels import (
    ACTION,
    AGENT,
    CHANNEL,
    COUNT,
    DECAYED,
    DISTINCT,
    DURATION,
    GAP,
    INTENT,
    LAST,
    MEAN,
    OUTCOME,
    RUN,
    SENTIMENT,
    SINCE_FIRST,
    SINCE_LAST,
    SUM,
    TREND,
    TYPE,
    VALUE,
    Integers,
    Words,
)
from features.plan import Context, Plan
from features.record import DIRECTION, NO_DURATION, NO_SENTIMENT, Records
from features.vocabulary import Vocabulary

_LN2: Final = 0.6931471805599453
_DE_BRUIJN: Final = np.uint64(0x03F79D71B4CB0A89)
_BIT: Final = np.zeros(64, np.int64)
for _i in range(64):
    _BIT[((1 << _i) * 0x03F79D71B4CB0A89 % 2**64) >> 58] = _i

_FIELDS: Final = {
    "type": kernels.TYPE,
    "channel": kernels.CHANNEL,
    "intent": kernels.INTENT,
    "action": kernels.ACTION,
    "outcome": kernels.OUTCOME,
    "direction": kernels.WAY,
    "agent": kernels.AGENT,
    "value": kernels.VALUE,
    "duration": kernels.DURATION,
    "sentiment": kernels.SENTIMENT,
}
_OPS: Final[dict[type, int]] = {
    declared.Count: kernels.COUNT,
    declared.Sum: kernels.SUM,
    declared.Mean: kernels.MEAN,
    declared.Decayed: kernels.DECAYED,
    declared.SinceLast: kernels.SINCE_LAST,
    declared.SinceFirst: kernels.SINCE_FIRST,
    declared.Last: kernels.LAST,
    declared.Gap: kernels.GAP,
    declared.Distinct: kernels.DISTINCT,
    declared.Trend: kernels.TREND,
    declared.Run: kernels.RUN,
    declared.Sequence: kernels.SEQUENCE,
}


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


def customer(
    plan: Plan,
    records: Records,
    profile: profiles.Profile,
    context: Context,
    now: int,
) -> Floats:
    """What :meth:`features.plan.Plan.customer` gives."""
    vocabulary = plan.vocabulary
    program = compile(plan.customer_features, vocabulary)
    out = np.empty((1, len(plan.customer_features)))
    evaluate(records, now, program, np.zeros(0, np.int64), out)
    vector: Floats = out[0]
    facts = journey.read(records, now, plan.lens)
    local = datetime.datetime.fromtimestamp(now / 1000, ZoneInfo(plan.definitions.time_zone))
    for slot, feature in enumerate(plan.customer_features):
        match feature:
            case declared.Journey(fact=fact):
                vector[slot] = facts.value(fact)
            case declared.Profile():
                vector[slot] = _profile(vocabulary, feature, profile, now)
            case declared.Context(field="channel"):
                vector[slot] = context.channel
            case declared.Context(field="direction"):
                vector[slot] = context.direction
            case declared.Context(field=name):
                value = context.values.get(name)
                vector[slot] = profiles.number(value, vocabulary.context[name])
            case declared.Clock(field="hour_of_day"):
                vector[slot] = local.hour
            case declared.Clock(field="minute_of_day"):
                vector[slot] = 60 * local.hour + local.minute
            case declared.Clock(field="day_of_week"):
                vector[slot] = local.weekday()
    return vector


def _profile(
    vocabulary: Vocabulary, feature: declared.Profile, profile: profiles.Profile, now: int
) -> float:
    attribute = vocabulary.attributes[feature.attribute]
    told = profile.attributes.get(feature.attribute)
    if feature.part == "state":
        return float(profile.state(feature.attribute, attribute, now))
    if told is None or (feature.part == "value" and told.value is None):
        return float("nan")
    if feature.part == "age":
        return (now - told.updated_at) / 1000.0
    return profiles.number(told.value, attribute)


def pairs(plan: Plan, records: Records, now: int, row_of_action: Integers, rows: int) -> Floats:
    """What :meth:`features.plan.Plan.pairs` gives."""
    out = np.empty((rows, len(plan.pair_features)))
    evaluate(records, now, compile(plan.pair_features, plan.vocabulary), row_of_action, out)
    return out


def compile(features: Sequence[declared.Feature], vocabulary: Vocabulary) -> Program:
    """Turn the features over events among ``features`` into a program for the kernel.

    A feature's slot is its place in ``features``; the slots of other features are left alone.
    """
    bits: list[tuple[int, declared.OverEvents, Where, int]] = []
    for slot, feature in enumerate(features):
        if isinstance(feature, declared.Sequence):
            steps = feature.steps
            bits += [(slot, feature, where, len(steps) - 1 - i) for i, where in enumerate(steps)]
        elif isinstance(feature, declared.OverEvents):
            bits.append((slot, feature, feature.where, 0))
    words = max(1, -(-len(bits) // 64))
    codes = filters.codes(vocabulary)
    tables = []
    for field in filters.FIELDS:
        table = np.zeros((max(codes[field].values(), default=0) + 2, words), np.uint64)
        for b, (_, over, where, _) in enumerate(bits):
            chosen = filters.allowed(f"feature {over.name!r}", where, field, vocabulary)
            rows = range(len(table)) if chosen is None else chosen
            for code in rows:
                table[code, b // 64] |= np.uint64(1 << (b % 64))
        tables.append(table)
    windows = sorted({f.window_ms for _, f, _, _ in bits if f.window_ms is not None})
    expire = np.zeros((len(windows), words), np.uint64)
    distinct = np.full(len(features), -1, np.int64)
    steps_of = np.zeros(len(features), np.int64)
    parameter = np.array([_parameter(f) for _, f, _, _ in bits], np.float64)
    widest = 1
    for b, (slot, over, _, _) in enumerate(bits):
        if over.window_ms is not None:
            expire[windows.index(over.window_ms), b // 64] |= np.uint64(1 << (b % 64))
        if isinstance(over, declared.Distinct):
            distinct[slot] = distinct.max() + 1
            largest = (
                65_535 if over.field == "agent" else max(codes[over.field].values(), default=0)
            )
            parameter[b] = largest  # codes that came later count for no feature, whatever the rest
            widest = max(widest, largest // 64 + 1)
        if isinstance(over, declared.Sequence):
            steps_of[slot] = len(over.steps)
    return Program(
        tables=(tables[0], tables[1], tables[2], tables[3], tables[4], tables[5]),
        windows=np.array(windows, np.int64),
        expire=expire if windows else np.zeros((0, words), np.uint64),
        op=np.array([_OPS[type(f)] for _, f, _, _ in bits], np.int64),
        field=np.array([_field(f) for _, f, _, _ in bits], np.int64),
        parameter=parameter,
        slot=np.array([slot for slot, _, _, _ in bits], np.int64),
        step=np.array([step for _, _, _, step in bits], np.int64),
        steps=steps_of,
        distinct=distinct,
        shape=np.array([int(distinct.max(initial=-1)) + 1, widest], np.int64),
    )


def _field(feature: declared.OverEvents) -> int:
    name = getattr(feature, "field", None)
    return kernels.ONE if name is None else _FIELDS[name]


def _parameter(feature: declared.OverEvents) -> float:
    match feature:
        case declared.Decayed(half_life=half_life):
            return float(milliseconds(half_life))
        case declared.Trend(window=window):
            return milliseconds(window) / 2
        case declared.Last(back=back) | declared.Gap(back=back):
            return float(back)
        case _:
            return 0.0
