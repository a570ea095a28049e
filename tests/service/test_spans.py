from __future__ import annotations

import gc

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.elementary import Floats
from features.kernels import Integers
from service.spans import Spans, span


@numba.njit(cache=False)
def summed(words: Integers, at: int) -> float:
    return float(span(words, 0, np.int64).sum() + span(words, 1, np.float64).sum() + words[at])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-1_000, 1_000), max_size=9), st.lists(st.integers(0, 9), max_size=9),
    st.integers(-5, 5),
)  # fmt: skip
def test_a_kernel_finds_the_arrays_and_the_numbers_behind_them(
    wholes: list[int], parts: list[int], number: int
) -> None:
    told = Spans([np.array(wholes, np.int64), np.array(parts) / 4], [number])
    assert summed(told.words, 4) == sum(wholes) + sum(parts) / 4 + number


def test_arrays_live_as_long_as_their_addresses_may_be_used() -> None:
    told = Spans([np.arange(1_000), np.ones(1_000)], [0])
    gc.collect()
    rubbish = [np.full(1_000, 7.0) for _ in range(50)]  # would take the place of what is freed
    assert summed(told.words, 4) == 999 * 500 + 1_000
    assert len(rubbish) == 50


@pytest.mark.parametrize("step", [2, -1])
def test_what_does_not_lie_side_by_side_is_laid_out_anew(step: int) -> None:
    scattered: Floats = np.arange(10.0)[::step]
    told = Spans([np.zeros(0, np.int64), scattered], [0])
    assert summed(told.words, 4) == scattered.sum()
