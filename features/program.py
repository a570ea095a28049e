"""Compile declared features into the block of words that the kernel reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from features import definitions as declared
from features import filters, kernels
from features.definitions import Where
from features.duration import milliseconds
from features.elementary import Floats
from features.journey import FACTS
from features.kernels import Integers, Words
from features.vocabulary import Vocabulary

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
_ABSENT: Final = frozenset(
    {kernels.SINCE_LAST, kernels.SINCE_FIRST, kernels.LAST, kernels.GAP}
)  # without any event


class Program(NamedTuple):
    """Compiled filters and operations."""

    block: Integers  # all that the kernel reads; ``features.kernels`` names its words
    defaults: Floats  # [features] what each is without any event; NaN where no event tells


class _Bit(NamedTuple):
    """One filter and what it works for."""

    slot: int
    feature: declared.OverEvents
    where: Where
    step: int  # of a sequence, counted from its end


def compile(features: Sequence[declared.Feature], vocabulary: Vocabulary) -> Program:
    """Turn the features over events among ``features`` into a program for the kernel.

    A feature's slot is its place in ``features``. Journey facts, and what comes from beside the
    events, are put into their slots too.

    Raises:
        ValueError: A filter names what the vocabulary does not declare.
    """
    bits = list(_bits(features))
    width = max(1, -(-len(bits) // 64))
    tables = [_table(field, bits, width, vocabulary) for field in filters.FIELDS]
    windows = sorted({one.feature.window_ms for one in bits if one.feature.window_ms is not None})
    expire = np.zeros((len(windows), width), np.uint64)
    counting = np.zeros(width, np.uint64)
    operations = np.zeros((len(bits), kernels.OPERATION), np.int64)
    blank, defaults = np.full(len(features), np.nan), np.full(len(features), np.nan)
    seen = 0
    for b, (slot, over, _, step) in enumerate(bits):
        op, bit = _OPS[type(over)], np.uint64(1 << (b % 64))
        if over.window_ms is not None:
            expire[windows.index(over.window_ms), b // 64] |= bit
        if op == kernels.COUNT:
            counting[b // 64] |= bit
        parameter = _parameter(over)
        steps = len(over.steps) if isinstance(over, declared.Sequence) else 0
        offset = seen
        if isinstance(over, declared.Distinct):
            # Codes that came later count for no feature, whatever the rest.
            largest = _largest(over.field, vocabulary)
            parameter = float(largest)
            seen += largest // 64 + 1
        written = int(np.array(parameter, np.float64).view(np.int64))
        operations[b, :7] = op, _field(over), written, slot, step, steps, offset
        blank[slot] = np.nan if op in _ABSENT else 0.0
        defaults[slot] = np.nan if op == kernels.MEAN else blank[slot]
    slots = [
        slot
        for slot, one in enumerate(features)
        if not isinstance(one, declared.OverEvents | declared.Journey)
    ]
    facts = [
        (slot, FACTS.index(one.fact))
        for slot, one in enumerate(features)
        if isinstance(one, declared.Journey)
    ]
    sizes = {
        kernels.BITS: len(bits),
        kernels.FEATURES: len(features),
        kernels.WIDTH: width,
        kernels.WINDOWS: len(windows),
        kernels.SEEN: seen,
        kernels.BESIDE: len(slots),
        kernels.JOURNEYS: len(facts),
    }
    sizes.update((kernels.LAST_ROWS + n, len(table) - 1) for n, table in enumerate(tables))
    parts = {
        kernels.AT_WINDOWS: np.array(windows, np.int64),
        kernels.AT_EXPIRE: expire,
        kernels.AT_OPERATIONS: operations,
        kernels.AT_BLANK: blank,
        kernels.AT_COUNTING: counting,
        kernels.AT_BESIDE: np.array(slots, np.int64),
        kernels.AT_JOURNEY: np.array(facts, np.int64),
    }
    parts.update((kernels.AT_TABLES + n, table) for n, table in enumerate(tables))
    return Program(_block(sizes, parts), defaults)


def _block(
    sizes: dict[int, int], parts: dict[int, Integers] | dict[int, Words] | dict[int, Floats]
) -> Integers:
    """Lay out sizes and parts, each part from the word that the header names."""
    header = np.zeros(kernels.HEADER, np.int64)
    for word, size in sizes.items():
        header[word] = size
    flat = [header]
    end = len(header)
    for word, part in parts.items():
        header[word] = end
        flat.append(part.reshape(-1).view(np.int64))
        end += part.size
    return np.concatenate(flat)


def _bits(features: Sequence[declared.Feature]) -> list[_Bit]:
    found = []
    for slot, feature in enumerate(features):
        if isinstance(feature, declared.Sequence):
            last = len(feature.steps) - 1
            found += [_Bit(slot, feature, step, last - i) for i, step in enumerate(feature.steps)]
        elif isinstance(feature, declared.OverEvents):
            found.append(_Bit(slot, feature, feature.where, 0))
    return found


def _table(field: str, bits: Sequence[_Bit], width: int, vocabulary: Vocabulary) -> Words:
    """[codes + 2, width] the bits that each code of a field passes.

    The last row is for codes that the vocabulary did not have: only filters that leave the field
    open pass it.
    """
    codes = filters.codes(vocabulary)[field]
    table = np.zeros((max(codes.values(), default=0) + 2, width), np.uint64)
    for b, (_, over, where, _) in enumerate(bits):
        chosen = filters.allowed(f"feature {over.name!r}", where, field, vocabulary)
        for code in range(len(table)) if chosen is None else chosen:
            table[code, b // 64] |= np.uint64(1 << (b % 64))
    return table


def _largest(field: str, vocabulary: Vocabulary) -> int:
    """The largest code of a field that was known when the program was compiled."""
    if field == "agent":
        return 65_535
    return max(filters.codes(vocabulary)[field].values(), default=0)


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
