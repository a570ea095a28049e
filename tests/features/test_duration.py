from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import duration


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("1ms", 1),
        ("90s", 90_000),
        ("15m", 900_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
    ],
)
def test_each_unit_is_understood(written: str, ms: int) -> None:
    assert duration.milliseconds(written) == ms


@pytest.mark.parametrize(
    "written", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7days", " 7d", "7d\n", "7D", "1h30m"]
)
def test_what_is_no_duration_is_refused_by_name(written: str) -> None:
    with pytest.raises(ValueError, match="is no duration") as refused:
        duration.milliseconds(written)
    assert repr(written) in str(refused.value)
    assert "'7d'" in str(refused.value)


@given(st.integers(1, 5_000), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_grows_with_its_number(number: int, unit: str) -> None:
    one = duration.milliseconds(f"1{unit}")
    assert duration.milliseconds(f"{number}{unit}") == number * one


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "a moment"),
        (0, "a moment"),
        (999, "a moment"),
        (1_000, "1 second"),
        (59_999, "59 seconds"),
        (60_000, "1 minute"),
        (3 * duration.MINUTE, "3 minutes"),
        (duration.HOUR, "1 hour"),
        (2 * duration.DAY + 5, "2 days"),
    ],
)
def test_durations_are_spoken_in_their_largest_unit(ms: float, words: str) -> None:
    assert duration.spoken(ms) == words


def test_a_duration_longer_than_anybody_means_is_refused() -> None:
    assert duration.milliseconds("36500d") == duration.LONGEST
    for written in ("36501d", "99999999999999w"):
        with pytest.raises(ValueError, match="over a hundred years"):
            duration.milliseconds(written)
