from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import Vocabulary
from rapport.v1 import event_pb2
from service import catalogue, config
from service.errors import ConfigurationError
from training.mapping import Mapped, Mapper, Mapping, Refused, Template, Time, moments

VOCABULARY = msgspec.convert(
    {
        "channels": {"mail": 1, "phone": 2},
        "types": {"sent": {"code": 1}, "call+START": {"code": 2}, "call+END": {"code": 3}},
        "intents": {"pay": {"code": 1, "title": "Pay"}},
        "actions": {"loan": 1},
        "attributes": {
            "income": {"code": 1, "kind": "number"},
            "vip": {"code": 2, "kind": "flag"},
            "region": {"code": 3, "kind": "category", "values": {"north": 1}},
        },
    },
    Vocabulary,
)
EVENT = {"customer_id": "{who}", "occurred_at": "{at}", "type": "{what}"}
NOON = "2024-03-01T12:00:00+01:00"
HEADER = ("who", "at", "what", "more")


def mapper(header: tuple[str, ...] = HEADER, /, **sections: Any) -> Mapper:
    sections["event"] = EVENT | sections.get("event", {})
    return Mapper(msgspec.convert({"source": "crm"} | sections, Mapping), VOCABULARY, header)


def mapped(made: Mapper, *cells: str, row: int = 1) -> event_pb2.Event:
    one = made(row + 1, row, cells)
    assert isinstance(one, Mapped), one
    return one.event


def refused(made: Mapper, *cells: str) -> Refused:
    one = made(7, 6, cells)
    assert isinstance(one, Refused), one
    assert one.line == 7
    return one


def test_a_row_becomes_an_event_with_everything_it_tells() -> None:
    made = mapper(
        ("who", "at", "what", "worth", "took", "mood", "desk"),
        event={
            "event_id": "{who}-{#row_in_customer}",
            "channel": "phone",
            "direction": "outbound",
            "intent": "pay",
            "action": "loan",
            "outcome": "presented",
            "value": "{worth}",
            "duration": "{took}",
            "sentiment": "{mood}",
            "agent_id": "desk {desk:whole}",
        },
    )
    event = mapped(made, "ann", NOON, "sent", "1.5e3", "90", "-0.25", "112.0")
    assert event == event_pb2.Event(
        event_id="ann-0",
        source="crm",
        customer=event_pb2.CustomerKey(customer_id="ann"),
        occurred_at=Timestamp(seconds=1709290800),
        sequence=1,
        type="sent",
        channel="phone",
        direction=event_pb2.DIRECTION_OUTBOUND,
        intent="pay",
        action="loan",
        outcome=event_pb2.OUTCOME_PRESENTED,
        value=1500.0,
        duration=Duration(seconds=90),
        sentiment=-0.25,
        agent_id="desk 112",
    )


def test_what_is_empty_is_absent_and_not_zero() -> None:
    made = mapper(event={"value": "{more}", "agent_id": "x-{more}"}, empty=["", "NULL"])
    for nothing in ("", "NULL"):
        event = mapped(made, "ann", NOON, "sent", nothing)
        assert not event.HasField("value")
        assert event.agent_id == ""
    assert mapped(made, "ann", NOON, "sent", "0").HasField("value")


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


def test_counters_count_rows_and_rows_of_a_customer() -> None:
    made = mapper(event={"event_id": "{#row}", "sequence": "{#row_in_customer}"})
    rows = [mapped(made, who, NOON, "sent", "", row=row) for row, who in enumerate("abaab", 1)]
    assert [event.event_id for event in rows] == ["1", "2", "3", "4", "5"]
    assert [event.sequence for event in rows] == [0, 0, 1, 2, 1]


def test_a_refused_row_keeps_its_place_in_the_count() -> None:
    made = mapper(event={"sequence": "{#row_in_customer}"})
    mapped(made, "ann", NOON, "sent", "")
    refused(made, "ann", "never", "sent", "")
    assert mapped(made, "ann", NOON, "sent", "").sequence == 2


