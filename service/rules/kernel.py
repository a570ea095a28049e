"""The loop that answers all rules of a request: 8-byte instructions over a file of registers. Pure.

A register holds a double, an int64, a flag as 0 or 1, or a text as its code; each has a *state*,
0 where it is known and else the number of the reason why it is not. Every instruction writes its
own register, so nothing is ever overwritten and nothing branches: what ``&&`` and ``||`` absorb is
decided by states. A few hundred instructions are a few kilobytes, which is what counts between two
requests, when caches are cold (``docs/decisions/0005-rules-and-cold-caches.md``).
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

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

    instructions: Shorts  # [n, 4] op, a, b, c; instruction ``i`` writes register ``first + i``
    answers: Shorts  # [rules] register with the answer
    fields: int  # registers that the request fills, before those of the constants
    first: int  # register of the first instruction


class Memory(NamedTuple):
    """All that a run touches, as one block of 8-byte words: nothing is looked for elsewhere.

    The sizes come first, then each part from a word of its own; all but the values are packed.
    """

    words: Integers
    sizes: Integers  # [4] registers, instructions, rules, sets
    values: int  # word of the first register
    states: int
    verdicts: int
    dropped: int  # word of the first word of the dropped rows
    width: int  # words of a set of rows


def memory(code: Code, values: Integers, states: Shorts, rules: Shorts, members: Words) -> Memory:
    """Lay out a program.

    Args:
        code: Its instructions.
        values: [registers] with the constants in place.
        states: [registers] of the constants.
        rules: [sets] place of the rule that drops a set of rows where it does not hold.
        members: [sets, words] bit sets over the rows of a catalogue.
    """
    width = members.shape[1]
    parts = [
        np.zeros(_HEADER, np.int64),
        _packed(code.instructions),
        _packed(code.answers),
        _packed(rules),
        members.reshape(-1).view(np.int64),
        values,
        _packed(states),
        _packed(np.zeros(len(code.answers), np.uint16)),
        np.zeros(width, np.int64),
    ]
    words = np.concatenate(parts)
    starts = np.cumsum([len(part) for part in parts])
    words[: len(starts)] = starts
    sizes = [len(values), len(code.instructions), len(code.answers), len(rules), width, code.first]
    words[len(starts) : len(starts) + len(sizes)] = sizes
    at = starts.tolist()
    return Memory(words, words[len(starts) :], at[4], at[5], at[6], at[7], width)


def _packed(shorts: Shorts) -> Integers:
    flat = np.zeros(-(-shorts.size // 4) * 4, np.uint16)
    flat[: shorts.size] = shorts.reshape(-1)
    return flat.view(np.int64)


_HEADER: Final = 16


@numba.njit(cache=True, error_model="numpy")
def run(words: Integers) -> None:
    """Answer every rule and join the sets of those that do not hold.

    Args:
        words: Of :class:`Memory`; the registers of fields, and their states, are filled. Verdicts
            (:data:`NO`, :data:`YES`, or 1 + state) and dropped rows are written.
    """
    shorts = words.view(np.uint16)
    doubles, wholes = words[words[4] : words[5]].view(np.float64), words[words[4] : words[5]]
    instructions = shorts[4 * words[0] : 4 * words[1]]
    answers = shorts[4 * words[1] : 4 * words[2]]
    rules = shorts[4 * words[2] : 4 * words[3]]
    members = words[words[3] : words[4]]
    states = shorts[4 * words[5] : 4 * words[6]]
    verdicts = shorts[4 * words[6] : 4 * words[7]]
    dropped = words[words[7] : words[8]]
    count, asked, sets, width, first = words[10], words[11], words[12], words[13], words[14]
    for i in range(count):
        op = instructions[4 * i]
        a, b, c = instructions[4 * i + 1], instructions[4 * i + 2], instructions[4 * i + 3]
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
    for rule in range(asked):
        register = answers[rule]
        verdicts[rule] = states[register] + 1 if states[register] else wholes[register]
    for word in range(width):
        dropped[word] = 0
    for i in range(sets):
        if verdicts[rules[i]] != 1:
            for word in range(width):
                dropped[word] |= members[i * width + word]
