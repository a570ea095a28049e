"""When it gains to wait for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.crowd import BUSY, ENOUGH, REST_SECONDS, SEVERAL, WINDOW_SECONDS, Crowd


class Machine:
    """A clock, and a process that takes a share of it."""

    def __init__(self, busy: float) -> None:
        self.now = 1_000.0
        self.spent = 5.0
        self.busy = busy
        self.crowd = Crowd(lambda: self.now, lambda: self.spent)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.spent += seconds * self.busy

    def serves(self, callers: int, seconds: float, each: float = 0.001) -> None:
        """So many callers, each of whom asks again when it is answered."""
        for _ in range(callers - 1):
            self.crowd.enter()
        end = self.now + seconds
        while self.now < end:
            self.crowd.enter()
            self.passes(each)
            self.crowd.leave()
        for _ in range(callers - 1):
            self.crowd.leave()


def test_many_callers_of_a_busy_process_are_worth_waiting_for() -> None:
    machine = Machine(busy=0.95)
    machine.serves(16, 4 * WINDOW_SECONDS)
    assert machine.crowd.size == 16


@pytest.mark.parametrize(
    ("callers", "busy"), [(1, 1.0), (SEVERAL - 1, 1.0), (16, BUSY - 0.05), (16, 0.5)]
)
def test_few_callers_or_time_to_spare_are_not(callers: int, busy: float) -> None:
    machine = Machine(busy)
    machine.serves(callers, 10 * WINDOW_SECONDS)
    assert machine.crowd.size == 0


def test_nobody_is_waited_for_before_it_is_known_how_it_is() -> None:
    machine = Machine(busy=1.0)
    for _ in range(16):
        machine.crowd.enter()
    assert machine.crowd.size == 0


@given(st.integers(ENOUGH, 40), st.integers(1, SEVERAL - 1))
def test_who_is_left_alone_soon_waits_for_nobody(before: int, after: int) -> None:
    machine = Machine(busy=1.0)
    machine.serves(before, 3 * WINDOW_SECONDS)
    assert machine.crowd.size == before
    machine.serves(after, 3 * WINDOW_SECONDS)
    assert machine.crowd.size == 0


@pytest.mark.parametrize("callers", range(SEVERAL, ENOUGH))
def test_a_few_are_tried_now_and_then_and_not_more_often(callers: int) -> None:
    machine = Machine(busy=1.0)
    tried = 0
    for _ in range(100):
        machine.serves(callers, WINDOW_SECONDS / 5)
        tried += machine.crowd.size > 0
    assert 0 < tried <= 100 * 2 * WINDOW_SECONDS / REST_SECONDS
    machine.serves(16, REST_SECONDS + 3 * WINDOW_SECONDS)
    assert machine.crowd.size == 16, "when more have come it is worth it again"


def test_nobody_waits_for_a_while_after_a_try_that_was_not_worth_it() -> None:
    machine = Machine(busy=1.0)
    ended, rests = 0.0, list[float]()
    for _ in range(3 * round(REST_SECONDS / 0.001)):
        before = machine.crowd.size
        machine.serves(SEVERAL, 0.001)
        if before and not machine.crowd.size:
            ended = machine.now
        elif ended and machine.crowd.size and not before:
            rests.append(machine.now - ended)
    assert rests
    assert min(rests) > REST_SECONDS - 0.002


def test_who_was_there_when_a_window_began_was_there_in_it() -> None:
    machine = Machine(busy=1.0)
    for _ in range(16):
        machine.crowd.enter()
    sizes = []
    for leaving in (1, 11, 1):
        for _ in range(leaving):
            machine.crowd.leave()
        machine.passes(WINDOW_SECONDS)
        machine.crowd.enter()
        sizes.append(machine.crowd.size)
    assert sizes == [16, 16, 6]


def test_a_window_in_which_nobody_came_for_long_is_as_busy_as_all_of_it() -> None:
    machine = Machine(busy=0.5)
    machine.serves(16, 40 * WINDOW_SECONDS, each=4 * WINDOW_SECONDS)
    assert machine.crowd.size == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 0.02), st.floats(0.0, 1.0)), max_size=200))
def test_the_size_is_never_more_than_were_there(turns: list[tuple[bool, float, float]]) -> None:
    machine, inside, most = Machine(1.0), 0, 0
    for enters, seconds, busy in turns:
        machine.busy = busy
        machine.passes(seconds)
        if enters:
            inside += 1
            most = max(most, inside)
            machine.crowd.enter()
        elif inside:
            inside -= 1
            machine.crowd.leave()
        size = machine.crowd.size
        assert size == 0 or SEVERAL <= size <= most
