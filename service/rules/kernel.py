"""The loop that answers all rules of a request: 8-byte instructions over a file of registers. Pure.

A register holds a double, an int64, a flag as 0 or 1, or a text as its code; each has a *state*,
0 where it is known and else the number of the reason why it is not. Every instruction writes its
own register, so nothing is ever overwritten and nothing branches: what ``&&`` and ``||`` absorb is
decided by states. A few hundred instructions are a few kilobytes, which is what counts between two
requests, when caches are cold (``docs/decisions/0005-rules-and-cold-caches.md``).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers, Words

Shorts = npt.NDArray[np.uint16]

NO, YES = 0, 1
"""Verdicts; any other is 1 + the state of a rule that could not be evaluated."""


class Op(enum.IntEnum):
    """What an instruction does with the registers a, b and c."""

    equal_numbers = 0
    unequal_numbers = 1
    less_numbers = 2
    at_most_numbers = 3
    greater_numbers = 4
    at_least_numbers = 5
    equal = 6  # from here whole numbers, flags and texts
    unequal = 7
    less = 8
    at_most = 9
    greater = 10
    at_least = 11
    add = 12  # doubles
    subtract = 13
    multiply = 14
    divide = 15
    negate = 16
    to_number = 17  # a whole number as a double
    negation = 18  # not a
    conjunction = 19  # a && b
    disjunction = 20  # a || b
    choice = 21  # a ? b : c
    known = 22  # whether a is known
    holds = 23  # whether a is known, where b is: a key in a map


class Code(NamedTuple):
    """A compiled set of rules."""

    instructions: Shorts  # [n, 4] op, a, b, c
    answers: Shorts  # [rules] register with the answer
    fields: int  # registers that the request fills, before those of the constants
    first: int  # register of the first instruction


class Sets(NamedTuple):
    """What is dropped where a rule does not hold."""

    rules: Shorts  # [sets] place of the rule
    members: Words  # [sets, words] bit set over the rows of a catalogue


@numba.njit(cache=True, error_model="numpy")
def run(
    instructions: Shorts,
    first: int,
    doubles: Floats,
    wholes: Integers,
    states: Shorts,
    answers: Shorts,
    verdicts: Shorts,
    rules: Shorts,
    members: Words,
    dropped: Words,
) -> None:
    """Answer every rule and join the sets of those that do not hold.

    Args:
        instructions: [n, 4]; instruction ``i`` writes register ``first + i``.
        first: Number of registers that are filled already.
        doubles: [registers].
        wholes: The same bytes as int64.
        states: [registers] 0 where known.
        answers: [rules] register of each answer.
        verdicts: [rules] written: NO, YES, or 1 + state.
        rules: [sets] place of a rule.
        members: [sets, words].
        dropped: [words] written: all members of sets whose rule's verdict is not YES.
    """
    for i in range(instructions.shape[0]):
        op = instructions[i, 0]
        a, b, c = instructions[i, 1], instructions[i, 2], instructions[i, 3]
        to = first + i
        state = states[a]
        if op <= 11:
            if state == 0:
                state = states[b]
            if op < 6:
                x, y = doubles[a], doubles[b]
                if op == 0:
                    holds = x == y
                elif op == 1:
                    holds = x != y
                elif op == 2:
                    holds = x < y
                elif op == 3:
                    holds = x <= y
                elif op == 4:
                    holds = x > y
                else:
                    holds = x >= y
            else:
                n, m = wholes[a], wholes[b]
                if op == 6:
                    holds = n == m
                elif op == 7:
                    holds = n != m
                elif op == 8:
                    holds = n < m
                elif op == 9:
                    holds = n <= m
                elif op == 10:
                    holds = n > m
                else:
                    holds = n >= m
            wholes[to] = holds
        elif op == 19 or op == 20:  # noqa: PLR1714  a set is slow here
            decisive = op - 19
            if state == 0 and wholes[a] == decisive:
                wholes[to] = decisive
            elif states[b] == 0 and wholes[b] == decisive:
                wholes[to] = decisive
                state = 0
            else:
                wholes[to] = 1 - decisive
                if state == 0:
                    state = states[b]
        elif op == 18:
            wholes[to] = 1 - wholes[a]
        elif op == 22:
            wholes[to] = state == 0
            state = 0
        elif op == 23:
            wholes[to] = state == 0
            state = states[b]
        elif op == 21:
            if state == 0:
                chosen = b if wholes[a] else c
                wholes[to] = wholes[chosen]
                state = states[chosen]
        elif op == 17:
            doubles[to] = wholes[a]
        elif op == 16:
            doubles[to] = -doubles[a]
        else:
            if state == 0:
                state = states[b]
            if op == 12:
                doubles[to] = doubles[a] + doubles[b]
            elif op == 13:
                doubles[to] = doubles[a] - doubles[b]
            elif op == 14:
                doubles[to] = doubles[a] * doubles[b]
            else:
                doubles[to] = doubles[a] / doubles[b]
        states[to] = state
    for rule in range(answers.shape[0]):
        register = answers[rule]
        verdicts[rule] = states[register] + 1 if states[register] else wholes[register]
    for i in range(rules.shape[0]):
        if verdicts[rules[i]] != 1:
            for word in range(members.shape[1]):
                dropped[word] |= members[i, word]
