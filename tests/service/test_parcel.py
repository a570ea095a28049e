from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service import parcel

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.binary(max_size=600),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
KINDS: list[Any] = [np.float64, np.int32, np.uint8, np.dtype([("a", "<u2"), ("b", "<f8")])]
ARRAYS: st.SearchStrategy[Any] = arrays.arrays(
    st.sampled_from([np.dtype(kind) for kind in KINDS]),
    arrays.array_shapes(min_dims=1, max_dims=3, max_side=20),
)


def through(*parts: object) -> list[Any]:
    return list(parcel.unpack(parcel.pack(parts)))


@given(st.lists(VALUES, max_size=5))
def test_what_is_packed_comes_out_in_its_order(parts: list[object]) -> None:
    assert through(*parts) == parts


@given(st.lists(ARRAYS, max_size=6))
def test_arrays_come_out_bit_by_bit_and_may_be_written_to(parts: list[Any]) -> None:
    for theirs, ours in zip(through(*parts), parts, strict=True):
        assert isinstance(theirs, np.ndarray)
        assert theirs.dtype == ours.dtype
        assert theirs.shape == ours.shape
        assert theirs.tobytes() == ours.tobytes()
        # A kernel compiled for an array that may be written to is another one.
        assert theirs.flags.writeable
        assert theirs.flags.aligned


def test_large_arrays_are_mapped_at_a_cache_line_and_small_ones_are_not() -> None:
    (large, odd, small) = through(np.arange(1_000.0), np.arange(301, dtype=np.uint8), np.arange(3))
    for one in (large, odd):
        assert not one.flags.owndata
        assert one.ctypes.data % 64 == 0
    assert small.nbytes < 256


def test_who_writes_to_a_mapped_array_writes_for_nobody_else() -> None:
    packed = parcel.pack([np.zeros(1_000)])
    (first,) = parcel.unpack(os.dup(packed))
    (second,) = parcel.unpack(packed)
    first[:] = 1.0
    assert not second.any()


def test_parts_that_share_something_share_it_afterwards() -> None:
    shared = {"of": np.arange(100.0)}
    one, two = through(["a", shared], {"b": shared})
    assert one[1] is two["b"]


def test_an_array_outlives_its_parcel_and_no_descriptor_stays() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (kept,) = through(np.arange(10_000))
    assert kept.sum() == 49_995_000
    with pytest.raises((pickle.PicklingError, AttributeError)):
        parcel.pack([lambda: None])
    del kept
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_files_of_memory_one_without_a_name_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    (found,) = through(np.arange(5_000))
    assert (found == np.arange(5_000)).all()
