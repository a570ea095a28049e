"""What kernels write of numbers and fields, against Python and :mod:`service.wire`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from service import printing, wire, writing


def fixed(value: float, decimals: int) -> str | None:
    out = np.zeros(printing.NUMBER, np.uint8)
    end = printing.fixed(out.ctypes.data, value, decimals)
    return None if end == printing.UNTOLD else told(out, end).decode()


def told(out: Any, end: int) -> bytes:
    """What was written, up to an address."""
    written: bytes = out[: end - out.ctypes.data].tobytes()
    return written


halves = st.builds(lambda n, d: float(Fraction(n, d)), st.integers(-10**9, 10**9),
                   st.sampled_from([2, 4, 8, 200, 1000, 2000]))  # fmt: skip


@given(st.floats() | halves, st.integers(0, 2))
@example(0.5, 0)
@example(1.5, 0)
@example(0.125, 2)
@example(0.375, 2)
@example(-0.0, 2)
@example(-1e-300, 1)
@example(5e-324, 2)
@example(0.007, 2)  # the least that is not nought: of more bits than it takes to shift all away
@example(2.0**-7 - 2.0**-60, 2)
@example(-0.05000000000000001, 1)
@example(99.995, 2)
@example(2.0**52 - 0.5, 0)
@example(-(2.0**52 - 0.5), 2)
@example(2.0**52, 0)
@example(math.nan, 2)
def test_numbers_are_worded_as_python_words_them(value: float, decimals: int) -> None:
    if abs(value) < 2**52:
        assert fixed(value, decimals) == f"{value:.{decimals}f}"
    else:
        assert fixed(value, decimals) is None


@given(st.integers(0, 2**62))
@example(0x7F)
@example(0x80)
@example(0x4000)
def test_whole_numbers_are_written_as_wire_writes_them(number: int) -> None:
    out = np.zeros(20, np.uint8)
    assert told(out, writing.varint(out.ctypes.data, number)) == wire.varint(number)
    assert told(out, printing.digits(out.ctypes.data, number)) == str(number).encode()


@given(st.floats() | st.sampled_from([0.0, -0.0]), st.integers(1, 15))
def test_doubles_are_written_as_wire_writes_them(value: float, number: int) -> None:
    out = np.zeros(9, np.uint8)
    at = out.ctypes.data
    assert told(out, printing.double(at, number, value)) == wire.double(number, value)
    assert told(out, printing.optional(at, number, value)) == wire.optional(number, value)


@given(st.sampled_from([0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 20_000]), st.integers(1, 15))
def test_a_field_is_closed_with_its_key_and_its_length(size: int, number: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    out = np.zeros(3 + printing.HEAD + size, np.uint8)
    out[3 + printing.HEAD :] = np.frombuffer(payload, np.uint8)
    at = out.ctypes.data
    end = printing.close(at + 3, at + len(out), number)
    assert told(out, end)[3:] == wire.nested(number, payload)


@given(st.lists(st.sampled_from([-1.0, 0.5, 1.0, 1e9, math.nan]), max_size=6))
def test_what_is_strongest_comes_first_and_equals_stay_as_they_stand(values: list[float]) -> None:
    some = [one for one in values if one == one]  # noqa: PLR0124  a strength is a number
    order = np.zeros(len(some), np.int64)
    printing.sorted_down(np.array(some, np.float64), order)
    assert order.tolist() == sorted(range(len(some)), key=some.__getitem__, reverse=True)
