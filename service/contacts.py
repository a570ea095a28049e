"""What limits and suppressions say of a customer's contacts, cause by cause. Pure.

A decision needs no causes and has what is dropped from :mod:`service.choosing`, which counts alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from features import duration, ledger, usage
from features.record import RESERVED
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.causes import Cause, Rows, rows_of
from service.circumstances import Circumstances
from service.declared import Limit, Suppression
from service.limits import Limits


class Contacts:
    """Tells which limits and suppressions of one configuration are used up.

    Args:
        business: Its actions and channels.
        limits: Its own, laid out.
    """

    def __init__(self, business: Business, limits: Limits) -> None:
        self._limits = limits
        self._channels = business.vocabulary.channels
        self._room = np.array([key.room for key in limits.keys], np.int64)
        self._row_of_code = {
            business.vocabulary.actions[name]: row for name, row in business.rows.items()
        }

    def causes(self, at: Circumstances) -> Iterable[Cause]:
        """Those that are used up; none where the ledger could not be read."""
        keys, counting = self._limits.keys, self._limits.counting
        if not keys or at.ledger is None:
            return
        counts = at.counts or usage.count(at.ledger, at.now, counting)
        used_up = (counts.within > self._room) | (counts.until > at.now)
        if not used_up.any():
            return
        channel = self._channels[at.channel]
        found: dict[int, tuple[Limit | Suppression, Rows]] = {}
        own = list(self.own(at)) if at.interaction else []
        for number in np.flatnonzero(used_up).tolist():
            key = keys[number]
            if key.holds_on in (0, channel):
                again = 0
                if own and key.shows and counts.within[number] - 1 <= self._room[number]:
                    again = rows_of(row for row, age in own if age < counting.within[number])
                _, actions = found.get(id(key.declared), (key.declared, 0))
                found[id(key.declared)] = key.declared, actions | key.actions & ~again
        for one, actions in found.values():
            yield over(one, actions)

    def own(self, at: Circumstances) -> Iterable[tuple[int, float]]:
        """Rows that the interaction itself has shown or holds, with the age of that contact.

        Showing them again on the same day makes no new contact; what is held counts in every
        window.
        """
        assert at.ledger is not None  # noqa: S101  asked before
        channel = self._channels[at.channel]
        here = (at.ledger["interaction"] == at.interaction) & (at.ledger["channel"] == channel)
        if not here.any():
            return
        here &= ledger.presented(at.ledger, at.now) & (at.ledger["occurred_at"] <= at.now)
        here &= at.ledger["occurred_at"] // duration.DAY == at.now // duration.DAY
        for record in at.ledger[here]:
            row = self._row_of_code.get(int(record["action"]))
            if row is not None:
                held = int(record["outcome"]) == RESERVED
                yield row, 0.0 if held else float(at.now - record["occurred_at"])


def over(one: Limit | Suppression, actions: Rows) -> Cause:
    """The cause of a limit or a suppression that is used up."""
    if isinstance(one, Limit):
        more = one.at_most if one.outcome == "presented" else one.at_most + 1
        often = "once" if more == 1 else f"{more} times"
        what = "Shown or held" if one.outcome == "presented" else one.outcome.capitalize()
        text = f"{what} {often} within {one.within} (limit {one.name})"
        return Cause(pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT", text, actions, one.name)
    often = "once" if one.after == 1 else f"{one.after} times within {one.within}"
    text = f"{one.outcome.capitalize()} {often}: left alone for {one.lasts} ({one.name})"
    return Cause(pb.STAGE_CONTACT_POLICY, "SUPPRESSED", text, actions, one.name)
