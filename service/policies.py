"""What may be offered to this customer, here and now: the filter stages as sets of actions. Pure.

Nothing here runs once for each action: what does not depend on the customer is worked out when the
configuration loads, and a decision only joins sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rapport.v1 import decision_pb2 as pb
from service import rooms, stages
from service.business import Business
from service.causes import Cause, Filtered, Rows, Rules, rows_of, union
from service.circumstances import Circumstances
from service.conditions import Conditions
from service.contacts import Contacts
from service.limits import Limits
from service.rules import Answers
from service.standing import Standing, Standings


class Policies:
    """The filter stages of one configuration.

    Args:
        business: Its conditions are checked.

    Attributes:
        conditions: What its rules and prices ask.
        rules: What they drop.
        limits: What its limits and suppressions count.
        contacts: Which of those are used up.
        standing: What speaks against actions before anything is counted.
        bundles: Rows of bundles with their parts.
        shares: Limits that several actions share.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.channels = business.vocabulary.channels
        self.conditions = Conditions(business)
        staged = stages.rules(business, self.conditions)
        self.rules = Rules(staged, len(business.actions))
        self.conditions.compile(self.rules.drops())
        self.limits = Limits(business)
        self.contacts = Contacts(business, self.limits)
        self.standing = Standings(business, self.limits)
        self.bundles = [
            (row, rows_of(business.rows[part] for part in action.parts))
            for row, action in enumerate(business.actions)
            if action.parts
        ]
        self.shares = list(rooms.shares(self.limits.keys, self.bundles))

    def filtered(self, at: Circumstances) -> Filtered:
        """All that speaks against any action whatever the placement, cause by cause.

        A decision needs the set alone and has it from :mod:`service.choosing`.
        """
        return self.explained(at, self.standing.of(at), limited=True)

    def explained(
        self, at: Circumstances, standing: Standing, *, limited: bool, dropped: Rows | None = None
    ) -> Filtered:
        """The causes behind what is dropped.

        Args:
            at: Everything that the filter stages look at.
            standing: Of the same.
            limited: Whether any limit or suppression may forbid something.
            dropped: All that is dropped, where that is known already.
        """
        after = [*(self.contacts.causes(at) if limited else ()), *standing.after]
        if parted := self.parted([*standing.before, *after], at.results.dropped):
            after.append(parted)
        if dropped is None:
            dropped = at.results.dropped | union(standing.before) | union(after)
        return Filtered(dropped, standing.before, (self.rules, at.results), after)

    def instead(
        self,
        at: Circumstances,  # noqa: ARG002  for those who need it
        results: Callable[[], Answers],  # noqa: ARG002
    ) -> Filtered | None:
        """What is dropped in the place of what rules and limits say; None: they have their say.

        For those who want to know what a decision would be without one of its causes.

        Args:
            at: Everything that the filter stages look at, results aside.
            results: Gives these.
        """
        return None

    def parted(self, causes: Iterable[Cause], dropped: Rows = 0) -> Cause | None:
        """What speaks against bundles of which a part is dropped; None: nothing does."""
        if not self.bundles:
            return None
        for cause in causes:
            if cause.code != "NOT_ALLOWED":  # who asks for a bundle asks for its parts
                dropped |= cause.actions
        parted = rows_of(row for row, parts in self.bundles if parts & dropped)
        return part_dropped(parted) if parted else None


def part_dropped(bundles: Rows) -> Cause:
    """The cause of bundles of which a part is dropped."""
    text = "A part of the bundle may not be offered"
    return Cause(pb.STAGE_SUITABILITY, "PART_DROPPED", text, bundles)
