"""The loop from what was seen of a customer to what is shown. Pure.

Rules, limits, what limits leave to several actions, ranks and draws follow from one another without
a question to anybody. :mod:`service.choice` prepares what this reads and reads what this writes;
the steps themselves are :mod:`service.rules.kernel`, :mod:`features.usage`,
:mod:`service.ranking` and :mod:`service.drawing`.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

from features import fields, usage
from features.duration import DAY
from features.elementary import Floats
from features.kernels import Integers
from features.record import RESERVED
from features.vocabulary import Outcome
from service import chance, drawing, ranking, saying, telling
from service.drawing import Bytes
from service.printing import UNTOLD
from service.rules import kernel as rules
from service.sight import FACTS, LIKELY
from service.spans import span
from service.writing import address

(
    CATALOGUE, COLUMNS, CONDITIONS, COUNTING, KEYS, KEY_ROWS, SHARES, SHARE_ROWS, BUNDLES, TRAITS,
    ROW_OF_CODE, LOADS, TABLES, INTENTS, FACT_AT, MATCH, OF_CLASS,
) = range(17)  # fmt: skip
"""Arrays that do not depend on the customer, see :class:`service.choice.Chooser`."""
ACTIONS, WIDTH, AT_CHANCES, CLASSES, AT_ACCEPTANCE, SCORED, VERDICTS, PIECES = range(34, 42)
"""Numbers behind them: rows, words of a set of rows, where probabilities are, words of verdicts,
and the address of what answers are made of."""

KEY: Final = 4
HOLDS_ON, ROOM, SHOWS, WITHIN = range(KEY)
"""What is known of a key of the limits: its channel, how many there may be before one more is too
many, whether it limits showing, and its window."""

SHARE: Final = 5
SHARED_KEY, SHARED_ON, AT_MOST, SHARED_WITHIN, TAKES = range(SHARE)
"""What is known of a limit on showing that several actions come up against."""

LOAD: Final = 6
REGISTER, SOURCE, AT, WHY, MISSING, TABLE = range(LOAD)
"""What is loaded into a register of the rules: from where, and the states where it is unset."""
NUMBER_OF_FACT, WHOLE_OF_FACT, TEXT_OF_FACT, CHANCE, LIKELIEST_NAME, LIKELIEST_CHANCE, WHETHER = (
    range(7)
)
"""Sources."""
PRESENCE: Final = -1
"""In place of a table: it only matters whether there is something."""

PLACING: Final = 7
SLOTS, PER_GROUP, NOTHING, HOLD_BACK, TEMPERATURE, FLOOR, NAMED = range(PLACING)
"""What stands before the rows in what a placement asks for, doubles from :data:`NOTHING` on, and
the piece of its name; behind the rows stands the first piece of each action's treatment."""

LEDGER_KNOWN, CHAIN_KNOWN, ASKED_MODELS, BY_MODELS, BY_PROBABILITY, HELD_OUT, FILTERS = (
    1, 2, 4, 8, 16, 32, 64,
)  # fmt: skip
"""Bits of how to choose: what is known, whether the models said something, whether that ranks."""

ROOMS, OVER, SAID, AT_DROPPED = 0, 1, 2, 3
"""Of what is written: how many rooms there are, keys of the limits that are used up, and bytes of
the answer, or :data:`service.printing.UNTOLD`; then the dropped rows, those that rules drop,
verdicts, counts and rooms."""
PLACED: Final = 5
COUNT, FILLED, TAKEN, HELD_BACK, PROBABILITY = range(PLACED)
"""What is written of a placement, before its slots."""
SLOT: Final = 14
ROW, PLACE, CHANCE_OF_SLOT, FIRST_FACTOR = 0, 1, 2, 3
"""What is written of a slot: row, place, probability, and the numbers of its action from
``ranking.ACCEPTANCE`` on."""
FACTORS: Final = ranking.UPLIFT + 3 - ranking.ACCEPTANCE

_PRESENTED: Final = int(Outcome.presented)
_ONE: Final = np.uint64(1)


