from __future__ import annotations

import pytest

from service.budget import ANSWER_SECONDS, READ_SHARE, Budget, Cost


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_shrinks_with_time_and_keeps_back_the_answer() -> None:
    clock = Clock()
    budget = Budget(0.250, clock)
    assert budget.left == pytest.approx(0.250 - ANSWER_SECONDS)
    clock.now += 0.1
    assert budget.left == pytest.approx(0.150 - ANSWER_SECONDS)
    clock.now += 0.2
    assert budget.left < 0


def test_reading_gets_its_share_of_what_is_left_and_never_less_than_nothing() -> None:
    clock = Clock()
    budget = Budget(0.102, clock)
    assert budget.read == pytest.approx(0.1 * READ_SHARE)
    clock.now += 1
    assert budget.read == 0


def test_a_step_fits_with_half_as_much_again_for_bad_luck() -> None:
    clock = Clock()
    cost = Cost(0.010)
    assert cost.fits(Budget(ANSWER_SECONDS + 0.0151, clock))
    assert not cost.fits(Budget(ANSWER_SECONDS + 0.0149, clock))


def test_a_slow_run_is_learnt_faster_than_a_fast_one() -> None:
    clock = Clock()

    def fits(cost: Cost, seconds: float) -> bool:
        return cost.fits(Budget(ANSWER_SECONDS + 1.5 * seconds, clock))

    slow, fast = Cost(0.010), Cost(0.010)
    slow.note(0.020)
    fast.note(0.0)
    assert not fits(slow, 0.0115)
    assert fits(slow, 0.0125)
    assert not fits(fast, 0.0095)
    assert fits(fast, 0.0099)


def test_a_steady_cost_is_found_in_the_end() -> None:
    cost = Cost(1.0)
    for _ in range(500):
        cost.note(0.001)
    assert cost.fits(Budget(0.01, Clock()))
