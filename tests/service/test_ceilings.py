from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY, HOUR
from service import ceilings
from service.declared import Ceiling
from tests.business import action, business
from tests.chain import NOW

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def ceiling(each: Any = "day", **fields: Any) -> Ceiling:
    return Ceiling("c", each, **(fields or {"volume": 9}))


def at(utc: str) -> int:
    moment = datetime.datetime.fromisoformat(utc).replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("utc", "hour", "day", "month"),
    [
        ("2026-11-22T22:59:59.999", "2026-11-22T23", "2026-11-22", "2026-11"),
        ("2026-11-22T23:00", "2026-11-23T00", "2026-11-23", "2026-11"),
        ("2026-11-30T22:59:59.999", "2026-11-30T23", "2026-11-30", "2026-11"),
        ("2026-11-30T23:00", "2026-12-01T00", "2026-12-01", "2026-12"),
        ("2026-12-31T23:00", "2027-01-01T00", "2027-01-01", "2027-01"),
        ("2028-02-28T23:00", "2028-02-29T00", "2028-02-29", "2028-02"),
        ("2027-03-28T00:59:59.999", "2027-03-28T01", "2027-03-28", "2027-03"),
        ("2027-03-28T01:00", "2027-03-28T03", "2027-03-28", "2027-03"),  # summer begins
        ("2027-03-28T21:59:59.999", "2027-03-28T23", "2027-03-28", "2027-03"),
        ("2027-03-28T22:00", "2027-03-29T00", "2027-03-29", "2027-03"),
        ("2027-10-31T00:59", "2027-10-31T02", "2027-10-31", "2027-10"),
        ("2027-10-31T01:00", "2027-10-31T02", "2027-10-31", "2027-10"),  # the same hour again
        ("2027-10-31T22:59:59.999", "2027-10-31T23", "2027-10-31", "2027-10"),
        ("2027-10-31T23:00", "2027-11-01T00", "2027-11-01", "2027-11"),
    ],
)
def test_a_period_is_the_calendars_where_the_business_is(
    utc: str, hour: str, day: str, month: str
) -> None:
    found = [
        ceilings.period(ceiling(each), at(utc), AMSTERDAM) for each in ("hour", "day", "month")
    ]
    assert found == [hour, day, month]


@given(st.integers(NOW, NOW + 800 * DAY), st.sampled_from(["hour", "day", "month"]))
def test_periods_follow_one_another_and_never_come_back(now: int, each: Any) -> None:
    names = [ceilings.period(ceiling(each), now + n * HOUR, AMSTERDAM) for n in range(60)]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"volume": 9}, 9),
        ({"volume": 0}, 0),
        ({"budget": 12.34}, 1234),
        ({"budget": 0.0}, 0),
        ({"budget": 0.29}, 29),
        ({"budget": 0.019}, 1),
    ],
)
def test_a_limit_is_counted_in_presentations_or_whole_cents(
    fields: dict[str, Any], limit: int
) -> None:
    assert ceilings.limit(ceiling(**fields)) == limit


@pytest.mark.parametrize(
    ("cost", "cents"),
    [
        (0.0, 0),
        (0.07, 7),
        (0.29, 29),
        (1.1, 110),
        (0.004, 1),
        (0.005, 1),
        (0.011, 2),
        (19.99, 1999),
    ],
)
def test_a_presentation_uses_up_what_it_costs_and_parts_of_a_cent_count(
    cost: float, cents: int
) -> None:
    assert ceilings.amount(ceiling(budget=1.0), action(cost=cost)) == cents
    assert ceilings.amount(ceiling(volume=5), action(cost=cost)) == 1


@given(
    st.integers(0, 10_000).map(lambda n: n / 1000), st.integers(0, 100_000).map(lambda n: n / 1000)
)
def test_so_many_as_a_budget_allows_never_cost_more_than_it(cost: float, budget: float) -> None:
    one = ceiling(budget=budget)
    amount = ceilings.amount(one, action(cost=cost))
    assert amount > 0 or cost == 0
    if amount:
        assert ceilings.limit(one) // amount * cost <= budget + 1e-6
    if cost * 100 == round(cost * 100):
        assert amount == round(cost * 100), "whole cents are exact"


def test_all_ceilings_are_listed_with_their_period_by_the_clock_of_the_business() -> None:
    found = business(
        ceilings=[Ceiling("a", "day", volume=9), Ceiling("b", "month", budget=2.5)],
        time_zone="Europe/Amsterdam",
    )
    assert ceilings.current(found, at("2026-11-30T23:00")) == [
        ("a", "2026-12-01", 9), ("b", "2026-12", 250),
    ]  # fmt: skip
    assert ceilings.current(business(), NOW) == []