def test_rules_match_texts_lists_and_expressions_and_the_later_one_holds() -> None:
    made = mapper(
        event={"type": "{what}+{more}"},
        rename={"type": {"letter+OUT": "sent", r"/(call\+\w+)\+.*/": r"\1"}},
        rules=[
            {"when": {"what": "/.*/"}, "set": {"channel": "phone", "value": 5}},
            {"when": {"#type": "sent"}, "set": {"channel": "mail", "outcome": "presented"}},
            {"when": {"more": ["START", "BEGIN"], "who": "ann"}, "set": {"direction": "inbound"}},
            {"when": {"more": "BEGIN"}, "set": {"type": "call+START", "channel": ""}},
            {"when": {"#type": "/call.START/"}, "set": {"action": "loan"}},
            {"when": {"who": "/an/"}, "set": {"action": ""}},
            {"when": {"who": "/bo./"}, "set": {"direction": "", "outcome": ""}},
        ],
    )
    letter = mapped(made, "ann", NOON, "letter", "OUT")
    assert (letter.type, letter.channel, letter.value) == ("sent", "mail", 5.0)
    assert letter.outcome == event_pb2.OUTCOME_PRESENTED
    call = mapped(made, "ann", NOON, "call", "START")
    assert (call.type, call.channel, call.direction) == ("call+START", "phone", 1)
    assert call.action == "loan"
    assert mapped(made, "bob", NOON, "call", "START").direction == 0
    assert mapped(made, "ann", NOON, "call+END", "more").type == "call+END"
    begun = mapped(made, "ann", NOON, "call", "BEGIN")
    assert (begun.type, begun.channel, begun.direction) == ("call+START", "", 1)
    assert begun.action == ""  # its type before any rule was another


@given(st.lists(st.sampled_from(["sent", "call+START", "x", "y"]), max_size=30))
def test_remembered_rows_are_read_as_if_each_were_the_first(kinds: list[str]) -> None:
    one = mapper(rename={"type": {"x": "sent"}})
    for kind in kinds:
        first = mapper(rename={"type": {"x": "sent"}})(1, 1, ("ann", NOON, kind, ""))
        assert one(1, 1, ("ann", NOON, kind, "")) == first


@pytest.mark.parametrize(
    ("cells", "column", "value", "reason"),
    [
        (("", NOON, "sent", ""), "who", "", "customer_id is empty"),
        (("ann", "", "sent", ""), "at", "", "occurred_at is empty"),
        (("ann", NOON, "", ""), "what", "", "type is empty"),
        (("ann", "noon", "sent", ""), "at", "noon", "is no time"),
        (("ann", "2024-03-01T12:00:00", "sent", ""), "at", "2024-03-01T12:00:00", "no offset"),
        (("ann", "1969-03-01T12:00:00Z", "sent", ""), "at", "1969-03-01T12:00:00Z", "before 1970"),
        (("ann", NOON, "send", ""), "what", "send", "did you mean 'sent'?"),
        (("ann", NOON, "sent", "nan"), "more", "nan", "value is no number"),
        (("ann", NOON, "sent", "1e39"), "more", "1e39", "too large"),
        (("ann", NOON, "sent", "1_0"), "more", "1_0", "value is no number"),
        (("a" * 129, NOON, "sent", ""), "who", "a" * 129, "has 129 characters; use at most 128"),
        (("ann", NOON, "sent"), "", "ann,2024-03-01T12:00:00+01:00,sent", "3 cells"),
        (("ann", NOON, "sent", "", "?"), "", f"ann,{NOON},sent,,?", "5 cells"),
    ],
)
def test_a_bad_row_names_column_value_and_remedy(
    cells: tuple[str, ...], column: str, value: str, reason: str
) -> None:
    one = refused(mapper(event={"value": "{more}"}), *cells)
    assert (one.column, one.value) == (column, value)
    assert reason in one.reason
    assert ";" in one.reason


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ("duration", "-1", "from 0 to 64800 s"),
        ("duration", "64801", "from 0 to 64800 s"),
        ("duration", "18:00:01", "from 0 to 64800 s"),
        ("duration", "soon", "is no number"),
        ("sentiment", "1.01", "from -1 to 1"),
        ("sequence", "-1", "whole number"),
        ("sequence", str(2**32), "whole number"),
        ("channel", "fax", "is not in the vocabulary"),
        ("intent", "pey", "did you mean 'pay'?"),
        ("action", "lone", "did you mean 'loan'?"),
        ("direction", "up", "inbound, outbound, internal"),
        ("outcome", "bought", "converted"),
        ("agent_id", "a" * 129, "at most 128"),
    ],
)
def test_a_bad_field_is_named(field: str, cell: str, reason: str) -> None:
    one = refused(mapper(event={field: "{more}"}), "ann", NOON, "sent", cell)
    assert (one.column, one.value) == ("more", cell)
    assert one.reason.startswith(field)
    assert reason in one.reason


@pytest.mark.parametrize(
    ("unit", "cell", "seconds"),
    [
        ("s", "90.9", 90),
        ("ms", "90900", 90),
        ("m", "1.5", 90),
        ("h", "18", 64_800),
        ("ms", "00:01:30", 90),
        ("s", "18:00:00", 64_800),
    ],
)
def test_durations_have_a_unit_or_are_written_as_a_clock(
    unit: str, cell: str, seconds: int
) -> None:
    made = mapper(event={"duration": "{more}"}, duration_unit=unit)
    assert mapped(made, "ann", NOON, "sent", cell).duration.seconds == seconds


