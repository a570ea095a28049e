"""The loop that gives actions their numbers and puts them in order. Pure.

What a configuration says of its actions stands in columns; which of them count is worked out by
``service.arbitration``, which also says what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.drawing import Bytes

HIGHEST: Final = 1e15
"""Of a priority: weights of 100 may multiply beyond all numbers."""

PRIOR, WORTH, COST, REST = 0, 1, 2, 3
"""Columns of an action: its prior, the evidence that this is worth, what presenting it costs."""

CHANNEL, INTENT, AT_LEAST, FACT, MAGNITUDE = 0, 1, 2, 3, 4
"""Columns of a context weight's condition; channel, intent and fact are places, -1 for any."""

ROW, ACCEPTANCE, VALUE, CAPACITY, WEIGHT, LEVER, PRIORITY, MODEL, EVIDENCE, UPLIFT = range(10)
"""What :func:`rank` writes of each action; uplift are three numbers each, at the end."""

_LEAST: Final = 1e-9  # evidence
_RUN: Final = 8  # that is sorted by insertion


def catalogue(names: Sequence[str], by_uplift: Sequence[bool], answers: Integers) -> Integers:
    """Pack what has to be known of each row of a catalogue.

    Args:
        names: By row.
        by_uplift: Whether uplift ranks it.
        answers: [rows, most] places of the intents that it answers; the last place is nobody's.
    """
    named = sorted(range(len(names)), key=names.__getitem__)
    return np.concatenate(
        [
            np.array([len(names), answers.shape[1]], np.int64),
            np.array(named, np.int64),
            np.array(by_uplift, np.int64),
            answers.reshape(-1),
        ]
    )


@numba.njit(cache=True, error_model="numpy")
def rank(
    packed: Integers,
    columns: Floats,
    conditions: Floats,
    members: Bytes,
    asked: Floats,
    acceptance: Floats,
    evidence: Floats,
    uplift: Floats,
    value: int,
    lever: int,
    by_probability: bool,
    out: Floats,
) -> None:
    """Rank some actions by priority, highest first; equal ones by name, those without one last.

    Args:
        packed: Of :func:`catalogue`.
        columns: [columns, rows] prior, worth, cost, then factors of the context weights, units of
            each resource, values by segment and levers by time.
        conditions: [context weights, 5] when each holds.
        members: Bits of the rows to rank.
        asked: Of the request: channel, weight of an action that answers an intent at 0 % and what
            it gains until 100 %, whether intents were scored; how many intents, facts and prices,
            then probability by intent, magnitude by fact, and column and price of each resource.
        acceptance: [rows] of the model; empty where it was not asked.
        evidence: [rows] presentations it has learnt from; empty where that is not told.
        uplift: [rows, 3] mean, low, high; empty where it was not asked.
        value: Column of the values.
        lever: Column of the levers.
        by_probability: Whether the acceptance probability alone ranks.
        out: [9 or 12, members] gets the numbers, best first.
    """
    actions = packed[0]
    named = packed[2 : 2 + actions]
    count = out.shape[1]
    chances = asked[7 : 7 + int(asked[4])]
    facts = asked[7 + len(chances) : 7 + len(chances) + int(asked[5])]
    prices = asked[7 + len(chances) + len(facts) :]
    found = np.empty((out.shape[0], count))
    found[ROW:] = 0.0
    at = 0
    for i in range(actions):
        row = named[i]
        byte = row >> 3
        if byte < members.shape[0] and (members[byte] >> (row & 7)) & 1:
            found[ROW, at] = row
            at += 1
    by_weight = np.empty(count)
    _weigh(packed, columns, conditions, asked, chances, facts, found)
    for i in range(count):
        row = int(found[ROW, i])
        prior = columns[PRIOR, row]
        drawn = prior
        if acceptance.shape[0]:
            drawn = acceptance[row]
            found[MODEL, i] = drawn
            if evidence.shape[0]:
                k = columns[WORTH, row]
                found[EVIDENCE, i] = evidence[row]
                total = k + evidence[row]
                drawn = (k * prior + evidence[row] * drawn) / total if total > _LEAST else prior
        found[ACCEPTANCE, i] = drawn
        capacity = 0.0
        for j in range(0, prices.shape[0], 2):
            capacity += columns[int(prices[j]), row] * prices[j + 1]
        found[CAPACITY, i] = capacity
        worth = columns[value, row] - capacity
        found[VALUE, i] = worth
        weight = found[WEIGHT, i]
        lift = columns[lever, row]
        found[LEVER, i] = lift
        priority = drawn * worth * weight * lift
        if uplift.shape[0]:
            for j in range(3):
                found[UPLIFT + j, i] = np.nan
            if packed[2 + actions + row] and not np.isnan(uplift[row, 0]):
                for j in range(3):
                    found[UPLIFT + j, i] = uplift[row, j]
                # One that may do harm ranks below doing nothing, however good on average.
                low = uplift[row, 1]
                reward = low if low < 0 else uplift[row, 0] - columns[COST, row] - capacity
                priority = reward * weight * lift
        if by_probability and priority > 0:
            priority = drawn
        if priority > HIGHEST:
            priority = HIGHEST
        elif priority < -HIGHEST:
            priority = -HIGHEST
        found[PRIORITY, i] = priority
        by_weight[i] = -np.inf if np.isnan(priority) else priority
    order = _order(by_weight)
    ids = out[ROW].view(np.int64)
    told = out[UPLIFT:].reshape(-1)
    for i in range(count):
        ids[i] = int(found[ROW, order[i]])
    for column in range(ACCEPTANCE, UPLIFT):
        for i in range(count):
            out[column, i] = found[column, order[i]]
    if uplift.shape[0]:
        for i in range(count):
            for j in range(3):
                told[3 * i + j] = found[UPLIFT + j, order[i]]


