"""The loops that write a log entry: its numbers from where they stand, the rest as given. Pure.

:mod:`service.entries` says what there is to write. Of the rest nothing is looked into: it comes in
one piece, as many bytes of each part as is said, and is copied behind the heads of its fields.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import choosing, ranking
from service.drawing import Bytes
from service.sight import AT_TOUCHED, FACTS, TOUCHED
from service.spans import span

USUAL, HIDING, FELT, NAMES, NAME_AT, DIGEST = range(6)
"""Arrays that depend on models and catalogue alone: what the models see of actions whatever the
customer, [actions] of whom they see nothing of :data:`FELT`, and these columns; then the names of
the actions one after another, [actions + 1] where each begins; what stands behind the vector."""
FEATURES, PAIR_AT, NAMED, AT_NUMBERS, PAIRS, ACTIONS_SEEN = range(12, 18)
"""Numbers behind them: columns of the customer, where those of pairs begin, all columns; where the
whole numbers of a sight begin, features of a pair, and rows of it."""

ASKED: Final = 13
(
    CAUSES, ROOMS, ACTIONS, HOW, PLACEMENTS,
    CUSTOMER, REQUEST, RESPONSE, CALLER, INPUTS, SEED, CLOCK, SHOWN,
) = range(ASKED)  # fmt: skip
"""What is asked: of a deliberation, then of the entry around it. Causes, rooms, and what is called
as a message or a field are sizes of given parts in bytes, and behind the numbers follow so many
placements and rows of shown actions. The parts come as the entry has them: customer, request,
response, caller, inputs, causes, those of each placement, rooms."""
PLACEMENT: Final = 4
BEGIN, SLOTS, BEFORE, AFTER = range(PLACEMENT)
"""What is asked of a placement: where it begins in the choice, the slots that it has there, and
sizes of what is given of it, before its columns and after them."""

SCORED, SAW, BY_MODELS, TOLD, LIFTED = 1, 2, 4, 8, 16
"""Bits of how it was decided: whether the models have seen the customer, whether they have seen
actions, and whether the columns of models, evidence and uplift mean something."""

_BYTES: Final = 2  # kind of a field that says how long it is
_VALUES: Final = np.array(
    [ranking.VALUE, ranking.CAPACITY, ranking.WEIGHT, ranking.LEVER, ranking.PRIORITY]
)
"""Columns that are there whoever ranked, as fields 6 to 10."""


@numba.njit(cache=True)
def entry(
    laid: Integers,
    asked: Integers,
    given: Bytes,
    sight: Floats,
    choice: Floats,
    out: Bytes,
) -> int:
    """Write a :class:`log_pb2.LogEntry` of a decision.

    Args:
        laid: Of :class:`service.spans.Spans`: what depends on models and catalogue alone.
        asked: See :data:`ASKED`.
        given: All parts that are no numbers.
        sight: What was seen, see :class:`service.sight.Layout`.
        choice: What was chosen, see :func:`service.choosing.choose`.
        out: Overwritten from its beginning.

    Returns:
        Bytes that it takes; more than ``out`` has room for: nothing is written.
    """
    scored, shown = asked[HOW] & SCORED != 0, asked[SHOWN] if asked[HOW] & SAW else 0
    digest = span(laid, DIGEST, np.uint8)
    rows = asked[ASKED + PLACEMENT * asked[PLACEMENTS] :]
    names, name_at = span(laid, NAMES, np.uint8), span(laid, NAME_AT, np.int64)
    seen, vector = 8 * laid[NAMED], 8 * laid[FEATURES]
    inputs = _whole_size(asked[SEED]) + _whole_size(asked[CLOCK]) + asked[INPUTS]
    deliberated = _deliberation_size(asked, choice)
    decision = _field_size(asked[REQUEST]) + _field_size(asked[RESPONSE]) + _field_size(inputs)
    decision += _text_size(asked[CALLER]) + _field_size(deliberated)
    if scored:
        decision += _field_size(vector) + digest.shape[0]
    for i in range(shown):
        row = rows[i]
        name = name_at[row + 1] - name_at[row]
        decision += _field_size(_text_size(name) + _text_size(seen))
    size = _text_size(asked[CUSTOMER]) + _field_size(decision)
    if size > out.shape[0]:
        return size
    at = taken = 0
    if asked[CUSTOMER]:
        at = _head(out, at, 1, asked[CUSTOMER])
        at = _copy(out, at, given[: asked[CUSTOMER]])
        taken = asked[CUSTOMER]
    at = _head(out, at, 3, decision)
    for field, part in ((1, REQUEST), (2, RESPONSE)):
        at = _head(out, at, field, asked[part])
        at = _copy(out, at, given[taken : taken + asked[part]])
        taken += asked[part]
    if scored:
        at = _head(out, at, 3, vector)
        at = _copy(out, at, sight[FACTS : FACTS + laid[FEATURES]].view(np.uint8))
        at = _copy(out, at, digest)
    if asked[CALLER]:
        at = _head(out, at, 5, asked[CALLER])
        at = _copy(out, at, given[taken : taken + asked[CALLER]])
        taken += asked[CALLER]
    for i in range(shown):
        row = rows[i]
        name = names[name_at[row] : name_at[row + 1]]
        at = _head(out, at, 6, _text_size(name.shape[0]) + _text_size(seen))
        if name.shape[0]:
            at = _head(out, at, 1, name.shape[0])
            at = _copy(out, at, name)
        if seen:
            at = _head(out, at, 2, seen)
            at = _copy(out, at, _saw(laid, sight, row).view(np.uint8))
    at = _head(out, at, 7, inputs)
    at = _whole(out, at, 1, asked[SEED])
    at = _whole(out, at, 2, asked[CLOCK])
    at = _copy(out, at, given[taken : taken + asked[INPUTS]])
    taken += asked[INPUTS]
    at = _head(out, at, 8, deliberated)
    _deliberation(asked, given[taken:], choice, out[at:])
    return size


@numba.njit(cache=True)
def deliberation(asked: Integers, given: Bytes, choice: Floats, out: Bytes) -> int:
    """Write a :class:`log_pb2.Deliberation`, of the parts of an entry from the causes on.

    The arguments, and what it returns, are as those of :func:`entry`.
    """
    size = _deliberation_size(asked, choice)
    if size <= out.shape[0]:
        _deliberation(asked, given, choice, out)
    return size


@numba.njit(cache=True)
def _saw(laid: Integers, sight: Floats, row: int) -> Floats:
    """All that the models saw of an action; see :meth:`service.models.Models.row`."""
    named, pairs, pair_at = laid[NAMED], laid[PAIRS], laid[PAIR_AT]
    usual: Floats = span(laid, USUAL, np.float64)
    told = usual[named * row : named * (row + 1)].copy()
    for i in range(laid[FEATURES]):
        told[i] = sight[FACTS + i]
    numbers = sight[laid[AT_NUMBERS] :].view(np.int64)
    for i in range(numbers[TOUCHED]):
        if numbers[AT_TOUCHED + i] == row:
            begin = laid[AT_NUMBERS] + AT_TOUCHED + laid[ACTIONS_SEEN] + pairs * i
            for j in range(pairs):
                told[pair_at + j] = sight[begin + j]
    if span(laid, HIDING, np.int64)[row]:
        for column in span(laid, FELT, np.int64):
            told[column] = np.nan
    return told


@numba.njit(cache=True)
def _deliberation_size(asked: Integers, choice: Floats) -> int:
    size = asked[CAUSES] + asked[ROOMS]
    for i in range(asked[PLACEMENTS]):
        size += _field_size(_placement_size(asked, _of(asked, i), choice))
    return size


@numba.njit(cache=True)
def _of(asked: Integers, placement: int) -> Integers:
    """What is asked of a placement."""
    begin = ASKED + PLACEMENT * placement
    return asked[begin : begin + PLACEMENT]


@numba.njit(cache=True)
def _placement_size(asked: Integers, one: Integers, choice: Floats) -> int:
    count = int(choice[one[BEGIN] + choosing.COUNT])
    size = one[BEFORE] + one[AFTER]
    if count:
        how = asked[HOW]
        columns = 1 + _VALUES.shape[0] + (how & BY_MODELS != 0) + (how & TOLD != 0)
        size += _field_size(2 * count) + columns * _field_size(8 * count) + _field_size(count)
        if how & LIFTED:
            size += _field_size(24 * count)
    return size


@numba.njit(cache=True)
def _deliberation(asked: Integers, given: Bytes, choice: Floats, out: Bytes) -> None:
    at = _copy(out, 0, given[: asked[CAUSES]])
    taken = asked[CAUSES]
    for i in range(asked[PLACEMENTS]):
        one = _of(asked, i)
        at = _head(out, at, 2, _placement_size(asked, one, choice))
        at = _copy(out, at, given[taken : taken + one[BEFORE]])
        taken += one[BEFORE]
        at = _columns(asked, one, choice, out, at)
        at = _copy(out, at, given[taken : taken + one[AFTER]])
        taken += one[AFTER]
    _copy(out, at, given[taken : taken + asked[ROOMS]])


@numba.njit(cache=True)
def _columns(asked: Integers, one: Integers, choice: Floats, out: Bytes, at: int) -> int:
    """Write the columns of a placement; where they end."""
    begin, how = one[BEGIN], asked[HOW]
    count = int(choice[begin + choosing.COUNT])
    if not count:
        return at
    at_fates = begin + choosing.PLACED + choosing.SLOT * one[SLOTS]
    ranks = at_fates + (asked[ACTIONS] + 7) // 8
    rows = choice[ranks : ranks + count].view(np.int64)
    at = _head(out, at, 2, 2 * count)
    for i in range(count):
        out[at + 2 * i] = rows[i] & 0xFF
        out[at + 2 * i + 1] = rows[i] >> 8
    at += 2 * count
    at = _column(choice, ranks, count, ranking.ACCEPTANCE, out, at, 3)
    if how & BY_MODELS:
        at = _column(choice, ranks, count, ranking.MODEL, out, at, 4)
    if how & TOLD:
        at = _column(choice, ranks, count, ranking.EVIDENCE, out, at, 5)
    for i in range(_VALUES.shape[0]):
        at = _column(choice, ranks, count, _VALUES[i], out, at, 6 + i)
    if how & LIFTED:
        uplift = ranks + ranking.UPLIFT * count
        at = _head(out, at, 11, 24 * count)
        at = _copy(out, at, choice[uplift : uplift + 3 * count].view(np.uint8))
    at = _head(out, at, 12, count)
    return _copy(out, at, choice[at_fates:ranks].view(np.uint8)[:count])


@numba.njit(cache=True)
def _column(
    choice: Floats, ranks: int, count: int, column: int, out: Bytes, at: int, field: int
) -> int:
    """Write one column as a field; where it ends."""
    at = _head(out, at, field, 8 * count)
    begin = ranks + column * count
    return _copy(out, at, choice[begin : begin + count].view(np.uint8))


@numba.njit(cache=True)
def _varint_size(number: int) -> int:
    rest, size = np.uint64(number) >> np.uint64(7), 1
    while rest:
        rest >>= np.uint64(7)
        size += 1
    return size


@numba.njit(cache=True)
def _varint(out: Bytes, at: int, number: int) -> int:
    """Write a whole number of 64 bits; where it ends."""
    rest = np.uint64(number)
    while rest > np.uint64(0x7F):
        out[at] = rest & np.uint64(0x7F) | np.uint64(0x80)
        rest >>= np.uint64(7)
        at += 1
    out[at] = rest
    return at + 1


@numba.njit(cache=True)
def _field_size(size: int) -> int:
    """Bytes of a field that has so many behind its head, which is there though it has none."""
    return 1 + _varint_size(size) + size


@numba.njit(cache=True)
def _text_size(size: int) -> int:
    """The same of a field that is not there if it has none."""
    return _field_size(size) if size else 0


@numba.njit(cache=True)
def _whole_size(number: int) -> int:
    """Bytes of a field of a whole number; none of zero."""
    return 1 + _varint_size(number) if number else 0


@numba.njit(cache=True)
def _head(out: Bytes, at: int, field: int, size: int) -> int:
    """Write what stands before the bytes of a field; where it ends."""
    out[at] = field << 3 | _BYTES
    return _varint(out, at + 1, size)


@numba.njit(cache=True)
def _whole(out: Bytes, at: int, field: int, number: int) -> int:
    """Write a field of a whole number, if it is not zero; where it ends."""
    if not number:
        return at
    out[at] = field << 3
    return _varint(out, at + 1, number)


@numba.njit(cache=True)
def _copy(out: Bytes, at: int, part: Bytes) -> int:
    """Write bytes as they are; where they end."""
    size = part.shape[0]
    into = out[at : at + size]
    for i in range(size):
        into[i] = part[i]
    return at + size
