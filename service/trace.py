"""How every action fared, read back action by action from what the log holds. Pure.

A trace, an explanation and an audit are all read from what :mod:`service.deliberation` wrote.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service.business import Business
from service.causes import Rows, rows_of
from service.exploration import Fate
from service.factors import Factors, Ranked
from service.rooms import Room
from service.wire import double, optional

DO_NOTHING: Final = "do_nothing"
"""Name of the candidate that stands for leaving the customer alone."""


class Compared(NamedTuple):
    """The candidates of one placement, read back."""

    placement: str
    ranked: Ranked
    fates: list[Fate]
    slots: int
    nothing: float  # priority that an action had to exceed
    rooms: Sequence[Room] = ()  # what shared limits left to the whole answer
    beside: Rows = 0  # rows that this placement and those before it drew


def compared(read: log_pb2.PlacementDeliberation) -> Compared:
    """Read one placement back."""

    def column(packed: bytes) -> Floats:
        return np.frombuffer(packed, "<f8")

    rows: Integers = np.frombuffer(read.rows, "<u2").astype(np.int64)
    ranked = Ranked(
        rows,
        column(read.acceptance),
        column(read.value),
        column(read.capacity),
        column(read.context_weight),
        column(read.lever),
        column(read.priority),
        column(read.model) if read.model else None,
        column(read.evidence) if read.evidence else None,
        column(read.uplift).reshape(-1, 3) if read.uplift else None,
    )
    fates = [Fate(one) for one in read.fate]
    return Compared(read.placement, ranked, fates, read.slots, read.nothing)


class Fared(NamedTuple):
    """How one action fared in one placement."""

    row: int
    placement: str
    causes: list[log_pb2.Cause]  # the first was decisive
    place: int  # among the candidates; -1: it was none
    compared: Compared


def fared(deliberation: log_pb2.Deliberation, actions: int) -> Iterator[Fared]:
    """Read back how every action of the catalogue fared, placement by placement."""
    sets = [(one, int.from_bytes(one.actions, "little")) for one in deliberation.causes]
    rooms = [
        Room(one.limit, int.from_bytes(one.actions, "little"), one.places)
        for one in deliberation.rooms
    ]
    beside = 0
    for read in deliberation.placements:
        here = [(one, rows) for one, rows in sets if one.placement in ("", read.placement)]
        columns = compared(read)
        drawn = np.frombuffer(read.fate, np.uint8) == Fate.shown
        beside |= rows_of(columns.ranked.rows[drawn].tolist())
        columns = columns._replace(rooms=rooms, beside=beside)
        places = {row: place for place, row in enumerate(columns.ranked.rows.tolist())}
        for row in range(actions):
            causes = [one for one, rows in here if rows >> row & 1]
            yield Fared(row, read.placement, causes, places.get(row, -1), columns)


def candidates(
    deliberation: log_pb2.Deliberation,
    slates: Sequence[pb.Slate],
    business: Business,
    *,
    every: bool = False,
) -> list[pb.Candidate]:
    """Every candidate of a decision, in the order of their ranks, then those that were dropped.

    Args:
        deliberation: What the decision compared.
        slates: What it answered.
        business: Whose catalogue it was.
        every: Whether to name actions that the placement could not show at all, too.
    """
    chances = {
        (slate.placement, one.instead_of or one.action): one.selection_probability
        for slate in slates
        for one in slate.recommendations
    }
    fallbacks = {
        (slate.placement, one.action): one.instead_of
        for slate in slates
        for one in slate.recommendations
        if one.instead_of
    }
    shown = {(slate.placement, one.action) for slate in slates for one in slate.recommendations}
    found: dict[str, list[tuple[int, pb.Candidate]]] = {}
    for one in fared(deliberation, len(business.actions)):
        first = one.causes[0] if one.causes else None
        if first is not None and first.code == "NO_TREATMENT" and not every:
            continue
        candidate = pb.Candidate(action=business.actions[one.row].name, placement=one.placement)
        if one.place >= 0:
            _as_ranked(candidate, one)
        reasons = [pb.Reason(code=cause.code, text=cause.text) for cause in one.causes]
        lost = None if one.place < 0 else fate(one, business)
        if lost is not None:
            reasons.append(pb.Reason(code=lost[1], text=lost[2]))
        at = (one.placement, candidate.action)
        candidate.selection_probability = chances.get(at, 0.0)
        if one.place >= 0 and one.compared.fates[one.place] is Fate.shown and at not in shown:
            text = "It was drawn and could not be reserved any more"
            reasons = [pb.Reason(code="RESERVATION_FAILED", text=text)]
            candidate.dropped_by = pb.STAGE_CONTACT_POLICY
        elif at in fallbacks:
            reasons = []  # shown after all, in the place of another
        elif first is not None:
            candidate.dropped_by = first.stage
        elif lost is not None:
            candidate.dropped_by = lost[0]
        if reasons:
            candidate.reason.CopyFrom(reasons[0])
            candidate.also.extend(reasons[1:])
        found.setdefault(one.placement, []).append((candidate.rank or 2**31, candidate))
    told = []
    for placement, some in found.items():
        told += [one for _, one in sorted(some, key=lambda pair: pair[0])]
        told.append(_nothing(placement, deliberation))
    return told


def _as_ranked(candidate: pb.Candidate, one: Fared) -> None:
    numbers = one.compared.ranked.factors(one.place)
    nothing = one.compared.nothing
    candidate.factors.MergeFromString(factors(numbers))
    candidate.rank = one.place + 1 + (not numbers.priority > nothing)


def _nothing(placement: str, deliberation: log_pb2.Deliberation) -> pb.Candidate:
    """Doing nothing, which competes too: what does not rank above it is not shown."""
    read = next(one for one in deliberation.placements if one.placement == placement)
    above = int((np.frombuffer(read.priority, "<f8") > read.nothing).sum())
    text = "Leaving the customer alone: what ranks below is not shown"
    return pb.Candidate(
        action=DO_NOTHING,
        placement=placement,
        dropped_by=pb.STAGE_ARBITRATION if above else pb.STAGE_UNSPECIFIED,
        reason=pb.Reason(code="DO_NOTHING", text=text) if above else None,
        factors=pb.Factors(priority=read.nothing),
        rank=above + 1,
    )


def fate(one: Fared, business: Business) -> tuple[pb.Stage.ValueType, str, str] | None:
    """Why a candidate that passed every filter is not in the answer: stage, code, text."""
    ranked = one.place + 1
    nothing = one.compared.nothing
    rows, fates = one.compared.ranked.rows, one.compared.fates
    higher = sum(
        place < one.place
        or (fates[place] is Fate.shown and business.actions[int(rows[place])].mandatory)
        for place in range(len(fates))
    )
    match one.compared.fates[one.place]:
        case Fate.shown:
            return None
        case Fate.below_nothing:
            text = _worthless(one.compared.ranked.factors(one.place), nothing)
            return pb.STAGE_ARBITRATION, "NO_PRIORITY", text
        case Fate.elsewhere:
            return pb.STAGE_ARBITRATION, "SHOWN_ELSEWHERE", "Shown in another placement"
        case Fate.group_full:
            text = "As many of its group are shown as the placement takes"
            return pb.STAGE_ARBITRATION, "GROUP_FULL", text
        case Fate.bundled:
            text = "A bundle that holds it, or a part of it, is shown"
            return pb.STAGE_ARBITRATION, "BUNDLED", text
        case Fate.ranked_lower:
            text = f"{higher} other action{'s rank' if higher > 1 else ' ranks'} higher"
            return pb.STAGE_ARBITRATION, "RANKED_LOWER", text
        case Fate.not_drawn:
            text = f"Chance chose another over it, though it ranks {ranked}"
            return pb.STAGE_EXPLORATION, "NOT_DRAWN", text
        case Fate.held_back:
            text = "The slate was left empty by chance, to learn what happens without it"
            return pb.STAGE_EXPLORATION, "HELD_BACK", text
        case Fate.held_out:
            text = "The customer belongs to a control group that gets nothing"
            return pb.STAGE_EXPLORATION, "HELD_OUT", text
        case Fate.limit_full:
            return pb.STAGE_CONTACT_POLICY, "LIMIT_FULL", _without_place(one)


def _without_place(one: Fared) -> str:
    """Which limit has no place left for an action."""
    rooms, beside = one.compared.rooms, one.compared.beside
    name = next(room.name for room in rooms if room.rows >> one.row & 1 and room.left(beside) <= 0)
    return f"What is shown takes all that is left of its limit (limit {name})"


def _worthless(numbers: Factors, nothing: float) -> str:
    """Why doing nothing is better than an action."""
    if numbers.context_weight == 0:
        return "The situation rules it out"
    if numbers.uplift is not None and numbers.uplift[1] < 0:
        return "It might do harm: whether it brings more than doing nothing is not sure"
    if numbers.value <= 0:
        return "It costs more than it brings at the moment"
    if nothing > 0:
        return f"Doing nothing is worth more ({nothing:.2f})"
    return "Nothing speaks for it here"


_SIX: Final = struct.Struct("<" + 6 * "Bd").pack
_SEVEN: Final = struct.Struct("<" + 7 * "Bd").pack
_NO_COST: Final = optional(8, 0.0)


def factors(numbers: Factors) -> bytes:
    """Write the numbers that ranked an action, as the bytes of a :class:`pb.Factors`."""
    chance, value, weight, lever, priority, model, evidence, capacity, uplift = numbers
    if model is not None and chance and value and weight and lever and priority:
        # All are there, as they mostly are. The key of field n is 8 n + 1.
        six = 9, chance, 17, value, 25, weight, 33, lever, 41, priority, 49, model
        written = _SIX(*six) if evidence is None else _SEVEN(*six, 57, evidence)
    else:
        five = enumerate((chance, value, weight, lever, priority), 1)
        written = b"".join([double(number, one) for number, one in five])
        written += b"" if model is None else optional(6, model)
        written += b"" if evidence is None else optional(7, evidence)
    cost = optional(8, capacity)
    if cost != _NO_COST:
        written += cost
    if uplift is not None:
        mean, low, high = uplift
        written += optional(9, mean) + optional(10, low) + optional(11, high)
    return written
