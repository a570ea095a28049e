from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import rates
from training.rates import Mask, Side, Tally

RNG = np.random.default_rng


def people(
    rng: np.random.Generator, customers: int, each: int, one: float, other: float
) -> tuple[Tally, Mask]:
    """Decisions of customers who differ among themselves: clustered, with known mean rates."""
    members = np.repeat(rng.random(customers) < 0.4, each)
    who = np.repeat(np.arange(customers), each)
    mean = np.where(members[::each], one, other)
    own = rng.beta(mean * 4, (1 - mean) * 4)  # a customer's decisions are much alike
    happened = (rng.random(customers * each) < np.repeat(own, each)).astype(float)
    return Tally(happened, np.ones(len(happened)), who), members


@pytest.mark.parametrize(("one", "other"), [(0.2, 0.4), (0.3, 0.3), (0.5, 0.1)])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(one: float, other: float) -> None:
    rng = RNG(11)
    held = []
    for _ in range(600):
        told = rates.ratio(*people(rng, 200, 6, one, other))
        held.append(told.low <= one / other <= told.high)
    assert 0.925 <= float(np.mean(held)) <= 0.975


def test_a_ratio_of_one_is_rejected_as_often_as_it_should_be() -> None:
    rng = RNG(12)
    p = [rates.ratio(*people(rng, 200, 6, 0.3, 0.3)).p for _ in range(600)]
    assert 0.025 <= float(np.mean(np.array(p) < 0.05)) <= 0.075


def test_customers_on_both_sides_are_compared_with_themselves() -> None:
    rng = RNG(13)
    p = []
    for _ in range(400):
        tally, _ = people(rng, 150, 8, 0.3, 0.3)
        p.append(rates.ratio(tally, np.arange(150 * 8) % 8 < 4).p)
    assert 0.025 <= float(np.mean(np.array(p) < 0.05)) <= 0.08


def test_decisions_of_one_customer_do_not_count_as_many() -> None:
    tally, members = people(RNG(1), 60, 1, 0.3, 0.5)
    often = Tally(
        np.repeat(tally.happened, 50), np.repeat(tally.possible, 50), np.repeat(tally.customers, 50)
    )
    once, many = rates.ratio(tally, members), rates.ratio(often, np.repeat(members, 50))
    assert once.ratio == pytest.approx(many.ratio)
    assert (once.low, once.high) == pytest.approx((many.low, many.high), rel=0.05)


def test_a_ratio_and_its_sides_are_what_was_counted() -> None:
    tally = Tally(np.array([1.0, 0, 1, 0, 0, 0, 1, 0] * 20), np.ones(160), np.arange(160))
    members = np.arange(160) % 8 < 4
    told = rates.ratio(tally, members)
    assert told.segment == Side(40.0, 80.0, 80)
    assert told.others == Side(20.0, 80.0, 80)
    assert told.ratio == 2.0
    assert told.low < 2.0 < told.high
    assert told.low * told.high == pytest.approx(4.0), "the interval is log-normal"
    assert told.p < 0.01


def test_what_never_happens_on_one_side_is_a_ratio_of_nothing_and_significant() -> None:
    happened = np.concatenate([np.zeros(100), np.ones(50), np.zeros(150)])
    tally = Tally(happened, np.ones(300), np.arange(300))
    members = np.arange(300) < 100
    told = rates.ratio(tally, members)
    assert told.ratio == 0.0
    assert 0 < told.high < 0.5
    assert told.p < 0.001
    back = rates.ratio(tally, ~members)
    assert math.isinf(back.ratio)
    assert back.low > 2
    assert rates.enough(told.segment, told.others, 30, 10)


def test_nothing_on_either_side_cannot_be_compared() -> None:
    told = rates.ratio(Tally(np.zeros(9), np.ones(9), np.arange(9)), np.arange(9) < 4)
    assert math.isnan(told.p)


@pytest.mark.parametrize(
    ("one", "other", "able"),
    [
        (Side(20, 100, 100), Side(30, 100, 100), True),
        (Side(20, 100, 29), Side(30, 100, 100), False),
        (Side(0, 100, 100), Side(30, 100, 100), True),  # 30 were to be expected
        (Side(0, 10, 100), Side(30, 1000, 100), False),  # 0.3 were
        (Side(3, 100, 100), Side(5, 100, 100), False),
    ],
)
def test_there_must_be_enough_people_and_happenings(one: Side, other: Side, able: bool) -> None:
    assert rates.enough(one, other, 30, 10) is able
    assert rates.enough(other, one, 30, 10) is able


def test_a_gap_that_goes_away_is_explained_whole_and_half() -> None:
    rng = RNG(4)
    members = rng.random(4_000) < 0.5
    low = (rng.random(4_000) < 0.2).astype(float)
    before = np.where(members, low, (rng.random(4_000) < 0.6).astype(float))
    same = (rng.random(4_000) < 0.4).astype(float)
    half = np.where(members & (rng.random(4_000) < 1 / 4), 1.0, before)

    def told(after: np.ndarray) -> rates.Explained:
        ones = np.ones(4_000)
        found = rates.explained(
            Tally(before, ones, np.arange(4_000)), Tally(after, ones, np.arange(4_000)), members
        )
        assert found is not None
        return found

    whole = told(same)
    assert whole.low <= 1.0 <= whole.high
    assert whole.share == pytest.approx(1.0, abs=0.1)
    assert told(half).share == pytest.approx(0.5, abs=0.07)
    nothing = told(before)
    assert nothing == rates.Explained(0.0, 0.0, 0.0)


def test_the_interval_of_what_is_explained_holds_the_truth() -> None:
    rng = RNG(5)
    held = []
    for _ in range(400):
        tally, members = people(rng, 200, 4, 0.2, 0.6)
        lifted = members & (rng.random(len(members)) < 0.25)  # 0.2 -> 0.4: half of the gap
        after = tally._replace(happened=np.where(lifted, 1.0, tally.happened))
        told = rates.explained(tally, after, members)
        assert told is not None
        held.append(told.low <= 0.5 <= told.high)
    assert 0.92 <= float(np.mean(held)) <= 0.98


def test_no_gap_is_not_explained() -> None:
    tally = Tally(np.ones(10), np.ones(10), np.arange(10))
    assert rates.explained(tally, tally, np.arange(10) < 5) is None


def test_a_mean_has_an_interval_by_customer() -> None:
    values = np.repeat(RNG(6).normal(3, 1, 100), 9)
    middle, low, high = rates.mean(values, np.repeat(np.arange(100), 9))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 10, rel=0.05)
    assert low < middle < high
    assert all(math.isnan(one) for one in rates.mean(np.empty(0), np.empty(0, np.int64)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_ps_are_those_of_the_step_up_procedure(p: list[float]) -> None:
    q = rates.adjusted(np.array(p))
    ordered = sorted(p)
    for rate in (0.01, 0.05, 0.2):
        passing = [k for k, one in enumerate(ordered, 1) if one * len(p) / k <= rate]
        found = set(np.array(p)[q <= rate].tolist())
        assert found == (set(ordered[: max(passing)]) if passing else set())


def test_few_of_many_comparisons_without_a_difference_are_discoveries() -> None:
    rng = RNG(7)
    found = 0
    for _ in range(60):
        p = np.array([rates.ratio(*people(rng, 120, 3, 0.3, 0.3)).p for _ in range(15)])
        found += bool((rates.adjusted(p) <= 0.05).any())
    assert found <= 9  # 5 % of families, and what chance adds
