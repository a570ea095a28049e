from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.declared import ControlGroups
from service.experiments import group_of

PEOPLE = [f"customer-{n}" for n in range(20_000)]
MIXED = ControlGroups("spring", random=0.05, probability_only=0.1, no_model=0.02, hold_out=0.2)
SHARES = {"random": 0.05, "probability_only": 0.1, "no_model": 0.02, "hold_out": 0.2, "": 0.63}


def expected(share: float, people: int) -> tuple[float, float]:
    """Five standard deviations around what a share makes of so many."""
    spread = 5 * math.sqrt(people * share * (1 - share))
    return people * share - spread, people * share + spread


def test_shares_are_what_is_declared() -> None:
    found = Counter(group_of(one, MIXED) for one in PEOPLE)
    assert set(found) == set(SHARES)
    for name, share in SHARES.items():
        low, high = expected(share, len(PEOPLE))
        assert low < found[name] < high


def test_another_salt_draws_anew() -> None:
    again = ControlGroups("autumn", 0.05, 0.1, 0.02, 0.2)
    both = Counter((group_of(one, MIXED), group_of(one, again)) for one in PEOPLE)
    for (first, second), count in both.items():
        low, high = expected(SHARES[first] * SHARES[second], len(PEOPLE))
        assert low - 1 < count < high + 1


def test_salt_and_customer_do_not_run_together() -> None:
    first = [group_of(f"1{one}", ControlGroups("a", random=0.5)) for one in PEOPLE]
    second = [group_of(one, ControlGroups("a1", random=0.5)) for one in PEOPLE]
    assert first != second


def test_growing_a_share_keeps_those_who_are_in_it() -> None:
    small, large = ControlGroups("s", random=0.1), ControlGroups("s", random=0.3)
    for one in PEOPLE[:2_000]:
        if group_of(one, small):
            assert group_of(one, large) == "random"


@given(st.text(max_size=40), st.text(max_size=8))
def test_a_customer_stays_in_their_group(customer: str, salt: str) -> None:
    declared = ControlGroups(salt, 0.25, 0.25, 0.25, 0.25)
    assert group_of(customer, declared) == group_of(customer, declared) != ""
    assert group_of(customer, ControlGroups(salt)) == ""


@pytest.mark.parametrize("name", ["random", "probability_only", "no_model", "hold_out"])
def test_a_whole_share_is_everybody(name: str) -> None:
    declared = ControlGroups("s", **{name: 1.0})
    assert {group_of(one, declared) for one in PEOPLE[:500]} == {name}


def test_another_process_draws_the_same_and_so_will_the_next_version() -> None:
    script = (
        "from service.declared import ControlGroups as C; from service.experiments import group_of;"
        "print([group_of(f'customer-{n}', C('spring', .05, .1, .02, .2)) for n in range(9)])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == str([group_of(one, MIXED) for one in PEOPLE[:9]])
    assert [group_of(one, MIXED) for one in PEOPLE[:9]] == FIRST


FIRST = ["", "", "hold_out", "", "hold_out", "", "", "random", ""]
"""Groups must not move when code changes: customers would change sides in a running trial."""
