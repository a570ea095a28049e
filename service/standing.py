"""What speaks against actions before anything is counted: consent, caller, moment, hours. Pure.

Nothing here runs once for each action: the sets are laid out when the configuration loads, and what
many requests have in common is kept.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from features.kernels import Integers
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.catalogue import ASSURANCE, Action
from service.causes import Cause, Rows, rows_of, union
from service.circumstances import Circumstances
from service.limits import Limits
from service.quiet import Quiet

_KEPT: Final = 10_000  # ways to ask


class Standing(NamedTuple):
    """What speaks against actions before anything is counted."""

    before: Sequence[Cause]  # what comes before the rules
    after: Sequence[Cause]  # what comes after the ledger
    dropped: Rows
    parting: Rows  # those of them whose bundles are dropped with them
    words: Integers  # both for a kernel, 64 rows a word


class Standings:
    """Tells what stands, of one configuration.

    Args:
        business: Its catalogue, purposes, ceilings and quiet hours.
        limits: Its own, laid out: what they count is dropped where the ledger could not be read.
    """

    def __init__(self, business: Business, limits: Limits) -> None:
        actions, policies = business.actions, business.policies
        self._rows = business.rows
        self._all = (1 << len(actions)) - 1
        self._bytes = 8 * max(1, -(-len(actions) // 64))
        self._usually: dict[tuple[object, ...], Standing] = {}
        self._boundaries, self._invalid = _validity(actions)
        self._needs = {
            level: rows_of(
                row for row, one in enumerate(actions) if ASSURANCE[one.assurance] > level
            )
            for level in ASSURANCE.values()
        }
        self._purposes = {
            purpose: rows_of(row for row, one in enumerate(actions) if one.purpose == purpose)
            for purpose in business.vocabulary.purposes
        }
        self._asking = rows_of(
            row for row, one in enumerate(actions) if any(price.when for price in one.prices)
        )
        self._counted = rows_of(
            row for row in range(len(actions)) if any(key.actions >> row & 1 for key in limits.keys)
        )
        self._ceilings = [
            (one, rows_of(row for row, each in enumerate(actions) if one.target.covers(each)))
            for one in policies.ceilings
        ]
        self._quiet = Quiet(business)

    def of(self, at: Circumstances) -> Standing:
        """What speaks against actions before anything is counted; for many requests the same."""
        usual = self._usual(at)
        asked = self._of_caller(at) if at.allow or at.block else ()
        everybody = self._quiet.causes(at)
        if at.full_ceilings:
            everybody = [*self._of_ceilings(at), *everybody]
        if not asked and not everybody:
            return usual
        before = usual.before
        if asked:
            before = [*self._of_consent(at), *asked, *self._of_moment(at)]
        # Who asks for a bundle asks for its parts.
        parting = union(one for one in (*asked, *everybody) if one.code != "NOT_ALLOWED")
        dropped = usual.dropped | union(asked) | union(everybody)
        return self._stands(before, [*usual.after, *everybody], dropped, usual.parting | parting)

    def _stands(
        self, before: Sequence[Cause], after: Sequence[Cause], dropped: Rows, parting: Rows
    ) -> Standing:
        both = dropped.to_bytes(self._bytes, "little") + parting.to_bytes(self._bytes, "little")
        return Standing(before, after, dropped, parting, np.frombuffer(both, np.int64))

    def _usual(self, at: Circumstances) -> Standing:
        """What a request says that asks for no action by name."""
        refused = () if at.profile is None else tuple(
            purpose
            for purpose, actions in self._purposes.items()
            if actions and not at.profile.granted(purpose, at.channel)
        )  # fmt: skip
        validity = bisect.bisect_right(self._boundaries, at.now)
        unread = at.profile is None, at.ledger is None
        key = at.channel, at.assurance, validity, refused, unread
        found = self._usually.get(key)
        if found is None:
            before = [*self._of_consent(at), *self._of_moment(at)]
            after = list(self._of_unread(at))
            dropped = union(before) | union(after)
            found = self._stands(before, after, dropped, dropped)
            if len(self._usually) >= _KEPT:
                self._usually.clear()
            self._usually[key] = found
        return found

    def _of_consent(self, at: Circumstances) -> Iterable[Cause]:
        for purpose, actions in self._purposes.items():
            if not actions:
                continue
            if at.profile is None:
                text = f"Consent for {purpose} could not be read"
                yield Cause(pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE", text, actions, purpose)
            elif not at.profile.granted(purpose, at.channel):
                text = f"No consent for {purpose} on {at.channel}"
                yield Cause(pb.STAGE_ELIGIBILITY, "NO_CONSENT", text, actions, purpose)

    def _of_caller(self, at: Circumstances) -> Sequence[Cause]:
        found = []
        if at.allow:
            others = self._all & ~rows_of(self._rows[name] for name in at.allow)
            text = "The caller asked for other actions"
            found.append(Cause(pb.STAGE_ELIGIBILITY, "NOT_ALLOWED", text, others))
        if at.block:
            blocked = rows_of(self._rows[name] for name in at.block)
            text = "The caller ruled it out"
            found.append(Cause(pb.STAGE_ELIGIBILITY, "BLOCKED", text, blocked))
        return found

    def _of_moment(self, at: Circumstances) -> Iterable[Cause]:
        """What is not valid now, needs another caller, or has a price for somebody else."""
        invalid = self._invalid[bisect.bisect_right(self._boundaries, at.now) - 1]
        if invalid:
            yield Cause(pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW", "Outside its validity", invalid)
        for name, level in ASSURANCE.items():
            if at.assurance < level:
                needing = self._needs[level - 1] & ~self._needs[level]
                if needing:
                    text = f"Needs a caller who is {name}"
                    yield Cause(pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW", text, needing, name)
        # Who cannot be read cannot be told a price that depends on who they are.
        if at.profile is None and self._asking:
            text = "What they would pay could not be read"
            yield Cause(pb.STAGE_ELIGIBILITY, "RULE_UNKNOWN", text, self._asking, "price")

    def _of_unread(self, at: Circumstances) -> Iterable[Cause]:
        if self._counted and at.ledger is None:
            text = "How often it was shown could not be read"
            yield Cause(pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE", text, self._counted)

    def _of_ceilings(self, at: Circumstances) -> Iterable[Cause]:
        for ceiling, actions in self._ceilings:
            if ceiling.name in at.full_ceilings:
                what = "budget" if ceiling.volume is None else "volume"
                text = f"The {what} for everybody is used up (ceiling {ceiling.name})"
                yield Cause(pb.STAGE_CONTACT_POLICY, "CEILING", text, actions, ceiling.name)


def _validity(actions: Sequence[Action]) -> tuple[list[int], list[Rows]]:
    """The moments at which validity changes, and what is not valid from each on."""
    spans = [action.valid.milliseconds for action in actions]
    moments = sorted({0, *(start for start, _ in spans), *(end + 1 for _, end in spans)})
    invalid = [
        rows_of(row for row, (start, end) in enumerate(spans) if not start <= moment <= end)
        for moment in moments
    ]
    return moments, invalid
