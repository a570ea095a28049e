"""What is done to 64 at once, against the same one by one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.elementary import Floats
from service.forest.reach import listed
from service.forest.vectors import (
    BLOCK,
    STEADY_ROW,
    TABLED,
    WIDE,
    WORD_ROW,
    added,
    below,
    exits,
    remains,
)

SEEDS = st.integers(0, 2**32 - 1)


@numba.njit(cache=False)
def _exits(tests: int, count: int, table: int, flips: int, leaves: int) -> None:
    exits(tests, count, table, flips, leaves)


@numba.njit(cache=False)
def _remains(tests: int, count: int, table: int, flips: int, masks: int) -> None:
    remains(tests, count, table, flips, masks)


@numba.njit(cache=False)
def _added(hits: int, values: int, count: int, records: int, sums: int) -> None:
    added(hits, values, count, records, sums)


@numba.njit(cache=False)
def _below(thresholds: int, value: float) -> int:
    return int(below(thresholds, value))


def at(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
    return int(array.ctypes.data)


class Asked:
    """Rows of tests with the table that they look into, and who fails them."""

    def __init__(self, chance: np.random.Generator, count: int, size: int) -> None:
        self.tests = chance.integers(0, 256, (count, size), np.uint8)
        self.tests[:, :WIDE] %= TABLED
        self.table = chance.integers(0, 256, TABLED, np.uint8)
        self.flips = chance.integers(0, 2**64, count, np.uint64)
        turned = np.unpackbits(self.flips.view(np.uint8), bitorder="little").reshape(count, WIDE)
        ranks = self.table[self.tests[:, :WIDE]]
        self.failed = (ranks > self.tests[:, WIDE : 2 * WIDE]) ^ turned.astype(np.bool_)


@given(seed=SEEDS, count=st.integers(0, 255))
def test_a_leaf_moves_behind_a_node_that_is_failed_and_begins_before_it(
    seed: int, count: int
) -> None:
    asked = Asked(np.random.default_rng(seed), count, STEADY_ROW)
    found, wanted = np.zeros(WIDE, np.uint8), np.zeros(WIDE, np.int64)
    for row in range(count):
        moves = asked.failed[row] & (asked.tests[row, 2 * WIDE :] <= wanted)
        wanted[moves] = row + 1
    _exits(at(asked.tests), count, at(asked.table), at(asked.flips), at(found))
    assert found.tolist() == wanted.tolist()


@given(seed=SEEDS, count=st.integers(0, 40))
def test_a_word_keeps_what_each_of_its_tests_leaves(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    asked = Asked(chance, count, WORD_ROW)
    asked.tests[:, 2 * WIDE :] |= chance.integers(0, 256, (count, 8 * WIDE), np.uint8)
    asked.tests[:, 2 * WIDE :] |= chance.integers(0, 256, (count, 8 * WIDE), np.uint8)
    found = chance.integers(0, 2**32, WIDE, np.uint32)
    wanted = found.copy()
    for row in range(count):
        failed, passed = asked.tests[row, 2 * WIDE :].view(np.uint32).reshape(2, WIDE)
        wanted &= np.where(asked.failed[row], failed, passed)
    _remains(at(asked.tests), count, at(asked.table), at(asked.flips), at(found))
    assert found.tolist() == wanted.tolist()


@given(seed=SEEDS, count=st.integers(0, 40))
def test_a_value_is_added_for_the_rows_of_its_set(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    records = chance.integers(0, 2**64, 30, np.uint64)
    hits, values = chance.integers(0, 30, count, np.uint32), chance.integers(-(2**58), 2**58, count)
    members = np.unpackbits(records.view(np.uint8), bitorder="little").reshape(30, WIDE)
    found = np.full(WIDE, 7, np.int64)
    _added(at(hits), at(values), count, at(records), at(found))
    assert found.tolist() == (members[hits].astype(np.int64) * values[:, None]).sum(0).tolist()


@given(
    st.lists(st.floats(allow_nan=False), min_size=BLOCK, max_size=BLOCK),
    st.floats() | st.sampled_from([0.0, -0.0, 5e-324]),
)
def test_thresholds_below_a_value_are_counted(thresholds: list[float], value: float) -> None:
    given_: Floats = np.array(thresholds)
    for one in (value, thresholds[3]):
        assert _below(at(given_), one) == (given_ < one).sum()


@given(seed=SEEDS, rows=st.integers(1, 700), members=st.integers(0, 700))
@example(seed=1, rows=10, members=5)
def test_a_set_of_few_rows_becomes_a_list_where_there_is_room(
    seed: int, rows: int, members: int
) -> None:
    chance, sets = np.random.default_rng(seed), -(-rows // 64)
    chosen = np.sort(chance.permutation(rows)[:members])
    records = np.zeros((32, 1 + sets), np.uint64)
    np.bitwise_or.at(records[5, 1:], chosen // 64, np.uint64(1) << (chosen % 64).astype(np.uint64))
    before = records.copy()
    few, most = listed(records, rows)
    assert (int(most[0]) >> 5 & 1) == (2 * len(chosen) > rows)
    told = -(-len(chosen) // 8) * 8
    assert (int(few[0]) >> 5 & 1) == (told < 4 * sets)
    if told >= 4 * sets:
        assert records[5].tolist() == before[5].tolist()
        return
    numbers = records[5, 1:].view(np.uint16)[: told + 1].tolist()
    assert numbers == [told, *chosen.tolist(), *[rows] * (told - len(chosen))]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="features of other processors")
@pytest.mark.parametrize("features", ["+ssse3,+sse4.2", "+avx,+avx2,+popcnt"])
def test_a_processor_that_can_less_gives_the_same(features: str) -> None:
    mine = llvm.get_host_cpu_features()
    if not all(mine.get(one[1:]) for one in features.split(",")):
        pytest.skip("this one cannot do as much itself")
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-k",
        "moves or keeps",
    ]
    variables = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [*words, __file__], capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2
