from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features import fields
from features.record import RECORD, SIZE, LogId, decode, encode


@given(st.binary(min_size=SIZE, max_size=4 * SIZE).map(lambda one: one[: len(one) // SIZE * SIZE]))
def test_every_field_is_read_from_the_words_as_the_record_has_it(packed: bytes) -> None:
    records = np.frombuffer(packed, RECORD)
    words = fields.words(records)
    for i, record in enumerate(records):
        for name in RECORD.names or ():
            if name in ("hash", "sequence", "value"):
                continue
            assert getattr(fields, name)(words, i) == record[name], name
        value = fields.value(words, i)
        assert value == record["value"] or (math.isnan(value) and math.isnan(record["value"]))


@given(st.integers(0, 9), st.integers(1, 3))
def test_records_that_do_not_lie_side_by_side_are_read_too(count: int, step: int) -> None:
    records = np.zeros(count, RECORD)
    records["type"] = np.arange(count)
    chosen = records[::-1][::step]
    words = fields.words(chosen)
    assert [fields.type(words, i) for i in range(len(chosen))] == chosen["type"].tolist()
    assert len(words) == 5 * len(chosen)


@given(st.integers(0, 9), st.slices(9))
def test_words_of_what_was_stored_are_those_it_was_read_from_and_of_a_part_only_its_own(
    count: int, part: slice
) -> None:
    written = np.zeros(count, RECORD)
    written["type"] = np.arange(count)
    _, records = decode(encode(LogId(1, 2), written))
    for some in (records, records[part]):
        plainly = np.frombuffer(some.tobytes(), np.int64)
        assert fields.words(some).tobytes() == plainly.tobytes()
        assert fields.words(some).dtype == np.int64
    if count:
        assert fields.words(records) is records.base, "no array is made"
