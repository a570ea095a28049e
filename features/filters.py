"""What a ``where`` lets through, as codes and as masks. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from features.definitions import Names, Where
from features.record import DIRECTION, Records
from features.vocabulary import Direction, Outcome, Role, Vocabulary

FIELDS: Final = ("type", "channel", "intent", "action", "outcome", "direction")


def codes(vocabulary: Vocabulary) -> dict[str, Mapping[str, int]]:
    """Code of every name, by the field of a ``where``."""
    return {
        "type": vocabulary.type_codes,
        "channel": vocabulary.channels,
        "intent": vocabulary.intent_codes,
        "action": vocabulary.actions,
        "outcome": {one.name: one.value for one in Outcome},
        "direction": {one.name: one.value for one in Direction},
    }


def allowed(owner: str, where: Where, field: str, vocabulary: Vocabulary) -> list[int] | None:
    """Codes of a field that a filter lets through; None: all, also those yet unknown.

    Raises:
        ValueError: A name is not declared; the message names ``owner`` and the nearest name.
    """
    known = codes(vocabulary)[field]
    names = _listed(getattr(where, field))
    chosen = None if names is None else [code(owner, field, known, one) for one in names]
    roles = _listed(where.role) if field == "type" else None
    if roles is not None:
        by_name = {role.name: role.value for role in Role}
        wanted = {code(owner, "role", by_name, one) for one in roles}
        playing = [kind.code for kind in vocabulary.types.values() if Role[kind.role] in wanted]
        chosen = playing if chosen is None else [one for one in chosen if one in playing]
    return chosen


class Filter:
    """A ``where`` that can be asked of many timelines.

    Raises:
        ValueError: A name is not declared; the message names ``owner`` and the nearest name.
    """

    def __init__(self, owner: str, where: Where, vocabulary: Vocabulary) -> None:
        chosen = {field: allowed(owner, where, field, vocabulary) for field in FIELDS}
        self._chosen = {field: codes for field, codes in chosen.items() if codes is not None}

    def __call__(self, records: Records) -> npt.NDArray[np.bool_]:
        """Which records pass."""
        through = np.ones(len(records), bool)
        for field, chosen in self._chosen.items():
            held = records["flags"] & DIRECTION if field == "direction" else records[field]
            through &= np.isin(held, chosen)
        return through


def code(owner: str, field: str, known: Mapping[str, int], name: str) -> int:
    """Look a name up.

    Raises:
        ValueError: It is not declared.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        raise ValueError(f"{owner}: {field} {name!r} is not declared; {hint}")
    return known[name]


def _listed(names: Names | None) -> list[str] | None:
    return [names] if isinstance(names, str) else names
