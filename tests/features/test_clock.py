from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.clock import Clock
from features.duration import HOUR, MINUTE

ZONES = ["UTC", "Europe/Amsterdam", "Asia/Kolkata", "America/St_Johns", "Africa/Monrovia"]
CLOCKS = {zone: Clock(ZoneInfo(zone)) for zone in ZONES}


def truth(zone: str, now: int) -> tuple[int, int, int]:
    """What the standard library says, asked each time."""
    local = datetime.datetime.fromtimestamp(now / 1000, ZoneInfo(zone))
    return local.hour, 60 * local.hour + local.minute, local.weekday()


@given(st.sampled_from(ZONES), st.integers(0, 4_000_000_000_000), st.integers(0, 20 * MINUTE))
def test_the_time_is_that_of_the_zone_however_often_it_is_asked(
    zone: str, now: int, later: int
) -> None:
    assert CLOCKS[zone](now) == truth(zone, now)
    assert CLOCKS[zone](now + later) == truth(zone, now + later)


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Amsterdam", "2026-03-29T01:00:00+00:00"),
        ("Europe/Amsterdam", "2026-10-25T01:00:00+00:00"),
        ("America/St_Johns", "2006-04-02T03:31:00+00:00"),  # at one past midnight
        ("America/St_Johns", "2006-10-29T02:31:00+00:00"),
        ("Africa/Monrovia", "1972-01-07T00:44:30+00:00"),
    ],
)
def test_a_change_of_clocks_is_seen_on_the_minute_that_it_happens(zone: str, change: str) -> None:
    at = int(datetime.datetime.fromisoformat(change).timestamp()) * 1000
    before, after = Clock(ZoneInfo(zone)), Clock(ZoneInfo(zone))
    for away in (1, 29_999, 30_000, MINUTE, 14 * MINUTE, 16 * MINUTE, HOUR):
        for clock in (before, after):
            assert clock(at - away) == truth(zone, at - away)
            assert clock(at + away - 1) == truth(zone, at + away - 1)
    assert before(at - 1) != after(at)


def test_it_forgets_what_it_has_no_room_for() -> None:
    clock = Clock(ZoneInfo("Europe/Amsterdam"))
    for hour in range(3_000):
        assert clock(hour * HOUR) == truth("Europe/Amsterdam", hour * HOUR)
    assert len(clock._known) <= 1_000
