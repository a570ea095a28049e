from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from features.profile import Profile, Told
from features.vocabulary import Direction
from rapport.v1 import decision_pb2 as pb
from service.declared import QuietHours
from service.policies import Policies
from tests.business import AROUND, business
from tests.service.circumstances import (
    WILLING,
    codes,
    only,
)


def moment(written: str, zone: str = "Europe/Amsterdam") -> int:
    """Milliseconds of a local time."""
    local = datetime.datetime.fromisoformat(written).replace(tzinfo=ZoneInfo(zone))
    return round(local.timestamp() * 1000)


def quiet(policies: Policies, now: int, **given: Any) -> bool:
    at: dict[str, Any] = {"direction": Direction.outbound, "now": now, **given}
    found = codes(policies, "callback", **at)
    assert found in ([], ["QUIET_HOURS"])
    return bool(found)


NIGHT = QuietHours("night", datetime.time(22), datetime.time(8), ["phone"])
NOON = QuietHours("noon", datetime.time(12), datetime.time(13), ["phone"])


@pytest.mark.parametrize(
    ("hours", "clock", "is_quiet"),
    [
        (NIGHT, "21:59:59.999", False),
        (NIGHT, "22:00", True),
        (NIGHT, "23:59:59.999", True),
        (NIGHT, "00:00", True),
        (NIGHT, "07:59:59.999", True),
        (NIGHT, "08:00", False),
        (NIGHT, "12:30", False),
        (NOON, "11:59:59.999", False),
        (NOON, "12:00", True),
        (NOON, "12:59:59.999", True),
        (NOON, "13:00", False),
        (NOON, "00:30", False),
    ],
)
def test_quiet_hours_run_past_midnight(hours: QuietHours, clock: str, is_quiet: bool) -> None:
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(f"2027-01-15T{clock}")) is is_quiet


def test_quiet_hours_are_those_of_their_channels_directions_and_actions() -> None:
    hours = msgspec.structs.replace(NIGHT, group="care")
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    now = moment("2027-01-15T23:30")
    assert quiet(policies, now)
    assert not quiet(policies, now, channel="chat")
    assert not quiet(policies, now, direction=Direction.inbound)
    assert not quiet(policies, now, direction=Direction.unspecified)
    assert codes(policies, "tablet", direction=Direction.outbound, now=now) == []
    both = msgspec.structs.replace(NIGHT, directions=["inbound", "outbound"])
    policies = Policies(business(quiet_hours=[both], time_zone="Europe/Amsterdam"))
    assert quiet(policies, now, direction=Direction.inbound)
    cause = only(policies, "tablet", now=now)
    assert cause.stage == pb.STAGE_CONTACT_POLICY
    assert cause.text == "It is 23:30 where they are (quiet hours night)"


@pytest.mark.parametrize(
    ("at", "is_quiet"),
    [
        ("2027-01-15T23:00", True),  # a Friday
        ("2027-01-16T07:00", True),  # Friday's night ends on Saturday
        ("2027-01-16T23:00", False),
        ("2027-01-17T07:00", False),
        ("2027-01-17T23:00", True),
        ("2027-01-18T07:00", True),
        ("2027-01-15T07:00", False),
    ],
)
def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(at: str, is_quiet: bool) -> None:
    hours = msgspec.structs.replace(NIGHT, days=["fri", "sun"])
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(at)) is is_quiet


def living_in(zone: str | float | None) -> Profile:
    return Profile({"zone": Told(zone, 0)}, WILLING.consents)


def test_quiet_hours_go_by_the_clock_where_the_customer_is() -> None:
    policies = Policies(
        business(
            quiet_hours=[NIGHT], time_zone="Europe/Amsterdam", time_zone_by="zone",
            vocabulary=AROUND,
        )
    )  # fmt: skip
    now = moment("2027-01-15T12:00")  # 06:00 in New York, 16:30 in Kolkata
    assert not quiet(policies, now, profile=living_in("Europe/Amsterdam"))
    assert quiet(policies, now, profile=living_in("America/New_York"))
    assert not quiet(policies, now, profile=living_in("Asia/Kolkata"))
    half = moment("2027-01-15T17:30")  # 22:00 in Kolkata
    assert quiet(policies, half, profile=living_in("Asia/Kolkata"))
    assert not quiet(policies, half - 1, profile=living_in("Asia/Kolkata"))
    night = moment("2027-01-15T23:00")
    for unknown in (WILLING, None, living_in(None)):
        assert quiet(policies, night, profile=unknown), "the business's own clock then"
        assert not quiet(policies, now, profile=unknown)
    policies = Policies(business(quiet_hours=[NIGHT], vocabulary=AROUND))
    assert not quiet(policies, now, profile=living_in("America/New_York")), "nobody asked where"


@pytest.mark.parametrize(
    ("utc", "is_quiet"),
    [
        ("2027-03-28T05:59:59", True),  # 07:59:59; the clock jumped from 02:00 to 03:00
        ("2027-03-28T06:00:00", False),
        ("2027-03-27T06:59:59", True),
        ("2027-03-27T07:00:00", False),
        ("2027-03-28T19:59:59", False),
        ("2027-03-28T20:00:00", True),
        ("2027-10-31T06:59:59", True),  # 07:59:59; it went back from 03:00 to 02:00
        ("2027-10-31T07:00:00", False),
        ("2027-10-30T20:00:00", True),
        ("2027-10-31T20:59:59", False),
        ("2027-10-31T21:00:00", True),
    ],
)
def test_quiet_hours_keep_to_the_clock_when_it_changes(utc: str, is_quiet: bool) -> None:
    policies = Policies(business(quiet_hours=[NIGHT], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(utc, "UTC")) is is_quiet