@numba.njit(cache=True, error_model="numpy")
def choose(  # noqa: PLR0913, PLR0917  a kernel takes what it reads
    about: Integers,
    program: Integers,
    ledger: Integers,
    sight: Floats,
    placings: Integers,
    before: Integers,
    prices: Floats,
    evidence: Floats,
    uplift: Floats,
    now: int,
    channel: int,
    weighed_channel: float,
    interaction: int,
    seed: int,
    value: int,
    lever: int,
    how: int,
    chain: int,
    out: Floats,
    text: Bytes,
) -> None:
    """Choose what is shown, and write the answer's intents, facts and slates.

    Args:
        about: Of :class:`service.spans.Spans`: what does not depend on the customer.
        program: Of the rules; what comes from beside the events is in its registers.
        ledger: Words of it.
        sight: What was seen, see :class:`service.sight.Layout`.
        placings: [placements, :data:`PLACING` + width + actions] what each asks for and could show.
        before: [2, width] rows that are dropped already, and those of them that drop a bundle.
        prices: Column and price of each scarce resource, in turns.
        evidence: [rows] presentations that the models have learnt from; empty: not told.
        uplift: [rows, 3]; empty: not asked.
        now: Milliseconds since 1970-01-01 UTC.
        channel: Its code.
        weighed_channel: Its place among those that context weights name.
        interaction: Hash of the contact; 0: it stands alone.
        seed: 64 bits, as a number with a sign.
        value: Column of the values.
        lever: Column of the levers.
        how: :data:`FILTERS` and its like.
        chain: Where the numbers of the journey begin in ``sight``.
        out: Overwritten.
        text: Gets intents, facts and slates, as fields of an answer.
    """
    width, actions = about[WIDTH], about[ACTIONS]
    wholes = out.view(np.int64)
    _load(about, program, sight, how)
    rules.run(program)
    at = AT_DROPPED + 2 * width
    said = program[program[6] : program[7]]
    for i in range(said.shape[0]):
        wholes[at + i] = said[i]
    at += about[VERDICTS]
    keys = span(about, KEYS, np.int64).shape[0] // KEY
    counts = wholes[at : at + 2 * keys].reshape(2, keys)
    at += 2 * keys
    counted = how & LEDGER_KNOWN != 0 and keys > 0
    own_rows, own_ages = np.empty(0, np.int64), np.empty(0)
    if counted:
        usage.count_into(ledger, now, span(about, COUNTING, np.int64), counts)
        if interaction != 0:
            own_rows, own_ages = _own(about, ledger, now, channel, interaction)
    else:
        counts[:] = 0
    wholes[OVER] = 0
    dropped = wholes[AT_DROPPED : AT_DROPPED + width]
    ruled = wholes[AT_DROPPED + width : AT_DROPPED + 2 * width]
    failed = program[program[7] : program[8]]
    for w in range(width):
        dropped[w] = before[w]
        ruled[w] = failed[w] if w < failed.shape[0] else 0
    if how & FILTERS:
        parting = before[width:].copy()
        for w in range(width):
            dropped[w] |= ruled[w]
            parting[w] |= ruled[w]
        if counted:
            wholes[OVER] = _limit(about, counts, own_rows, own_ages, now, channel, dropped, parting)
        _part(about, parting, dropped)
    slots = 0
    for p in range(placings.shape[0]):
        slots += placings[p, SLOTS]
    shares = span(about, SHARES, np.int64).shape[0] // SHARE
    rooms = 0
    at_rooms = at
    if counted:
        rooms = _rooms(about, counts, own_rows, own_ages, channel, slots, wholes[at:])
    wholes[ROOMS] = rooms
    at += shares * (2 + width)
    room_words = wholes[at_rooms : at_rooms + rooms * (2 + width)].reshape(rooms, 2 + width)
    sets = np.zeros((1 + rooms, width), np.int64)
    for r in range(rooms):
        sets[1 + r] = room_words[r, 2:]
    left = np.empty(rooms, np.int64)
    asked = _asked(about, sight, prices, weighed_channel, how)
    acceptance = sight[:0]
    if how & BY_MODELS:
        acceptance = sight[about[AT_ACCEPTANCE] : about[AT_ACCEPTANCE] + about[SCORED]]
    met, verdicts = _met(about, asked), address(program) + 8 * program[6]
    known = how & BY_MODELS != 0, evidence.shape[0] > 0, uplift.shape[0] > 0
    taken, told = 0, UNTOLD
    if text.shape[0]:
        told = _tell(about, sight, chain, now, how, address(text))
    for p in range(placings.shape[0]):
        for r in range(rooms):
            left[r] = room_words[r, 1] - _common(sets[0], sets[1 + r])
        placed = out[at:]
        _place(about, placings[p], dropped, sets, left, asked, acceptance, evidence, uplift, seed,
               taken, value, lever, how, placed)  # fmt: skip
        taken += int(placed[TAKEN])
        for slot in range(int(placed[FILLED])):
            row = int(placed[PLACED + SLOT * slot + ROW])
            sets[0, row >> 6] |= 1 << (row & 63)
        at += room_of_placement(actions, placings[p, SLOTS])
        if told != UNTOLD:
            lies = address(placings[p])
            told = saying.slate(
                told, about[PIECES], asked, met, verdicts, placings[p, NAMED],
                lies + 8 * (PLACING + width), address(placed) + 8 * PLACED, 8 * SLOT,
                int(placed[FILLED]), placed[HELD_BACK] > 0, placed[PROBABILITY], known, now,
            )  # fmt: skip
    wholes[SAID] = told if told == UNTOLD else told - address(text)


