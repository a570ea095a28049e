"""What a decision compared, written in columns for the log. Pure.

The log keeps what was compared, not sentences for each action: a decision over hundreds of actions
takes a few kilobytes. The columns stand in what was chosen, and a loop copies them from there
(:mod:`service.entering`); the rest is prepared here, and most of it is the same in many decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from features.kernels import Integers
from service import causes, dropping, entering
from service.causes import Rows
from service.choice import Placing
from service.contacts import over
from service.dropping import UNKNOWN
from service.entering import BY_MODELS, LIFTED, TOLD
from service.policies import Policies, part_dropped
from service.rooms import Room
from service.spans import Spans
from service.standing import Standing
from service.weighed import Weighed
from service.wire import Kept, double, nested, packed, text, whole

_KEPT: Final = 1_024  # placements as they are asked for, and what stands before anything is counted
_CONFIGURATIONS: Final = 4  # that are laid out at a time
_NOTHING: Final = Spans([], [0] * dropping.WORDS)
_NO_ENTRY: Final = [0] * (entering.ASKED - entering.CUSTOMER)
_NOBODY: Final = list[int]()
_NO_ROOM: Final = np.empty(0, np.uint8)


def written(weighed: Weighed, actions: int) -> bytes:
    """Write what a decision compared, as the bytes of a :class:`log_pb2.Deliberation`.

    Args:
        weighed: The decision.
        actions: Rows of its catalogue.
    """
    choice = weighed.choice.block[0]
    for counted in (False, True):
        numbers, following, parts = given(weighed, actions, counted=counted)
        asked = np.array([*numbers, *_NO_ENTRY, *following], np.int64)
        asked[entering.COUNT] = len(asked)
        joined = np.frombuffer(b"".join([asked.tobytes(), *parts]), np.uint8)
        size = entering.deliberation(joined, choice, _NO_ROOM)
        if size != UNKNOWN:
            break
    out = np.empty(size, np.uint8)
    entering.deliberation(joined, choice, out)
    return out.tobytes()


def given(
    weighed: Weighed, actions: int, rows: Sequence[int] = (), how: int = 0, *, counted: bool
) -> tuple[list[int], list[int], list[bytes]]:
    """Prepare a deliberation for :mod:`service.entering`.

    Args:
        weighed: The decision.
        actions: Rows of its catalogue.
        rows: Of the actions that were shown, for an entry.
        how: Bits of how it was decided, for an entry.
        counted: Whether to give the causes that follow from counts, too: a loop cannot tell why a
            rule is not known.

    Returns:
        What is asked before an entry's own numbers and after them, and the parts.
    """
    choice, at, policies = weighed.choice, weighed.at, weighed.policies
    _, ends, (modelled, told, lifted) = choice.block
    if counted or weighed.filter is not None or (at.interaction and choice.limited):
        against, before, later, parting = _NOTHING, weighed.filtered.written(actions), b"", _NOBODY
    else:
        _, against = _laid.get(id(policies)) or _laid.keep(policies, _lay_out(policies, actions))
        standing = weighed.standing
        _, (before, later, parting) = _standings.get(id(standing)) or _standings.keep(
            standing, _stands(standing, actions)
        )
    following: list[int] = []
    parts, here = [before, later], b""
    for weighing in weighed.weighings:
        placing, number = weighing.placing, weighing.number
        _, (above, below, local) = _placings.get(id(placing)) or _placings.keep(
            placing, _piece(placing, actions)
        )
        here += local
        following += ends[number], choice.placings[number].slots, len(above), len(below)
        parts += above, below
    if here:
        parts[0] = here + before
    rooms = b"".join([_room(room, actions) for room in weighed.rooms]) if weighed.rooms else b""
    parts.append(rooms)
    following += rows
    following += parting
    if modelled:
        how |= BY_MODELS
    if told:
        how |= TOLD
    if lifted:
        how |= LIFTED
    numbers = [
        entering.ASKED + len(following), against.address, len(parts[0]), len(later), len(rooms),
        actions, how, at.now, policies.channels[at.channel], len(weighed.weighings),
    ]  # fmt: skip
    return numbers, following, parts


class _Stands(NamedTuple):
    """What speaks against actions before anything is counted."""

    before: bytes  # the rules
    after: bytes  # the limits
    parting: list[int]


def _stands(standing: Standing, actions: int) -> _Stands:
    before, after = (
        b"".join([causes.written(cause, actions) for cause in some])
        for some in (standing.before, standing.after)
    )
    return _Stands(before, after, standing.words[len(standing.words) // 2 :].tolist())


_standings: Final = Kept[Standing, _Stands](_KEPT)


class _Piece(NamedTuple):
    """What of a placement is the same whoever is decided for."""

    before: bytes  # its columns
    after: bytes
    causes: bytes  # that hold in it alone


def _piece(placing: Placing, actions: int) -> _Piece:
    local = [causes.written(one, actions, placing.name) for one in placing.causes]
    after = whole(13, placing.slots) + double(14, placing.nothing)
    return _Piece(text(1, placing.name), after, b"".join(local))


_placings: Final = Kept[Placing, _Piece](_KEPT)


@lru_cache(1_024)
def _room(room: Room, actions: int) -> bytes:
    rows = packed(2, room.rows.to_bytes((actions + 7) // 8, "little"))
    return nested(3, text(1, room.name) + rows + whole(3, room.places))


def _lay_out(policies: Policies, actions: int) -> Spans:
    """Lay out what :mod:`service.dropping` reads."""
    width = max(1, -(-actions // 64))

    def words(rows: Rows) -> list[int]:
        told: list[int] = np.frombuffer(rows.to_bytes(8 * width, "little"), np.int64).tolist()
        return told

    def joined(texts: list[bytes]) -> tuple[Integers, Integers]:
        ends = np.array([0, *accumulate(map(len, texts))], np.int64)
        return np.frombuffer(b"".join(texts), np.uint8), ends

    limits = policies.limits.keys
    declared = {id(key.declared): key.declared for key in limits}
    numbers = {name: number for number, name in enumerate(declared)}
    keys = [[key.holds_on, key.room, numbers[id(key.declared)]] for key in limits]
    said = [causes.unset(over(one, 0)) for one in declared.values()]
    rules = policies.rules.laid()
    bundles = [[row, *words(parts)] for row, parts in policies.bundles]
    return Spans(
        [
            np.array([condition for condition, _ in rules], np.int64),
            *joined([cause for _, cause in rules]),
            np.array(keys, np.int64),
            np.array([words(key.actions) for key in limits], np.int64),
            *joined(said),
            np.array(bundles, np.int64),
            np.frombuffer(causes.unset(part_dropped(0)), np.uint8),
        ],
        [width, actions, -(-len(policies.conditions.program) // 4)],
    )


_laid: Final = Kept[Policies, Spans](_CONFIGURATIONS)