@numba.njit(cache=True)
def _weigh(
    packed: Integers,
    columns: Floats,
    conditions: Floats,
    asked: Floats,
    chances: Floats,
    facts: Floats,
    found: Floats,
) -> None:
    """Context weights of the actions."""
    actions, most = packed[0], packed[1]
    answers = packed[2 + 2 * actions :]
    nobody = chances.shape[0] - 1
    for i in range(found.shape[1]):
        mine = int(found[ROW, i]) * most
        weight = 1.0
        if answers[mine] < nobody:
            weight = asked[1]
            if asked[3]:
                likeliest = chances[answers[mine]]
                for j in range(1, most):
                    likeliest = max(likeliest, chances[answers[mine + j]])
                weight = asked[1] + asked[2] * likeliest
        found[WEIGHT, i] = weight
    for one in range(conditions.shape[0]):
        if holds(conditions[one], asked[0], chances, facts):
            for i in range(found.shape[1]):
                found[WEIGHT, i] *= columns[REST + one, int(found[ROW, i])]


@numba.njit(cache=True)
def holds(when: Floats, channel: float, chances: Floats, facts: Floats) -> bool:
    """Whether the situation of a context weight is at hand."""
    if when[CHANNEL] >= 0 and when[CHANNEL] != channel:
        return False
    if when[INTENT] >= 0 and chances[int(when[INTENT])] < when[AT_LEAST]:
        return False
    if when[FACT] < 0:
        return True
    magnitude = facts[int(when[FACT])]
    if when[MAGNITUDE] >= 0:
        return bool(magnitude >= when[MAGNITUDE])
    return bool(magnitude <= when[MAGNITUDE])


@numba.njit(cache=True)
def _order(values: Floats) -> Integers:
    """Places of values, highest first; equal ones as they stand. Insertion, then merges."""
    count = values.shape[0]
    order, other = np.arange(count), np.empty(count, np.int64)
    for start in range(0, count, _RUN):
        for i in range(start + 1, min(start + _RUN, count)):
            one = order[i]
            j = i
            while j > start and values[order[j - 1]] < values[one]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = one
    width = _RUN
    while width < count:
        for start in range(0, count, 2 * width):
            left, right = start, min(start + width, count)
            middle, end = right, min(start + 2 * width, count)
            for i in range(start, end):
                if left < middle and (right >= end or values[order[left]] >= values[order[right]]):
                    other[i] = order[left]
                    left += 1
                else:
                    other[i] = order[right]
                    right += 1
        order, other = other, order
        width *= 2
    return order
