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
from service import choosing, dropping, ranking
from service.drawing import Bytes
from service.sight import AT_TOUCHED, FACTS, TOUCHED
from service.spans import span
from service.writing import copy, field_size, head, text_size, whole, whole_size

USUAL, HIDING, FELT, NAMES, NAME_AT, DIGEST = range(6)
"""Arrays that depend on models and catalogue alone: what the models see of actions whatever the
customer, [actions] of whom they see nothing of :data:`FELT`, and these columns; then the names of
the actions one after another, [actions + 1] where each begins; what stands behind the vector."""
FEATURES, PAIR_AT, NAMED, AT_NUMBERS, PAIRS, ACTIONS_SEEN = range(12, 18)
"""Numbers behind them: columns of the customer, where those of pairs begin, all columns; where the
whole numbers of a sight begin, features of a pair, and rows of it."""

ASKED: Final = 17
(
    COUNT, CAUSES, LATER, ROOMS, ACTIONS, HOW, NOW, CHANNEL, PLACEMENTS,
    CUSTOMER, REQUEST, RESPONSE, CALLER, INPUTS, SHOWN, CLOCK, SEED,
) = range(ASKED)  # fmt: skip
"""What is asked, first of a deliberation and then of the entry around it: how many numbers it is
in all, sizes of the given parts in bytes, and others. Behind it follows what is asked of each
placement, rows of shown actions, and [width] rows whose bundles are dropped before all counting.

Behind the numbers come the parts, as the entry has them: customer, request, response, caller,
inputs, causes before the rules, those after the limits, two of each placement, rooms."""
PLACEMENT: Final = 4
BEGIN, SLOTS, BEFORE, AFTER = range(PLACEMENT)
"""What is asked of a placement: where it begins in the choice, the slots that it has there, and
sizes of what is given of it, before its columns and after them."""

SCORED, SAW, BY_MODELS, TOLD, LIFTED = 1, 2, 4, 8, 16
"""Bits of how it was decided: whether the models have seen the customer, whether they have seen
actions, and whether the columns of models, evidence and uplift mean something."""

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
def entry(
    laid: Integers,
    against: Integers,
    given: Bytes,
    sight: Floats,
    choice: Floats,
    out: Bytes,
) -> int:
    """Write a :class:`log_pb2.LogEntry` of a decision.

    Args:
        laid: Of :class:`service.spans.Spans`: what depends on models and catalogue alone.
        against: The same for :mod:`service.dropping`; nothing where all causes are given.
        given: Numbers of :data:`ASKED`, and the parts behind them.
        sight: What was seen, see :class:`service.sight.Layout`.
        choice: What was chosen, see :func:`service.choosing.choose`.
        out: Overwritten from its beginning.

    Returns:
        Bytes that it takes; nothing is written where that is more than ``out`` has room for, or
        :data:`service.dropping.UNKNOWN`.
    """
    asked = _asked(given)
    counted, rules_and_limits = _counted(against, asked, choice)
    if rules_and_limits == dropping.UNKNOWN:
        return dropping.UNKNOWN
    scored, shown = asked[HOW] & SCORED != 0, asked[SHOWN] if asked[HOW] & SAW else 0
    digest = span(laid, DIGEST, np.uint8)
    rows = asked[ASKED + PLACEMENT * asked[PLACEMENTS] :]
    names, name_at = span(laid, NAMES, np.uint8), span(laid, NAME_AT, np.int64)
    seen, vector = 8 * laid[NAMED], 8 * laid[FEATURES]
    inputs = whole_size(asked[SEED]) + whole_size(asked[CLOCK]) + asked[INPUTS]
    deliberated = counted.shape[0] + _deliberation_size(asked, choice)
    decision = field_size(asked[REQUEST]) + field_size(asked[RESPONSE]) + field_size(inputs)
    decision += text_size(asked[CALLER]) + field_size(deliberated)
    if scored:
        decision += field_size(vector) + digest.shape[0]
    for i in range(shown):
        row = rows[i]
        name = name_at[row + 1] - name_at[row]
        decision += field_size(text_size(name) + text_size(seen))
    size = text_size(asked[CUSTOMER]) + field_size(decision)
    if size > out.shape[0]:
        return size
    at, taken = 0, 8 * asked[COUNT]
    if asked[CUSTOMER]:
        at = head(out, at, 1, asked[CUSTOMER])
        at = copy(out, at, given[taken : taken + asked[CUSTOMER]])
        taken += asked[CUSTOMER]
    at = head(out, at, 3, decision)
    for field, part in ((1, REQUEST), (2, RESPONSE)):
        at = head(out, at, field, asked[part])
        at = copy(out, at, given[taken : taken + asked[part]])
        taken += asked[part]
    if scored:
        at = head(out, at, 3, vector)
        at = copy(out, at, sight[FACTS : FACTS + laid[FEATURES]].view(np.uint8))
        at = copy(out, at, digest)
    if asked[CALLER]:
        at = head(out, at, 5, asked[CALLER])
        at = copy(out, at, given[taken : taken + asked[CALLER]])
        taken += asked[CALLER]
    for i in range(shown):
        row = rows[i]
        name = names[name_at[row] : name_at[row + 1]]
        at = head(out, at, 6, text_size(name.shape[0]) + text_size(seen))
        if name.shape[0]:
            at = head(out, at, 1, name.shape[0])
            at = copy(out, at, name)
        if seen:
            at = head(out, at, 2, seen)
            at = copy(out, at, _saw(laid, sight, row).view(np.uint8))
    at = head(out, at, 7, inputs)
    at = whole(out, at, 1, asked[SEED])
    at = whole(out, at, 2, asked[CLOCK])
    at = copy(out, at, given[taken : taken + asked[INPUTS]])
    taken += asked[INPUTS]
    at = head(out, at, 8, deliberated)
    _deliberation(asked, given[taken:], counted, rules_and_limits, choice, out[at:])
    return size


