from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.restarts import Restarts

served = st.sampled_from([0.0, 0.5, 29.0, 30.0, 1e6])


def test_the_first_end_is_mended_at_once_and_more_of_them_later_and_later() -> None:
    restarts = Restarts()
    pauses = [restarts.ended(served=1.0) for _ in range(10)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_worker_that_served_for_long_is_replaced_at_once() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.ended(served=1.0)
    assert restarts.ended(served=3_600.0) == 0.0
    assert restarts.ended(served=1.0) == 0.5


@given(st.lists(served, max_size=50))
def test_pauses_never_shrink_while_it_ends_quickly(lives: list[float]) -> None:
    restarts, before = Restarts(), -1.0
    for life in lives:
        pause = restarts.ended(life)
        assert 0 <= pause <= 30
        if life < 30:
            assert pause >= before
        else:
            assert pause == 0
        before = pause


def test_hope_ends_when_nobody_serves_and_it_cannot_start() -> None:
    restarts = Restarts()
    assert restarts.hopeless(refused=True, others=False)
    assert not restarts.hopeless(refused=True, others=True)
    for _ in range(4):
        restarts.ended(0.0)
        assert not restarts.hopeless(refused=False, others=False)
    restarts.ended(0.0)
    assert restarts.hopeless(refused=False, others=False)
    assert not restarts.hopeless(refused=False, others=True)
    restarts.ended(0.1)
    assert not restarts.hopeless(refused=False, others=False), "it served"


@given(st.lists(st.floats(0.001, 1e5), max_size=50))
def test_who_serves_now_and_then_is_never_given_up(lives: list[float]) -> None:
    restarts = Restarts()
    for life in lives:
        restarts.ended(life)
        assert not restarts.hopeless(refused=False, others=False)
