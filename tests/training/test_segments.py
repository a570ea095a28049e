from __future__ import annotations

import numpy as np
import pytest

from service.errors import ConfigurationError
from tests.chain import VOCABULARY
from training import segments
from training.segments import UNKNOWN


def test_numbers_are_cut_at_the_quartiles_of_the_customers() -> None:
    ages = [float(age) for age in range(20, 100)]
    cut = segments.cut("age", [*ages, None], VOCABULARY)
    places = np.bincount([cut.place(age) for age in ages], minlength=5)
    assert len(cut.labels) == 5
    assert places.tolist() == [20, 20, 20, 20, 0]
    assert cut.labels[cut.place(None)] == UNKNOWN
    assert cut.labels[cut.place(float("nan"))] == UNKNOWN
    assert cut.how.startswith("at the quartiles")


def test_declared_bands_begin_at_their_first_number() -> None:
    cut = segments.cut("age", [30.0], VOCABULARY, [25, 65])
    assert cut.labels == ["under 25", "25 to under 65", "65 and over", UNKNOWN]
    assert [cut.place(age) for age in (24.9, 25.0, 64.9, 65.0)] == [0, 1, 1, 2]


def test_few_different_numbers_are_segments_one_by_one() -> None:
    cut = segments.cut("age", [1.0, 2.0, 2.0], VOCABULARY)
    assert cut.labels == ["1", "2", UNKNOWN]
    assert cut.place(2.0) == 1


def test_every_value_of_a_category_and_of_a_flag_is_a_segment() -> None:
    assert segments.cut("segment", ["home"], VOCABULARY).labels == ["home", "office", UNKNOWN]
    assert segments.cut("member", [], VOCABULARY).labels == ["yes", "no", UNKNOWN]
    assert segments.cut("member", [], VOCABULARY).place(False) == 1


def test_a_value_that_is_no_longer_declared_is_a_segment_too() -> None:
    cut = segments.cut("segment", ["castle"], VOCABULARY)
    assert cut.labels[cut.place("castle")] == "castle"


def test_nobody_has_a_value_and_all_are_unknown() -> None:
    cut = segments.cut("age", [None, None], VOCABULARY)
    assert cut.labels == [UNKNOWN]
    assert cut.place(None) == 0


def test_what_cannot_be_cut_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="'size' is no attribute; name one of age"):
        segments.cut("size", [], VOCABULARY)
    with pytest.raises(ConfigurationError, match="it is a flag, no number"):
        segments.cut("member", [], VOCABULARY, [1.0])


def test_bands_are_read_as_they_are_written() -> None:
    assert segments.bands(["age=25,40", "balance=0"]) == {"age": [25.0, 40.0], "balance": [0.0]}
    for wrong in ("age", "age=", "age=3,2", "=1", "age=x", "age=1,1"):
        with pytest.raises(ConfigurationError, match="ascending numbers"):
            segments.bands([wrong])