@numba.njit(cache=True)
def deliberation(against: Integers, given: Bytes, choice: Floats, out: Bytes) -> int:
    """Write a :class:`log_pb2.Deliberation`, of the parts of an entry from the causes on.

    The arguments, and what it returns, are as those of :func:`entry`.
    """
    asked = _asked(given)
    counted, rules_and_limits = _counted(against, asked, choice)
    if rules_and_limits == dropping.UNKNOWN:
        return dropping.UNKNOWN
    size: int = counted.shape[0] + _deliberation_size(asked, choice)
    if size <= out.shape[0]:
        parts = given[8 * asked[COUNT] :]
        _deliberation(asked, parts, counted, rules_and_limits, choice, out)
    return size


@numba.njit(cache=True)
def _asked(given: Bytes) -> Integers:
    """The numbers; what is given begins where a word may."""
    count = given[:8].view(np.int64)[0]
    return given[: 8 * count].view(np.int64)


@numba.njit(cache=True)
def _counted(against: Integers, asked: Integers, choice: Floats) -> tuple[Bytes, int]:
    """Causes that follow from counts, and how many bytes of them come before those after limits."""
    out = np.empty(dropping.room(against) if dropping.counted(against, choice) else 0, np.uint8)
    if not out.shape[0]:
        return out, 0
    rules = dropping.rules(against, choice, out)
    if rules == dropping.UNKNOWN:
        return out, rules
    parting = asked[asked.shape[0] - against[dropping.WIDTH] :].copy()
    now, channel = asked[NOW], asked[CHANNEL]
    at = rules + dropping.limits(against, choice, now, channel, parting, out[rules:])
    dropping.ruled(against, choice, parting)
    return out[: at + dropping.bundles(against, parting, out[at:])], at


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
    size: int = asked[CAUSES] + asked[LATER] + asked[ROOMS]
    for i in range(asked[PLACEMENTS]):
        size += field_size(_placement_size(asked, _of(asked, i), choice))
    return size


@numba.njit(cache=True)
def _of(asked: Integers, placement: int) -> Integers:
    """What is asked of a placement."""
    begin = ASKED + PLACEMENT * placement
    return asked[begin : begin + PLACEMENT]


@numba.njit(cache=True)
def _placement_size(asked: Integers, one: Integers, choice: Floats) -> int:
    count = int(choice[one[BEGIN] + choosing.COUNT])
    size: int = one[BEFORE] + one[AFTER]
    if count:
        how = asked[HOW]
        columns = _ALWAYS + (how & BY_MODELS != 0) + (how & TOLD != 0)
        size += field_size(2 * count) + columns * field_size(8 * count) + field_size(count)
        if how & LIFTED:
            size += field_size(24 * count)
    return size


@numba.njit(cache=True)
def _deliberation(
    asked: Integers, given: Bytes, counted: Bytes, rules_and_limits: int, choice: Floats, out: Bytes
) -> None:
    at = copy(out, 0, given[: asked[CAUSES]])
    taken = asked[CAUSES]
    at = copy(out, at, counted[:rules_and_limits])
    at = copy(out, at, given[taken : taken + asked[LATER]])
    taken += asked[LATER]
    at = copy(out, at, counted[rules_and_limits:])
    for i in range(asked[PLACEMENTS]):
        one = _of(asked, i)
        at = head(out, at, 2, _placement_size(asked, one, choice))
        at = copy(out, at, given[taken : taken + one[BEFORE]])
        taken += one[BEFORE]
        at = _columns(asked, one, choice, out, at)
        at = copy(out, at, given[taken : taken + one[AFTER]])
        taken += one[AFTER]
    copy(out, at, given[taken : taken + asked[ROOMS]])


@numba.njit(cache=True)
def _columns(asked: Integers, one: Integers, choice: Floats, out: Bytes, at: int) -> int:
    """Write the columns of a placement; where they end."""
    how, count = asked[HOW], int(choice[one[BEGIN] + choosing.COUNT])
    if not count:
        return at
    at_fates = one[BEGIN] + choosing.PLACED + choosing.SLOT * one[SLOTS]
    ranks = at_fates + (asked[ACTIONS] + 7) // 8
    rows = choice[ranks : ranks + count].view(np.int64)
    at = head(out, at, 2, 2 * count)
    for i in range(count):
        out[at + 2 * i] = rows[i] & 0xFF
        out[at + 2 * i + 1] = rows[i] >> 8
    at += 2 * count
    for i in range(_COLUMNS.shape[0]):
        column = _COLUMNS[i]
        if (column == ranking.MODEL and not how & BY_MODELS) or (
            column == ranking.EVIDENCE and not how & TOLD
        ):
            continue
        at = head(out, at, _FIRST + i, 8 * count)
        begin = ranks + column * count
        at = copy(out, at, choice[begin : begin + count].view(np.uint8))
    if how & LIFTED:
        uplift = ranks + ranking.UPLIFT * count
        at = head(out, at, 11, 24 * count)
        at = copy(out, at, choice[uplift : uplift + 3 * count].view(np.uint8))
    at = head(out, at, 12, count)
    return copy(out, at, choice[at_fates:ranks].view(np.uint8)[:count])
