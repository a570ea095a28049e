"""The loops that write a log entry: its numbers from where they stand, the rest as given. Pure.

:mod:`service.entries` says what there is to write. Of the rest nothing is looked into: it comes in
one piece, as many bytes of each part as is said, and is copied behind the heads of its fields.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]

from features.elementary import Floats
from service import dropping, placing, ranking
from service.drawing import Bytes
from service.layout import AT_TOUCHED, FACTS, TOUCHED
from service.spans import pointer
from service.writing import (
    address,
    copy,
    field,
    field_size,
    head,
    put,
    text_size,
    whole,
    whole_size,
    word,
)

USUAL, HIDING, FELT, UNKNOWN, NAMES, NAME_AT, DIGEST = range(7)
"""Arrays that depend on models and catalogue alone: what the models see of actions whatever the
customer, [actions] of whom they see nothing of :data:`FELT`, these columns, and what they see in
their place; then the names of the actions one after another, [actions + 1] where each begins, and
what stands behind the vector."""
FEATURES, PAIR_AT, NAMED, AT_NUMBERS, PAIRS, ACTIONS_SEEN = range(14, 20)
"""Numbers behind them: columns of the customer, where those of pairs begin, all columns; where the
whole numbers of a sight begin, features of a pair, and rows of it."""
WORDS: Final = 20

ASKED: Final = 19
(
    COUNT, AGAINST, CAUSES, LATER, ROOMS, ACTIONS, HOW, NOW, CHANNEL, PLACEMENTS,
    CUSTOMER, REQUEST, RESPONSE, CALLER, INPUTS, SHOWN, LAID, CLOCK, SEED,
) = range(ASKED)  # fmt: skip
"""What is asked, first of a deliberation and then of the entry around it: how many numbers it is
in all, where that is laid out which :mod:`service.dropping` reads (nothing, where all causes are
given), and :data:`USUAL` and so on, sizes of the given parts in bytes, and others. Behind them
follow what is asked of each placement, rows of shown actions that models saw, and [width] of those
whose bundles are dropped before all counting.

