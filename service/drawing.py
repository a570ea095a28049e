"""The loop that fills a slate. Pure.

It runs over the candidates of one placement, best first, and knows the catalogue as *traits*: whole
numbers in one block. Which fates there are, and what a slate may look like, is said in
``service.exploration``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats, exp
from features.kernels import Integers

Bytes = npt.NDArray[np.uint8]

SHOWN, BELOW_NOTHING, ELSEWHERE, GROUP_FULL, BUNDLED = 0, 1, 2, 3, 4
RANKED_LOWER, NOT_DRAWN, HELD_BACK, HELD_OUT, LIMIT_FULL = 5, 6, 7, 8, 9
_FITS: Final = 255

HEAD: Final = 2
"""Pairs of numbers that stand before the slots in what :func:`fill` writes."""


def traits(groups: Sequence[str], mandatory: Sequence[bool], excludes: Sequence[int]) -> Integers:
    """Pack what a draw has to know of each row of a catalogue.

    Args:
        groups: By row.
        mandatory: Whether it is shown first.
        excludes: Rows that may not stand beside each, as bits. Whoever excludes is excluded.
    """
    codes = {name: code for code, name in enumerate(dict.fromkeys(groups))}
    first: list[int] = [0]
    others: list[int] = []
    for rows in excludes:
        others += [row for row in range(rows.bit_length()) if rows >> row & 1]
        first.append(len(others))
    parts = [len(groups), len(codes)], [codes[name] for name in groups], mandatory, first, others
    return np.concatenate([np.array(part, np.int64) for part in parts])


class _Asked(NamedTuple):
    """The candidates, and what their slate may look like."""

    rows: Integers
    priorities: Floats
    group: Integers  # by row
    mandatory: Integers  # by row
    first: Integers  # by row: where the rows begin that it excludes
    others: Integers
    sets: Bytes  # [1 + rooms, bytes] rows that the answer shows already, and rows of each room
    slots: int
    per_group: int
    nothing: float


class _Slate(NamedTuple):
    """A slate that is being filled."""

    groups: Integers  # how many of each are shown
    excluded: Bytes  # by row
    left: Integers  # places of each room
    shown: Bytes  # by place
    slots: Floats  # [slots, 2] place and probability of each


@numba.njit(cache=True)
def fill(
    packed: Integers,
    rows: Integers,
    priorities: Floats,
    sets: Bytes,
    left: Integers,
    numbers: Floats,
    per_group: int,
    nothing: float,
    left_to_chance: tuple[float, float, float],
    held_out: bool,
    out: Floats,
    fates: Bytes,
) -> None:
    """Fill a slate, and say what became of everybody.

    Args:
        packed: Of :func:`traits`.
        rows: [n] of the catalogue, best first.
        priorities: [n]
        sets: [1 + rooms, bytes] bits of the rows that the answer shows already, then of the rows
            that take a place of each room.
        left: [rooms] places that are left beside what the answer shows already.
        numbers: From 0 to below 1; one is taken for the hold-back and one for each drawn slot,
            where they are needed. Empty where none is.
        per_group: At most so many of a group.
        nothing: Priority that an action must exceed.
        left_to_chance: Probability of an empty slate; temperature of the softmax, in units of the
            best priority of what fits; share of draws that are uniform.
        held_out: Whether only what is mandatory is shown.
        out: [2 + slots, 2] gets how many slots are filled and how many numbers were taken; whether
            the slate is held back and its probability; then place and probability of each slot.
        fates: [n] gets what became of each candidate.
    """
    hold_back, temperature, floor = left_to_chance
    actions = packed[0]
    asked = _Asked(
        rows,
        priorities,
        packed[2 : 2 + actions],
        packed[2 + actions : 2 + 2 * actions],
        packed[2 + 2 * actions : 3 + 3 * actions],
        packed[3 + 3 * actions :],
        sets,
        out.shape[0] - HEAD,
        per_group,
        nothing,
    )
    slate = _Slate(
        np.zeros(packed[1], np.int64),
        np.zeros(actions, np.uint8),
        left.copy(),
        np.zeros(rows.shape[0], np.uint8),
        out[HEAD:],
    )
    _exclude_elsewhere(asked, slate)
    filled = _fill(asked, slate, 0, True)
    probability = 1.0
    taken = 0
    rest = HELD_OUT if held_out else RANKED_LOWER
    if hold_back > 0 and not held_out:
        taken = 1
        if numbers[0] < hold_back:
            rest = HELD_BACK
            probability = hold_back
        else:
            probability -= hold_back
    greedy = slate.shown
    if rest == RANKED_LOWER and temperature == 0 and floor == 0:
        filled = _fill(asked, slate, filled, False)
    elif rest == RANKED_LOWER:
        best = _Slate(
            slate.groups.copy(),
            slate.excluded.copy(),
            slate.left.copy(),
            slate.shown.copy(),
            slate.slots.copy(),
        )
        _fill(asked, best, filled, False)
        greedy = best.shown
        after = _draw(asked, slate, filled, numbers[taken:], temperature, floor)
        taken += after - filled
        for slot in range(filled, after):
            probability *= slate.slots[slot, 1]
        filled = after
    for place in range(rows.shape[0]):
        if slate.shown[place]:
            fates[place] = SHOWN
        elif greedy[place]:
            fates[place] = NOT_DRAWN
        else:
            fate = _unfit(place, asked, slate)
            fates[place] = rest if fate == _FITS else fate
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = filled, taken, rest == HELD_BACK, probability


@numba.njit(cache=True)
def _within(bits: Bytes, row: int) -> bool:
    byte = row >> 3
    return bool(byte < bits.shape[0] and (bits[byte] >> (row & 7)) & 1)


@numba.njit(cache=True)
def _exclude_elsewhere(asked: _Asked, slate: _Slate) -> None:
    """Exclude what may not stand beside what the answer shows already."""
    for byte in range(asked.sets.shape[1]):
        if asked.sets[0, byte]:
            for row in range(8 * byte, min(8 * byte + 8, asked.group.shape[0])):
                if _within(asked.sets[0], row):
                    for i in range(asked.first[row], asked.first[row + 1]):
                        slate.excluded[asked.others[i]] = 1


@numba.njit(cache=True)
def _unfit(place: int, asked: _Asked, slate: _Slate) -> int:
    """Why a candidate may not be shown, where it may not."""
    row = asked.rows[place]
    if not asked.mandatory[row] and not asked.priorities[place] > asked.nothing:
        return BELOW_NOTHING
    if _within(asked.sets[0], row):
        return ELSEWHERE
    if slate.excluded[row]:
        return BUNDLED
    if slate.groups[asked.group[row]] >= asked.per_group:
        return GROUP_FULL
    for room in range(slate.left.shape[0]):
        if slate.left[room] <= 0 and _within(asked.sets[room + 1], row):
            return LIMIT_FULL
    return _FITS


@numba.njit(cache=True)
def _show(asked: _Asked, slate: _Slate, slot: int, place: int, probability: float) -> bool:
    """Put a candidate into a slot; whether another may now not be shown any more."""
    row = asked.rows[place]
    slate.slots[slot, 0], slate.slots[slot, 1] = place, probability
    slate.shown[place] = 1
    slate.groups[asked.group[row]] += 1
    changed = slate.groups[asked.group[row]] >= asked.per_group
    for i in range(asked.first[row], asked.first[row + 1]):
        slate.excluded[asked.others[i]] = 1
        changed = True
    for room in range(slate.left.shape[0]):
        if _within(asked.sets[room + 1], row):
            slate.left[room] -= 1
            changed = changed or slate.left[room] <= 0
    return bool(changed)


@numba.njit(cache=True)
def _fill(asked: _Asked, slate: _Slate, filled: int, only_mandatory: bool) -> int:
    """Take the best that fit until there is no room; who does not fit now never will."""
    for place in range(asked.rows.shape[0]):
        if filled >= asked.slots:
            break
        if only_mandatory and not asked.mandatory[asked.rows[place]]:
            continue
        if not slate.shown[place] and _unfit(place, asked, slate) == _FITS:
            _show(asked, slate, filled, place, 1.0)
            filled += 1
    return filled


@numba.njit(cache=True)
def _draw(
    asked: _Asked, slate: _Slate, filled: int, numbers: Floats, temperature: float, floor: float
) -> int:
    """Draw slot by slot until there is no room; how many are filled then."""
    fitting = np.arange(asked.rows.shape[0])
    fits = _still(asked, slate, fitting)
    soft = np.empty(asked.rows.shape[0])
    highest = np.nan
    first = filled
    while filled < asked.slots and fits > 0:
        best = asked.priorities[fitting[0]]
        for i in range(1, fits):
            best = max(best, asked.priorities[fitting[i]])
        unit = temperature * best
        warm = unit > 0  # not where the best is nothing, nor so little that a part of it is
        if warm and best != highest:
            _soften(asked, fitting[:fits], unit, best, soft)
            highest = best
        at, probability = _drawn(fitting[:fits], soft, floor, warm, numbers[filled - first])
        place = fitting[at]
        if _show(asked, slate, filled, place, probability):
            fits = _still(asked, slate, fitting[:fits])
        else:
            fits -= 1
            for i in range(at, fits):
                fitting[i] = fitting[i + 1]
        filled += 1
    return filled


@numba.njit(cache=True)
def _still(asked: _Asked, slate: _Slate, fitting: Integers) -> int:
    """Move the places that still fit to the front; how many they are."""
    fits = 0
    for i in range(fitting.shape[0]):
        place = fitting[i]
        if not slate.shown[place] and _unfit(place, asked, slate) == _FITS:
            fitting[fits] = place
            fits += 1
    return fits


@numba.njit(cache=True)
def _soften(asked: _Asked, fitting: Integers, unit: float, best: float, soft: Floats) -> None:
    """The terms of the softmax, by place; they stay as they are while the best does."""
    for i in range(fitting.shape[0]):
        place = fitting[i]
        soft[place] = exp(asked.priorities[place] / unit - best / unit)


@numba.njit(cache=True)
def _drawn(
    fitting: Integers, soft: Floats, floor: float, warm: bool, number: float
) -> tuple[int, float]:
    """The interval, of all laid end to end, that a number falls into, and how long it is."""
    count = fitting.shape[0]
    total = 0.0
    if warm:
        for i in range(count):
            total += soft[fitting[i]]
    so_far = 0.0
    one = 0.0
    for i in range(count):
        share = soft[fitting[i]] / total if warm else (1.0 if i == 0 else 0.0)
        one = (1.0 - floor) * share + floor / count
        so_far += one
        if number < so_far:
            return i, one
    return count - 1, one  # the intervals add up to a hair less than 1
