"""The loop that ranks and draws for one placement, and writes both. Pure.

The steps themselves are :mod:`service.ranking` and :mod:`service.drawing`.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service import chance, drawing, ranking
from service.given import (
    ACTIONS,
    BY_PROBABILITY,
    CATALOGUE,
    COLUMNS,
    CONDITIONS,
    HELD_OUT,
    TRAITS,
    WIDTH,
)
from service.spans import span

PLACING: Final = 7
SLOTS, PER_GROUP, NOTHING, HOLD_BACK, TEMPERATURE, FLOOR, NAMED = range(PLACING)
"""What stands before the rows in what a placement asks for, doubles from :data:`NOTHING` on, and
the piece of its name; behind the rows stands the first piece of each action's treatment."""

PLACED: Final = 5
COUNT, FILLED, TAKEN, HELD_BACK, PROBABILITY = range(PLACED)
"""What is written of a placement, before its slots."""
SLOT: Final = 14
ROW, PLACE, CHANCE_OF_SLOT, FIRST_FACTOR = 0, 1, 2, 3
"""What is written of a slot: row, place, probability, and the numbers of its action from
``ranking.ACCEPTANCE`` on."""

_ONE: Final = np.uint64(1)


@numba.njit(cache=True, error_model="numpy")
def fill(  # noqa: PLR0913, PLR0917  a kernel takes what it reads
    about: Integers, placing: Integers, dropped: Integers, sets: Integers, left: Integers,
    asked: Floats, acceptance: Floats, evidence: Floats, uplift: Floats, seed: int, taken: int,
    value: int, lever: int, how: int, out: Floats,
) -> None:  # fmt: skip
    """Rank and draw for one placement."""
    width, actions = about[WIDTH], about[ACTIONS]
    members = np.empty(width, np.int64)
    count = 0
    for w in range(width):
        members[w] = placing[PLACING + w] & ~dropped[w]
        bits = np.uint64(members[w])
        while bits != 0:
            bits &= bits - _ONE
            count += 1
    slots = min(placing[SLOTS], count)
    doubles = placing.view(np.float64)
    chances = (doubles[HOLD_BACK], doubles[TEMPERATURE], doubles[FLOOR])
    at_fates = PLACED + SLOT * placing[SLOTS]
    at_ranks = at_fates + (actions + 7) // 8
    height = ranking.UPLIFT if uplift.shape[0] == 0 else ranking.UPLIFT + 3
    ranks = out[at_ranks : at_ranks + height * count].reshape(height, count)
    catalogue = span(about, CATALOGUE, np.int64)
    columns = span(about, COLUMNS, np.float64)
    conditions = span(about, CONDITIONS, np.float64)
    ranking.rank(
        catalogue,
        columns.reshape(columns.shape[0] // max(1, actions), actions),
        conditions.reshape(conditions.shape[0] // 5, 5),
        members.view(np.uint8),
        asked,
        acceptance,
        evidence if acceptance.shape[0] else acceptance,
        uplift.reshape(uplift.shape[0] // 3, 3),
        value,
        lever,
        how & BY_PROBABILITY != 0,
        ranks,
    )
    if chances[0] != 0 or chances[1] != 0 or chances[2] != 0:
        numbers = chance.numbers(seed, taken, slots + 1)
    else:
        numbers = np.empty(0)
    drawn = np.empty((drawing.HEAD + slots, 2))
    fates = out[at_fates:at_ranks].view(np.uint8)[:count]
    rows = ranks[ranking.ROW].view(np.int64)
    drawing.fill(
        span(about, TRAITS, np.int64), rows, ranks[ranking.PRIORITY],
        sets.view(np.uint8), left, numbers, placing[PER_GROUP],
        doubles[NOTHING], chances, how & HELD_OUT != 0, drawn, fates,
    )  # fmt: skip
    out[COUNT], out[FILLED], out[TAKEN] = count, drawn[0, 0], drawn[0, 1]
    out[HELD_BACK], out[PROBABILITY] = drawn[1, 0], drawn[1, 1]
    told = ranks[ranking.UPLIFT :].reshape(-1)
    for slot in range(int(drawn[0, 0])):
        place = int(drawn[drawing.HEAD + slot, 0])
        one = out[PLACED + SLOT * slot : PLACED + SLOT * (slot + 1)]
        one[ROW], one[PLACE] = rows[place], place
        one[CHANCE_OF_SLOT] = drawn[drawing.HEAD + slot, 1]
        for j in range(ranking.ACCEPTANCE, ranking.UPLIFT):
            one[FIRST_FACTOR + j - ranking.ACCEPTANCE] = ranks[j, place]
        for j in range(3):
            known = height > ranking.UPLIFT
            one[FIRST_FACTOR + ranking.UPLIFT - ranking.ACCEPTANCE + j] = (
                told[3 * place + j] if known else np.nan
            )


@numba.njit(cache=True)
def room(actions: int, slots: int) -> int:
    """Words that are written of a placement."""
    return PLACED + SLOT * slots + (actions + 7) // 8 + (ranking.UPLIFT + 3) * actions