Behind the numbers come the parts, as the entry has them: customer, request, response, caller,
inputs, causes before the rules, those after the limits, two of each placement, rooms."""
PLACEMENT: Final = 4
BEGIN, SLOTS, BEFORE, AFTER = range(PLACEMENT)
"""What is asked of a placement: where it begins in the choice, the slots that it has there, and
sizes of what is given of it, before its columns and after them."""

SCORED, BY_MODELS, TOLD, LIFTED = 1, 2, 4, 8
"""Bits of how it was decided: whether the models have seen the customer, and whether the columns of
models, evidence and uplift mean something."""

_COLUMNS: Final = np.array(
    [
        ranking.ACCEPTANCE, ranking.MODEL, ranking.EVIDENCE, ranking.VALUE, ranking.CAPACITY,
        ranking.WEIGHT, ranking.LEVER, ranking.PRIORITY,
    ]
)  # fmt: skip
"""Columns of one number each, field by field from :data:`_FIRST` on."""
_FIRST: Final = 3
_ALWAYS: Final = len(_COLUMNS) - 2  # all but those of models and of evidence


@numba.njit(cache=True)
def entry(given: Bytes, sight: Floats, choice: Floats, out: Bytes) -> int:
    """Write a :class:`log_pb2.LogEntry` of a decision.

    Args:
        given: Numbers of :data:`ASKED`, and the parts behind them.
        sight: What was seen, see :class:`service.layout.Layout`.
        choice: What was chosen, see :func:`service.choosing.choose`.
        out: Overwritten from its beginning.

    Returns:
        Bytes that it takes; nothing is written where that is more than ``out`` has room for, or
        :data:`service.dropping.UNKNOWN`.
    """
    asked, chosen = address(given), address(choice)
    counted, after_limits, sizes = _counted(asked, chosen)
    if sizes < 0:
        return dropping.UNKNOWN
    laid, how = word(asked, LAID), word(asked, HOW)
    placements, count = word(asked, PLACEMENTS), word(asked, SHOWN)
    rows = asked + 8 * (ASKED + PLACEMENT * placements)
    names, name_at = word(laid, 2 * NAMES), word(laid, 2 * NAME_AT)
    seen, vector = 8 * word(laid, NAMED), 8 * word(laid, FEATURES)
    seed, clock = word(asked, SEED), word(asked, CLOCK)
    inputs = whole_size(seed) + whole_size(clock) + word(asked, INPUTS)
    deliberated = sizes + _deliberation_size(asked, chosen)
    decision = field_size(word(asked, REQUEST)) + field_size(word(asked, RESPONSE))
    decision += text_size(word(asked, CALLER)) + field_size(inputs) + field_size(deliberated)
    if how & SCORED:
        decision += field_size(vector) + word(laid, 2 * DIGEST + 1)
    for i in range(count):
        row = word(rows, i)
        name = word(name_at, row + 1) - word(name_at, row)
        decision += field_size(text_size(name) + text_size(seen))
    size = text_size(word(asked, CUSTOMER)) + field_size(decision)
    if size > out.shape[0]:
        return size
    at, part = address(out), asked + 8 * word(asked, COUNT)
    if word(asked, CUSTOMER):
        at = field(at, 1, part, word(asked, CUSTOMER))
        part += word(asked, CUSTOMER)
    at = head(at, 3, decision)
    at = field(at, 1, part, word(asked, REQUEST))
    part += word(asked, REQUEST)
    at = field(at, 2, part, word(asked, RESPONSE))
    part += word(asked, RESPONSE)
    features = address(sight) + 8 * FACTS
    if how & SCORED:
        at = field(at, 3, features, vector)
        at = copy(at, word(laid, 2 * DIGEST), word(laid, 2 * DIGEST + 1))
    if word(asked, CALLER):
        at = field(at, 5, part, word(asked, CALLER))
        part += word(asked, CALLER)
    for i in range(count):
        row = word(rows, i)
        name = word(name_at, row + 1) - word(name_at, row)
        at = head(at, 6, text_size(name) + text_size(seen))
        if name:
            at = field(at, 1, names + word(name_at, row), name)
        if seen:
            at = _saw(head(at, 2, seen), laid, features, row)
    at = whole(whole(head(at, 7, inputs), 1, seed), 2, clock)
    at = copy(at, part, word(asked, INPUTS))
    part += word(asked, INPUTS)
    _deliberation(head(at, 8, deliberated), asked, part, counted, after_limits, sizes, chosen)
    return size


@numba.njit(cache=True)
def deliberation(given: Bytes, choice: Floats, out: Bytes) -> int:
    """Write a :class:`log_pb2.Deliberation`, of the parts of an entry from the causes on.

    The arguments, and what it returns, are as those of :func:`entry`.
    """
    asked, chosen = address(given), address(choice)
    counted, after_limits, sizes = _counted(asked, chosen)
    if sizes < 0:
        return dropping.UNKNOWN
    size: int = sizes + _deliberation_size(asked, chosen)
    if size <= out.shape[0]:
        part = asked + 8 * word(asked, COUNT)
        at = address(out)
        _deliberation(at, asked, part, counted, after_limits, sizes, chosen)
    return size


@numba.njit(cache=True)
def _counted(asked: int, choice: int) -> tuple[Bytes, int, int]:
    """Causes that follow from counts.

    Returns:
        The causes, how many bytes of them come before those after the limits, and how many there
        are in all; less than none: they cannot be told here.
    """
    against = word(asked, AGAINST)
    if not dropping.counted(against, choice):
        return np.empty(0, np.uint8), 0, 0
    width = word(against, dropping.WIDTH)
    sets = np.empty((2, width), np.int64)
    begin = asked + 8 * (word(asked, COUNT) - width)
    for w in range(width):
        sets[0, w] = word(begin, w)
    out = np.empty(dropping.room(against), np.uint8)
    first = address(out)
    at = dropping.rules(against, choice, first)
    if at == dropping.UNKNOWN:
        return out, 0, dropping.UNKNOWN
    now, channel = word(asked, NOW), word(asked, CHANNEL)
    at = dropping.limits(against, choice, now, channel, sets[0], sets[1], at)
    end = dropping.bundles(against, choice, sets[0], sets[1], at)
    return out, at - first, end - first


@numba.njit(cache=True)
def _saw(at: int, laid: int, features: int, row: int) -> int:
    """Write all that the models saw of an action, see :meth:`service.models.Models.row`.

    Args:
        at: Where to write.
        laid: Where :data:`USUAL` and so on are.
        features: Where those of the customer are.
        row: Of the action.
    """
    seen, pairs = 8 * word(laid, NAMED), word(laid, PAIRS)
    end = copy(at, word(laid, 2 * USUAL) + seen * row, seen)
    copy(at, features, 8 * word(laid, FEATURES))
    numbers = features + 8 * (word(laid, AT_NUMBERS) - FACTS)
    for i in range(word(numbers, TOUCHED)):
        if word(numbers, AT_TOUCHED + i) == row:
            own = numbers + 8 * (AT_TOUCHED + word(laid, ACTIONS_SEEN) + pairs * i)
            copy(at + 8 * word(laid, PAIR_AT), own, 8 * pairs)
    if word(word(laid, 2 * HIDING), row):
        for i in range(word(laid, 2 * FELT + 1)):
            copy(at + 8 * word(word(laid, 2 * FELT), i), word(laid, 2 * UNKNOWN), 8)
    return end


@numba.njit(cache=True)
def _deliberation_size(asked: int, choice: int) -> int:
    """Bytes of it, but for the causes that follow from counts."""
    size = word(asked, CAUSES) + word(asked, LATER) + word(asked, ROOMS)
    for i in range(word(asked, PLACEMENTS)):
        size += field_size(_placement_size(asked, _of(asked, i), choice))
    return size


@numba.njit(cache=True, inline="always")
def _of(asked: int, placement: int) -> int:
    """Where it is what is asked of a placement."""
    return asked + 8 * (ASKED + PLACEMENT * placement)


@numba.njit(cache=True, inline="always")
def _candidates(one: int, choice: int) -> int:
    """How many a placement has."""
    at = choice + 8 * (word(one, BEGIN) + placing.COUNT)
    return int(carray(pointer(at), (1,), np.float64)[0])


@numba.njit(cache=True)
def _placement_size(asked: int, one: int, choice: int) -> int:
    count, how = _candidates(one, choice), word(asked, HOW)
    size = word(one, BEFORE) + word(one, AFTER)
    if count:
        columns = _ALWAYS + (how & BY_MODELS != 0) + (how & TOLD != 0)
        size += field_size(2 * count) + columns * field_size(8 * count) + field_size(count)
        if how & LIFTED:
            size += field_size(24 * count)
    return size


@numba.njit(cache=True)
def _deliberation(
    at: int, asked: int, part: int, counted: Bytes, after_limits: int, sizes: int, choice: int
) -> None:
    """Write it.

    Args:
        at: Where to.
        asked: Where the numbers are.
        part: Where the parts are.
        counted: Causes that follow from counts.
        after_limits: Bytes of them that come before those after the limits.
        sizes: Bytes of them in all.
        choice: Where that is which was chosen.
    """
    causes = address(counted)
    at = copy(at, part, word(asked, CAUSES))
    part += word(asked, CAUSES)
    at = copy(at, causes, after_limits)
    at = copy(at, part, word(asked, LATER))
    part += word(asked, LATER)
    at = copy(at, causes + after_limits, sizes - after_limits)
    for i in range(word(asked, PLACEMENTS)):
        one = _of(asked, i)
        at = head(at, 2, _placement_size(asked, one, choice))
        at = copy(at, part, word(one, BEFORE))
        part += word(one, BEFORE)
        at = _columns(at, asked, one, choice)
        at = copy(at, part, word(one, AFTER))
        part += word(one, AFTER)
    copy(at, part, word(asked, ROOMS))


@numba.njit(cache=True)
def _columns(at: int, asked: int, one: int, choice: int) -> int:
    """Write the columns of a placement; where they end."""
    how, count = word(asked, HOW), _candidates(one, choice)
    if not count:
        return at
    fates = word(one, BEGIN) + placing.PLACED + placing.SLOT * word(one, SLOTS)
    ranks = choice + 8 * (fates + (word(asked, ACTIONS) + 7) // 8)
    at = head(at, 2, 2 * count)
    for i in range(count):
        row = word(ranks, i)
        at = put(put(at, row & 0xFF), row >> 8)
    for i in range(_COLUMNS.shape[0]):
        column = _COLUMNS[i]
        if (column == ranking.MODEL and not how & BY_MODELS) or (
            column == ranking.EVIDENCE and not how & TOLD
        ):
            continue
        at = field(at, _FIRST + i, ranks + 8 * column * count, 8 * count)
    if how & LIFTED:
        at = field(at, 11, ranks + 8 * ranking.UPLIFT * count, 24 * count)
    return field(at, 12, choice + 8 * fates, count)
