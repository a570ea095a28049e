"""What showing an action uses up: limits that the store rechecks, and ceilings. Pure.

Worked out when the configuration loads. How many are left is for the store and the leases to say.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from features.vocabulary import Outcome
from service.business import Business
from service.causes import rows_of
from service.declared import Limit
from service.limits import Limits
from service.store import Cap


class Caps:
    """What caps the actions of one configuration.

    Args:
        business: Its catalogue and ceilings.
        limits: Its own, laid out.
    """

    def __init__(self, business: Business, limits: Limits) -> None:
        self._channels = business.vocabulary.channels
        self._shown = [  # by row: an action with its parts
            rows_of([row, *(business.rows[part] for part in action.parts)])
            for row, action in enumerate(business.actions)
        ]
        self._caps = list(self._find(business, limits))
        self._ceilings = [
            (
                one.name,
                rows_of(
                    row for row, each in enumerate(business.actions) if one.target.covers(each)
                ),
            )
            for one in business.policies.ceilings
        ]

    def of(self, row: int, channel: str) -> list[Cap]:
        """What the store has to recheck before an action is shown; empty where nothing caps it."""
        here = self._channels[channel]
        return [cap for holds_on, cap in self._caps[row] if holds_on in (0, here)]

    def ceilings(self, row: int) -> list[str]:
        """Names of the ceilings that showing an action, and so its parts, uses up."""
        return [name for name, actions in self._ceilings if actions & self._shown[row]]

    def _find(self, business: Business, limits: Limits) -> Iterable[list[tuple[int, Cap]]]:
        """For each action, the limits on showing it or any part of it."""
        counted: list[list[int]] = [[] for _ in limits.keys]
        presented = int(Outcome.presented) * limits.counting.actions
        for code in business.vocabulary.actions.values():
            first, last = limits.counting.first[presented + code : presented + code + 2]
            for number in limits.counting.keys[first:last]:
                counted[number].append(code)
        caps = [
            (
                key.actions,
                key.holds_on,
                Cap(
                    key.declared.at_most,
                    key.declared.within_ms,
                    key.holds_on,
                    np.array(codes, "<u2").tobytes(),
                ),
            )
            for key, codes in zip(limits.keys, counted, strict=True)
            if isinstance(key.declared, Limit) and key.declared.outcome == "presented"
        ]
        for shown in self._shown:
            yield [(holds_on, cap) for actions, holds_on, cap in caps if actions & shown]
