"""The loop from what was seen of a customer to what is shown. Pure.

Rules, limits, what limits leave to several actions, ranks and draws follow from one another without
a question to anybody. :mod:`service.chooser` prepares what this reads, and :mod:`service.choice`
reads what this writes; the steps themselves are :mod:`service.loading`,
:mod:`service.rules.kernel`, :mod:`features.usage`, :mod:`service.limiting` and
:mod:`service.placing`.
"""

from __future__ import annotations

import numba
import numpy as np

from features import usage
from features.elementary import Floats
from features.kernels import Integers
from service import limiting, loading, placing, ranking, saying, telling
from service.drawing import Bytes
from service.given import (
    ACTIONS,
    ASKED_MODELS,
    AT_ACCEPTANCE,
    AT_CHANCES,
    BUNDLES,
    BY_MODELS,
    CHAIN_KNOWN,
    CLASSES,
    CONDITIONS,
    COUNTING,
    FACT_AT,
    FILTERS,
    INTENTS,
    KEYS,
    LEDGER_KNOWN,
    MATCH,
    OF_CLASS,
    PIECES,
    SCORED,
    SHARES,
    VERDICTS,
    WIDTH,
)
from service.layout import FACTS, LIKELY
from service.printing import UNTOLD
from service.rules import kernel as rules
from service.spans import span
from service.writing import address

ROOMS, OVER, SAID, AT_DROPPED = 0, 1, 2, 3
"""Of what is written: how many rooms there are, keys of the limits that are used up, and bytes of
the answer, or :data:`service.printing.UNTOLD`; then the dropped rows, those that rules drop,
verdicts, counts and rooms."""


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
        sight: What was seen, see :class:`service.layout.Layout`.
        placings: [placements, :data:`service.placing.PLACING` + width + actions] what each asks for
            and could show.
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
        how: :data:`service.given.FILTERS` and its like.
        chain: Where the numbers of the journey begin in ``sight``.
        out: Overwritten.
        text: Gets intents, facts and slates, as fields of an answer.
    """
    width, actions = about[WIDTH], about[ACTIONS]
    wholes = out.view(np.int64)
    loading.load(about, program, sight, how)
    rules.run(program)
    at = AT_DROPPED + 2 * width
    said = program[program[6] : program[7]]
    for i in range(said.shape[0]):
        wholes[at + i] = said[i]
    at += about[VERDICTS]
    keys = span(about, KEYS, np.int64).shape[0] // limiting.KEY
    counts = wholes[at : at + 2 * keys].reshape(2, keys)
    at += 2 * keys
    counted = how & LEDGER_KNOWN != 0 and keys > 0
    own_rows, own_ages = np.empty(0, np.int64), np.empty(0)
    if counted:
        usage.count_into(ledger, now, span(about, COUNTING, np.int64), counts)
        if interaction != 0:
            own_rows, own_ages = limiting.own(about, ledger, now, channel, interaction)
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
            wholes[OVER] = limiting.drop(
                about, counts, own_rows, own_ages, now, channel, dropped, parting
            )
        _part(about, parting, dropped)
    slots = 0
    for p in range(placings.shape[0]):
        slots += placings[p, placing.SLOTS]
    shares = span(about, SHARES, np.int64).shape[0] // limiting.SHARE
    rooms = 0
    at_rooms = at
    if counted:
        rooms = limiting.rooms(about, counts, own_rows, own_ages, channel, slots, wholes[at:])
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
            left[r] = room_words[r, 1] - limiting.common(sets[0], sets[1 + r])
        placed = out[at:]
        placing.fill(
            about, placings[p], dropped, sets, left, asked, acceptance, evidence, uplift, seed,
            taken, value, lever, how, placed,
        )  # fmt: skip
        taken += int(placed[placing.TAKEN])
        for slot in range(int(placed[placing.FILLED])):
            row = int(placed[placing.PLACED + placing.SLOT * slot + placing.ROW])
            sets[0, row >> 6] |= 1 << (row & 63)
        at += placing.room(actions, placings[p, placing.SLOTS])
        if told != UNTOLD:
            lies = address(placings[p])
            told = saying.slate(
                told, about[PIECES], asked, met, verdicts, placings[p, placing.NAMED],
                lies + 8 * (placing.PLACING + width), address(placed) + 8 * placing.PLACED,
                8 * placing.SLOT, int(placed[placing.FILLED]), placed[placing.HELD_BACK] > 0,
                placed[placing.PROBABILITY], known, now,
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
def _part(about: Integers, parting: Integers, dropped: Integers) -> None:
    """Drop bundles of which a part is dropped."""
    bundles, width = span(about, BUNDLES, np.int64), dropped.shape[0]
    for i in range(bundles.shape[0] // (1 + width)):
        one = bundles[(1 + width) * i : (1 + width) * (i + 1)]
        for w in range(width):
            if one[1 + w] & parting[w]:
                dropped[one[0] >> 6] |= 1 << (one[0] & 63)


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
