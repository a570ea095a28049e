"""The loop that loads what chain and models say into the registers that rules read. Pure.

:mod:`service.loader` says which register gets what, and loads what comes from beside the events.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.given import (
    ASKED_MODELS,
    AT_ACCEPTANCE,
    AT_CHANCES,
    CHAIN_KNOWN,
    CLASSES,
    LOADS,
    SCORED,
    TABLES,
)
from service.layout import LIKELY
from service.spans import span

LOAD: Final = 6
REGISTER, SOURCE, AT, WHY, MISSING, TABLE = range(LOAD)
"""What is loaded into a register of the rules: from where, and the states where it is unset."""
NUMBER_OF_FACT, WHOLE_OF_FACT, TEXT_OF_FACT, CHANCE, LIKELIEST_NAME, LIKELIEST_CHANCE, WHETHER = (
    range(7)
)
"""Sources."""
PRESENCE: Final = -1
"""In place of a table: it only matters whether there is something."""


@numba.njit(cache=True)
def load(about: Integers, program: Integers, sight: Floats, how: int) -> None:
    """Put what the chain and the models say into the registers that rules read."""
    loads, tables = span(about, LOADS, np.int64), span(about, TABLES, np.int64)
    registers, states = program[program[4] :], program.view(np.uint16)[4 * program[5] :]
    numbers = registers.view(np.float64)
    scored = how & ASKED_MODELS != 0 and about[CLASSES] > 0
    likely = sight[about[AT_ACCEPTANCE] + about[SCORED] :]
    for i in range(loads.shape[0] // LOAD):
        one = loads[LOAD * i : LOAD * i + LOAD]
        register, source, at = one[REGISTER], one[SOURCE], one[AT]
        state = 0
        if source <= TEXT_OF_FACT:
            told = sight[at] if how & CHAIN_KNOWN else np.nan
            registers[register] = 0
            if np.isnan(told):
                state = one[WHY]
            elif source == NUMBER_OF_FACT:
                numbers[register] = told
            elif source == WHOLE_OF_FACT:
                registers[register] = int(told)
            else:
                registers[register] = tables[one[TABLE] + int(told)]
        elif not scored:
            registers[register] = 0
            state = one[WHY]
        elif source == CHANCE:
            registers[register] = 0
            if at < 0:
                state = one[MISSING]
            else:
                numbers[register] = sight[about[AT_CHANCES] + at]
        elif source == LIKELIEST_NAME:
            registers[register] = tables[one[TABLE] + int(likely[0])]
        elif source == LIKELIEST_CHANCE:
            numbers[register] = likely[LIKELY]
        else:
            registers[register] = 0
        if one[TABLE] == PRESENCE:
            registers[register] = 0
        states[register] = state
