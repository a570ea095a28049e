from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import Attribute
from training import cells
from training.cells import Template, Time, moments


@pytest.mark.parametrize(
    ("template", "cell", "text"),
    [
        ("{more:whole}", "112.0", "112"),
        ("{more:whole}", "-7.", "-7"),
        ("{more:whole}", "1.5", "1.5"),
        ("{more:whole}", "v1.0", "v1.0"),
        ("{more:strip}", " a ", "a"),
        ("{more:lower}", "Ab", "ab"),
        ("a{{b}}-{more}", "c", "a{b}-c"),
    ],
)
def test_a_template_writes_columns_into_text(template: str, cell: str, text: str) -> None:
    assert Template(template).bind({"more": 3}, {""})(["", "", "", cell]) == text


@pytest.mark.parametrize(
    ("time", "written", "ms"),
    [
        ({}, "2024-03-01T12:00:00.123999+01:00", 1709290800123),
        ({}, "2024-03-01 11:00:00Z", 1709290800000),
        ({"zone": "Europe/Amsterdam"}, "2024-03-01 12:00:00", 1709290800000),
        ({"zone": "Europe/Amsterdam"}, "2024-03-01 11:00:00Z", 1709290800000),
        ({"format": "%d/%m/%Y %H:%M", "zone": "UTC"}, "01/03/2024 11:00", 1709290800000),
        ({"format": "%d/%m/%Y %H:%M %z"}, "01/03/2024 12:00 +0100", 1709290800000),
        ({"format": "epoch_s"}, "1709290800", 1709290800000),
        ({"format": "epoch_s"}, "1709290800.1239", 1709290800123),
        ({"format": "epoch_ms"}, "1709290800123", 1709290800123),
        ({"format": "epoch_ms"}, "1709290800123.0", 1709290800123),
    ],
)
def test_times_are_read_as_the_mapping_says(time: dict[str, str], written: str, ms: int) -> None:
    assert moments(Time(**time))(written) == ms  # type: ignore[arg-type]


def test_seconds_that_are_milliseconds_are_noticed() -> None:
    with pytest.raises(ValueError, match="epoch_ms"):
        moments(Time(format="epoch_s"))("1709290800123")


@pytest.mark.parametrize(
    ("written", "often", "earlier", "later"),
    [
        ("2024-10-27T02:30:00", "twice", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"),
        ("2024-03-31T02:30:00", "never", "2024-03-31T01:30:00Z", "2024-03-31T00:30:00Z"),
    ],
)
def test_a_time_on_a_change_of_the_clock_is_refused_or_read_as_told(
    written: str, often: str, earlier: str, later: str
) -> None:
    zone = "Europe/Amsterdam"
    with pytest.raises(ValueError, match=f"happened {often} in Europe/Amsterdam.*clock_change"):
        moments(Time(zone=zone))(written)
    utc = moments(Time())
    assert moments(Time(zone=zone, clock_change="earlier"))(written) == utc(earlier)
    assert moments(Time(zone=zone, clock_change="later"))(written) == utc(later)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_any_moment_is_read_back_from_any_format(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1_000 * 1_000, tzinfo=UTC)
    ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    there = moment.astimezone(ZoneInfo("Asia/Kathmandu"))
    assert moments(Time())(there.isoformat()) == ms
    assert moments(Time(format="epoch_ms"))(str(ms)) == ms
    assert moments(Time(format="epoch_s"))(f"{ms // 1000}.{ms % 1000:03}") == ms
    pattern = "%Y-%m-%d %H:%M:%S.%f %z"
    assert moments(Time(format=pattern))(there.strftime(pattern)) == ms


def test_a_sequence_fits_the_record_and_says_so_where_it_does_not() -> None:
    assert cells.sequence("65535") == 65_535
    for text in ("65536", "-1", "1.0", ""):
        with pytest.raises(ValueError, match="from 0 to 65535; count within a customer"):
            cells.sequence(text)


def test_an_attribute_is_read_as_the_kind_it_is_declared() -> None:
    region = Attribute(1, "category", {"north": 1, "south": 2})
    assert cells.attribute("north", region) == "north"
    assert cells.attribute("No", Attribute(1, "flag")) is False
    assert cells.attribute("1,5", Attribute(1, "number"), ",") == 1.5
    with pytest.raises(ValueError, match="is none of north, south; declare it"):
        cells.attribute("east", region)
