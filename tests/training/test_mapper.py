from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import Vocabulary
from rapport.v1 import event_pb2
from service.errors import ConfigurationError
from training.mapper import Mapped, Mapper, Refused
from training.mapping import Mapping

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
READING = {"subject": "customer", "modality": "stated", "source": "survey", "basis": "consent"}
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
        reading=READING,
    )
    event = mapped(made, "ann", NOON, "sent", "1.5e3", "90", "-0.25", "112.0")
    assert event == event_pb2.Event(
        event_id="ann-0",
        source="crm",
        customer=event_pb2.CustomerKey(customer_id="ann"),
        occurred_at=Timestamp(seconds=1709290800),
        sequence=0,
        type="sent",
        channel="phone",
        direction=event_pb2.DIRECTION_OUTBOUND,
        intent="pay",
        action="loan",
        outcome=event_pb2.OUTCOME_PRESENTED,
        value=1500.0,
        duration=Duration(seconds=90),
        sentiment=event_pb2.Sentiment(
            score=-0.25,
            subject=event_pb2.Sentiment.SUBJECT_CUSTOMER,
            modality=event_pb2.Sentiment.MODALITY_STATED,
            source="survey",
            basis=event_pb2.Sentiment.BASIS_CONSENT,
        ),
        agent_id="desk 112",
    )


@pytest.mark.parametrize("reading", [None, {**READING, "basis": None}])
def test_a_mood_is_dropped_where_the_mapping_states_no_basis(reading: Any) -> None:
    made = mapper(event={"sentiment": "{more}"}, reading=reading)
    for cell, dropped in (("-0.5", True), ("9", True), ("", False)):
        one = made(2, 1, ("ann", NOON, "sent", cell))
        assert isinstance(one, Mapped)
        assert not one.event.HasField("sentiment")
        assert one.sentiment_dropped is dropped


def test_a_mood_with_a_basis_is_kept_and_says_where_it_is_from() -> None:
    one = mapper(event={"sentiment": "{more}"}, reading=READING)(2, 1, ("ann", NOON, "sent", "0.5"))
    assert isinstance(one, Mapped)
    assert one.event.sentiment.score == 0.5
    assert one.event.sentiment.basis == event_pb2.Sentiment.BASIS_CONSENT
    assert not one.sentiment_dropped


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"subject": "agent"}, "Rapport keeps no emotions of employees"),
        ({"basis": "habit"}, "basis"),
        ({"modality": "guess"}, "modality"),
        ({"source": ""}, "source"),
    ],
)
def test_a_reading_is_checked_with_the_mapping(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        mapper(event={"sentiment": "{more}"}, reading={**READING, **wrong})


def test_what_is_empty_is_absent_and_not_zero() -> None:
    made = mapper(event={"value": "{more}", "agent_id": "x-{more}"}, empty=["", "NULL"])
    for nothing in ("", "NULL"):
        event = mapped(made, "ann", NOON, "sent", nothing)
        assert not event.HasField("value")
        assert event.agent_id == ""
    assert mapped(made, "ann", NOON, "sent", "0").HasField("value")


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
    sections: dict[str, Any] = {"event": {"sequence": ""}, "rename": {"type": {"x": "sent"}}}
    one = mapper(**sections)
    for kind in kinds:
        cells = ("ann", NOON, kind, "")
        assert one(1, 1, cells) == mapper(**sections)(1, 1, cells)


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
        ("sequence", "65536", "from 0 to 65535"),
        ("channel", "fax", "is not in the vocabulary"),
        ("intent", "pey", "did you mean 'pay'?"),
        ("action", "lone", "did you mean 'loan'?"),
        ("direction", "up", "inbound, outbound, internal"),
        ("outcome", "bought", "converted"),
        ("agent_id", "a" * 129, "at most 128"),
    ],
)
def test_a_bad_field_is_named(field: str, cell: str, reason: str) -> None:
    made = mapper(event={field: "{more}"}, reading=READING)
    one = refused(made, "ann", NOON, "sent", cell)
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


def test_the_profile_tells_what_is_new_and_only_that() -> None:
    made = mapper(
        ("who", "at", "what", "income", "vip", "region"),
        profile={"income": "{income}", "vip": "{vip}", "region": "{region}"},
    )

    def news(who: str, *cells: str) -> dict[str, Any]:
        one = made(1, 1, (who, NOON, "sent", *cells))
        assert isinstance(one, Mapped), one
        if one.profile is None:
            return {}
        assert one.profile.customer.customer_id == who
        return {name: MessageToDict(value) for name, value in one.profile.attributes.items()}

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


def test_the_profile_is_told_at_the_time_of_its_row() -> None:
    made = mapper(profile={"income": "{more}"})
    for day, income in ((1, "10"), (2, "11"), (3, "10")):
        one = made(1, 1, ("ann", f"2024-03-0{day}T12:00:00.25+01:00", "sent", income))
        assert isinstance(one, Mapped)
        assert one.profile is not None
        at = Timestamp(seconds=1709290800 + 86_400 * (day - 1), nanos=250_000_000)
        assert one.profile.updated_at == one.event.occurred_at == at


def test_a_file_longer_than_a_sequence_counts_is_read_to_its_end() -> None:
    made = mapper()
    for row in (65_535, 65_536, 1_000_000):
        mapped(made, "ann", NOON, "sent", "", row=row)


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
