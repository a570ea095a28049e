"""What ceilings across customers mean in units and calendar periods. Pure."""

from __future__ import annotations

import datetime
import math
from typing import Final
from zoneinfo import ZoneInfo

from service.business import Business
from service.catalogue import Action
from service.declared import Ceiling

_CENTS: Final = 100  # budgets are counted in whole ones
_PERIODS: Final = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}


def limit(ceiling: Ceiling) -> int:
    """Units that all customers together may get in a period: presentations, or cents."""
    return ceiling.volume if ceiling.volume is not None else math.floor(_cents(ceiling.budget))


def amount(ceiling: Ceiling, action: Action) -> int:
    """Units that presenting an action uses up; parts of a cent count as a whole one."""
    return 1 if ceiling.volume is not None else math.ceil(_cents(action.cost))


def period(ceiling: Ceiling, now: int, zone: ZoneInfo) -> str:
    """Name of the calendar period that a moment lies in, such as ``2026-11-22``.

    Args:
        ceiling: Whose period.
        now: Milliseconds since 1970-01-01 UTC.
        zone: Of the business.
    """
    return datetime.datetime.fromtimestamp(now / 1000, zone).strftime(_PERIODS[ceiling.each])


def current(business: Business, now: int) -> list[tuple[str, str, int]]:
    """Name, current period and limit of every ceiling of a configuration."""
    zone = ZoneInfo(business.definitions.time_zone)
    return [(one.name, period(one, now, zone), limit(one)) for one in business.policies.ceilings]


def needs(business: Business) -> dict[str, int]:
    """The most that one presentation uses up of each ceiling."""
    return {
        one.name: max(
            (amount(one, action) for action in business.actions if one.target.covers(action)),
            default=1,
        )
        for one in business.policies.ceilings
    }


def _cents(money: float | None) -> float:
    return round((money or 0.0) * _CENTS, 6)  # 0.07 x 100 is 7, not a little more