@numba.njit(cache=True)
def _tell(about: Integers, sight: Floats, chain: int, now: int, how: int, at: int) -> int:
    """Write intents and facts."""
    of_class = span(about, OF_CLASS, np.int64)
    likely = sight[about[AT_ACCEPTANCE] + about[SCORED] :][: 2 * LIKELY]
    count = min(LIKELY, about[CLASSES]) if how & ASKED_MODELS else 0
    at = telling.scores(at, about[PIECES], of_class, likely, count)
    if not how & CHAIN_KNOWN:
        return at
    return telling.facts(
        at, about[PIECES], sight[:FACTS], sight[chain:].view(np.int64),
        of_class[int(likely[0])] if count else -1, likely[LIKELY] if count else 0.0, now,
    )  # fmt: skip


@numba.njit(cache=True)
def _met(about: Integers, asked: Floats) -> Bytes:
    """[context weights] whether each holds."""
    conditions = span(about, CONDITIONS, np.float64)
    conditions = conditions.reshape(conditions.shape[0] // 5, 5)
    chances = asked[7 : 7 + int(asked[4])]
    facts = asked[7 + len(chances) : 7 + len(chances) + int(asked[5])]
    found = np.empty(conditions.shape[0], np.uint8)
    for i in range(conditions.shape[0]):
        found[i] = ranking.holds(conditions[i], asked[0], chances, facts)
    return found


@numba.njit(cache=True)
def room_of_placement(actions: int, slots: int) -> int:
    """Words that are written of a placement."""
    return PLACED + SLOT * slots + (actions + 7) // 8 + (ranking.UPLIFT + 3) * actions


@numba.njit(cache=True)
def _load(about: Integers, program: Integers, sight: Floats, how: int) -> None:
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


@numba.njit(cache=True)
def _own(
    about: Integers, ledger: Integers, now: int, channel: int, interaction: int
) -> tuple[Integers, Floats]:
    """Rows that the contact itself has shown today, or holds, with the age of each.

    Showing them again on the same day makes no new contact; what is held counts in every window.
    """
    row_of_code = span(about, ROW_OF_CODE, np.int64)
    count = ledger.shape[0] // fields.WORDS
    rows, ages = np.empty(count, np.int64), np.empty(count)
    found = 0
    for i in range(count):
        at, outcome = fields.occurred_at(ledger, i), fields.outcome(ledger, i)
        if (
            fields.interaction(ledger, i) != interaction
            or fields.channel(ledger, i) != channel
            or at > now
            or at // DAY != now // DAY
        ):
            continue
        held = outcome == RESERVED and now < at + 1000 * fields.value(ledger, i)
        if not held and outcome != _PRESENTED:
            continue
        row = row_of_code[min(fields.action(ledger, i), row_of_code.shape[0] - 1)]
        if row >= 0:
            rows[found], ages[found] = row, 0.0 if held else now - at
            found += 1
    return rows[:found], ages[:found]


@numba.njit(cache=True)
def _again(rows: Integers, ages: Floats, within: int, found: Integers) -> None:
    """The rows that a contact has shown within a window, as a set."""
    found[:] = 0
    for i in range(rows.shape[0]):
        if ages[i] < within:
            found[rows[i] >> 6] |= 1 << (rows[i] & 63)


@numba.njit(cache=True)
def _limit(
    about: Integers, counts: Integers, own_rows: Integers, own_ages: Floats, now: int,
    channel: int, dropped: Integers, parting: Integers,
) -> int:  # fmt: skip
    """Drop what limits and suppressions forbid; how many of them forbid something."""
    keys, rows = span(about, KEYS, np.int64), span(about, KEY_ROWS, np.int64)
    width = dropped.shape[0]
    again = np.zeros(width, np.int64)
    found = 0
    for key in range(counts.shape[1]):
        one = keys[KEY * key : KEY * key + KEY]
        over = counts[0, key] > one[ROOM] or counts[1, key] > now
        if not over or (one[HOLDS_ON] != 0 and one[HOLDS_ON] != channel):
            continue
        spared = own_rows.shape[0] > 0 and one[SHOWS] != 0 and counts[0, key] - 1 <= one[ROOM]
        if spared:
            _again(own_rows, own_ages, one[WITHIN], again)
        for w in range(width):
            actions = rows[width * key + w]
            if spared:
                actions &= ~again[w]
            dropped[w] |= actions
            parting[w] |= actions
        found += 1
    return found


@numba.njit(cache=True)
def _part(about: Integers, parting: Integers, dropped: Integers) -> None:
    """Drop bundles of which a part is dropped."""
    bundles, width = span(about, BUNDLES, np.int64), dropped.shape[0]
    for i in range(bundles.shape[0] // (1 + width)):
        one = bundles[(1 + width) * i : (1 + width) * (i + 1)]
        for w in range(width):
            if one[1 + w] & parting[w]:
                dropped[one[0] >> 6] |= 1 << (one[0] & 63)


@numba.njit(cache=True)
def _rooms(
    about: Integers, counts: Integers, own_rows: Integers, own_ages: Floats, channel: int,
    most: int, out: Integers,
) -> int:  # fmt: skip
    """List the shared limits that an answer of so many actions could use up.

    Each with its number, its places and the rows that take one; gives how many there are.
    """
    shares, rows = span(about, SHARES, np.int64), span(about, SHARE_ROWS, np.int64)
    width = about[WIDTH]
    again = np.zeros(width, np.int64)
    found = 0
    for i in range(shares.shape[0] // SHARE):
        one = shares[SHARE * i : SHARE * i + SHARE]
        if one[SHARED_ON] != 0 and one[SHARED_ON] != channel:
            continue
        counted = counts[0, one[SHARED_KEY]]
        if counted <= one[AT_MOST] - min(one[TAKES], most):
            continue
        places = one[AT_MOST] - counted
        if places <= 0 and own_rows.shape[0] == 0:
            continue  # a filter has dropped them all
        _again(own_rows, own_ages, one[SHARED_WITHIN], again)
        at = (2 + width) * found
        out[at], out[at + 1] = i, max(0, places)
        for w in range(width):
            out[at + 2 + w] = rows[width * i + w] & ~again[w]
        found += 1
    return found


@numba.njit(cache=True)
def _common(a: Integers, b: Integers) -> int:
    """How many rows are in both of two sets."""
    found = 0
    for w in range(a.shape[0]):
        both = np.uint64(a[w] & b[w])
        while both != 0:
            both &= both - _ONE
            found += 1
    return found


@numba.njit(cache=True)
def _asked(about: Integers, sight: Floats, prices: Floats, channel: float, how: int) -> Floats:
    """What :func:`service.ranking.rank` has to know of the request."""
    intents, facts = span(about, INTENTS, np.int64), span(about, FACT_AT, np.int64)
    match = span(about, MATCH, np.float64)
    scored = how & ASKED_MODELS != 0 and about[CLASSES] > 0
    first = 7 + intents.shape[0] + 1
    out = np.empty(first + facts.shape[0] + prices.shape[0])
    out[0], out[1], out[2], out[3] = channel, match[0], match[1], scored
    out[4], out[5], out[6] = intents.shape[0] + 1, facts.shape[0], prices.shape[0]
    for i in range(intents.shape[0]):
        known = scored and intents[i] >= 0
        out[7 + i] = sight[about[AT_CHANCES] + intents[i]] if known else 0.0
    out[first - 1] = 0.0
    for i in range(facts.shape[0]):
        out[first + i] = sight[facts[i]] if how & CHAIN_KNOWN else np.nan
    for i in range(prices.shape[0]):
        out[first + facts.shape[0] + i] = prices[i]
    return out


@numba.njit(cache=True, error_model="numpy")
def _place(  # noqa: PLR0913, PLR0917  see above
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