def test_a_decimal_comma_is_read_when_the_mapping_says_so() -> None:
    made = mapper(event={"value": "{more}"}, decimal=",")
    assert mapped(made, "ann", NOON, "sent", "12,5").value == 12.5
    for cell in ("1.234,5", "1.5"):
        assert "decimal ','" in refused(made, "ann", NOON, "sent", cell).reason


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


def test_the_profile_tells_what_is_new_and_only_that() -> None:
    made = mapper(
        ("who", "at", "what", "income", "vip", "region"),
        profile={"income": "{income}", "vip": "{vip}", "region": "{region}"},
    )

    def news(who: str, *cells: str) -> dict[str, float | bool | str]:
        one = made(1, 1, (who, NOON, "sent", *cells))
        assert isinstance(one, Mapped), one
        return one.profile

    assert news("ann", "10", "Yes", "") == {"income": 10.0, "vip": True}
    assert news("bob", "10", "no", "north") == {"income": 10.0, "vip": False, "region": "north"}
    assert news("ann", "10", "Yes", "") == {}
    assert news("ann", "", "no", "north") == {"vip": False, "region": "north"}
    assert news("ann", "10", "no", "north") == {}
    assert news("ann", "11", "no", "north") == {"income": 11.0}
    for cells, column in (
        (("?", "no", ""), "income"),
        (("", "?", ""), "vip"),
        (("", "", "?"), "region"),
    ):
        one = refused(made, "ann", NOON, "sent", *cells)
        assert (one.column, one.value) == (column, "?")
        assert one.reason.startswith(f"profile.{column}")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"event": {"channel": "{chanel}"}}, "column 'chanel' is not in the file; it has who, at"),
        ({"event": {"channel": "fone"}}, "channel 'fone' is not in .* did you mean 'phone'"),
        ({"event": {"type": "{#row}"}}, "event.type: a counter is no name"),
        ({"rules": [{"when": {"mor": "x"}, "set": {}}]}, "column 'mor' is not in the file"),
        ({"rules": [{"when": {"more": "x"}, "set": {"type": "?"}}]}, "type '\\?' is not in"),
        ({"rename": {"outcome": {"x": "bought"}}}, "outcome 'bought' is none; rename it to one"),
        ({"profile": {"age": "{more}"}}, "profile: 'age' is not declared"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_at_once(
    sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mapper(**sections)


def test_a_column_that_is_used_has_to_be_there_once() -> None:
    with pytest.raises(ConfigurationError, match="column 'at' is twice in the file"):
        mapper(("who", "at", "what", "at"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source: x\nevent: {customer_id: '{a', occurred_at: b, type: c}",
            r"m.yaml:2:9: event.cus",
        ),
        (
            "source: x\nevent: {customer_id: '{a:big}', occurred_at: b, type: c}",
            "nothing or :whole",
        ),
        ("source: x\nevent: {customer_id: '{#a}', occurred_at: b, type: c}", "#row_in_customer"),
        ("source: ''\nevent: {customer_id: a, occurred_at: b, type: c}", r"m.yaml:1:1: source"),
        ("time: {format: julian}", r"m.yaml:1:8: time.format"),
        ("time: {zone: Europe/Nowhere}", r"m.yaml:1:8: time.zone"),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\n"
            "rename: {type: {'/(/': x}}",
            "write a regular expression",
        ),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\n"
            r"rename: {type: {'/a/': '\1'}}",
            "write a regular expression",
        ),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\nrename: {value: {}}",
            "'value' has no table",
        ),
    ],
)
def test_a_mistake_in_the_file_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.parse(text, Mapping, Path("m.yaml"))


def test_the_example_of_a_bank_is_whole() -> None:
    folder = Path("config/examples/bpi2012")
    business = catalogue.load(folder)
    assert len(business.vocabulary.types) == 36
    mapping = config.load(folder / "mapping.yaml", Mapping)
    header = ("case_id", "amount_req", "activity", "lifecycle", "timestamp", "resource")
    moment = "2011-10-01T00:38:44.546+02:00"
    log, split = (Mapper(mapping, business.vocabulary, header) for _ in range(2))
    for name in business.vocabulary.types:
        activity, lifecycle = name.split("+")
        one = mapped(log, "1", "5", activity, lifecycle, moment, "")
        assert one.type == name
        assert one == mapped(split, "1", "5", name, lifecycle, moment, "nan")
