"""When customers are left alone, by the clock where they are. Pure: the moment is given."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from features.profile import Profile
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.causes import Cause, rows_of
from service.circumstances import Circumstances

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Quiet:
    """The quiet hours of one configuration.

    Args:
        business: Declares them.
    """

    def __init__(self, business: Business) -> None:
        self._hours = [
            (
                hours,
                rows_of(
                    row for row, one in enumerate(business.actions) if hours.target.covers(one)
                ),
            )
            for hours in business.policies.quiet_hours
        ]
        self._zone = ZoneInfo(business.definitions.time_zone)
        self._zone_by = business.policies.time_zone_by

    def causes(self, at: Circumstances) -> Sequence[Cause]:
        """The quiet hours that it is now."""
        found = []
        local = None
        for hours, actions in self._hours:
            if at.channel not in hours.channels or _direction(at.direction) not in hours.directions:
                continue
            if local is None:
                local = datetime.datetime.fromtimestamp(at.now / 1000, self._clock_of(at.profile))
            if _quiet_at(local, hours.start, hours.until, hours.days):
                text = f"It is {local:%H:%M} where they are (quiet hours {hours.name})"
                stage = pb.STAGE_CONTACT_POLICY
                found.append(Cause(stage, "QUIET_HOURS", text, actions, hours.name))
        return found

    def _clock_of(self, profile: Profile | None) -> ZoneInfo:
        """The customer's time zone, or the business's where it is not known."""
        by = self._zone_by
        told = None if by is None or profile is None else profile.attributes.get(by)
        return _zone(told.value) if told and isinstance(told.value, str) else self._zone


def _direction(code: int) -> str:
    return Direction(code).name


def _quiet_at(
    local: datetime.datetime, start: datetime.time, until: datetime.time, days: Sequence[str]
) -> bool:
    """Whether a moment is quiet; hours past midnight belong to the day on which they begin."""
    clock = local.time()
    if start <= until:
        return start <= clock < until and (not days or _DAYS[local.weekday()] in days)
    if clock >= start:
        return not days or _DAYS[local.weekday()] in days
    return clock < until and (not days or _DAYS[local.weekday() - 1] in days)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
