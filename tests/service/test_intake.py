from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from features import record
from features.duration import DAY
from features.record import RECORD
from rapport.v1 import event_pb2, log_pb2
from service import intake
from service.callers import Caller
from service.checks import Checks
from service.errors import Violation
from service.intake import Named, Taken
from tests.chain import NOW, VOCABULARY

DECISION = f"00{NOW - 5_000:011x}0000deadbeef"

IVR = Caller("ivr-eu", frozenset({"record"}), frozenset({"acd"}))
IMPORTER = Caller("loader", frozenset({"record", "import"}))
COUNTED = frozenset({2})
Mood = event_pb2.Sentiment


def stamp(ms: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def event(**fields: Any) -> event_pb2.Event:
    known: dict[str, Any] = {
        "event_id": "e-1",
        "customer": event_pb2.CustomerKey(customer_id="ann"),
        "occurred_at": stamp(NOW - 1_234),
        "type": "contact",
        **fields,
    }
    return event_pb2.Event(**{name: value for name, value in known.items() if value is not None})


def mood(score: float | None = 0.0, **fields: Any) -> event_pb2.Sentiment:
    """A reading that may be kept, but for the fields that are given."""
    known: dict[str, Any] = {
        "subject": Mood.SUBJECT_CUSTOMER,
        "modality": Mood.MODALITY_STATED,
        "source": "survey-2026",
        "basis": Mood.BASIS_CONSENT,
        **fields,
    }
    return Mood(score=score, **known)


def take(sent: event_pb2.Event, caller: Caller = IVR) -> Taken | Violation:
    return intake.take(sent, "events[0].", VOCABULARY, COUNTED, caller, NOW)


def taken(sent: event_pb2.Event, caller: Caller = IVR) -> Taken:
    found = take(sent, caller)
    assert isinstance(found, Taken), found
    return found


def only(found: Taken) -> Any:
    (one,) = np.frombuffer(found.write.record, RECORD)
    return one


FULL = event(
    source="acd", sequence=3, channel="phone", direction=1, intent="billing", action="discount",
    outcome=2, value=12.5, duration=duration_pb2.Duration(seconds=61, nanos=900_000_000),
    sentiment=mood(-0.256), interaction_id="call-1", parent_interaction_id="call-0", agent_id="bob",
    decision_id=DECISION, skill="s", queue="q", locale="nl-NL", attributes={"k": "v"},
)  # fmt: skip


def test_an_event_becomes_a_record() -> None:
    one = only(taken(FULL))
    assert one["occurred_at"] == NOW - 1_234
    assert one["hash"] == record.event_hash("acd", "e-1")
    assert (one["sequence"], one["type"], one["channel"], one["intent"]) == (3, 1, 1, 1)
    assert (one["action"], one["outcome"], one["value"], one["duration"]) == (1, 2, 12.5, 61)
    assert one["sentiment"] == -26
    assert one["flags"] == 1 | record.CONTINUATION
    assert one["interaction"] == record.interaction_hash("call-1")
    assert one["agent"] == record.agent_hash("bob")


def test_what_is_absent_stays_absent() -> None:
    one = only(taken(event()))
    assert math.isnan(one["value"])
    assert (one["duration"], one["sentiment"]) == (record.NO_DURATION, record.NO_SENTIMENT)
    assert (one["channel"], one["flags"], one["interaction"], one["agent"]) == (0, 0, 0, 0)
    zero = only(taken(event(value=0, sentiment=mood(0), duration=duration_pb2.Duration())))
    assert (zero["value"], zero["duration"], zero["sentiment"]) == (0, 0, 0)


def test_the_log_keeps_the_event_as_it_was_sent_and_who_sent_it() -> None:
    found = taken(FULL)
    entry = log_pb2.LogEntry.FromString(found.write.entry)
    assert entry.customer_id == "ann"
    assert entry.event.record == found.write.record
    assert entry.event.caller == "ivr-eu"
    assert not entry.event.event.HasField("customer")
    entry.event.event.customer.customer_id = "ann"
    assert entry.event.event == FULL


def test_a_mood_without_a_basis_is_dropped_and_the_rest_of_the_event_is_kept() -> None:
    sent = event(sentiment=mood(-0.9, basis=Mood.BASIS_UNSPECIFIED), value=3, channel="phone")
    found = taken(sent)
    one = only(found)
    assert one["sentiment"] == record.NO_SENTIMENT
    assert (one["value"], one["channel"]) == (3, 1)
    assert found.sentiment_dropped
    assert found.write.record == taken(event(value=3, channel="phone")).write.record
    logged = log_pb2.LogEntry.FromString(found.write.entry).event
    assert not logged.event.HasField("sentiment")
    assert logged.sentiment_dropped == "no basis was stated"
    assert b"survey-2026" not in found.write.entry


@pytest.mark.parametrize("basis", [one for one in Mood.Basis.values() if one])
def test_a_mood_with_any_basis_is_kept(basis: Any) -> None:
    found = taken(event(sentiment=mood(0.5, basis=basis)))
    assert only(found)["sentiment"] == 50
    assert not found.sentiment_dropped
    logged = log_pb2.LogEntry.FromString(found.write.entry).event
    assert logged.event.sentiment == mood(0.5, basis=basis)
    assert not logged.sentiment_dropped


def test_a_mood_as_older_clients_send_it_does_not_slip_into_the_log() -> None:
    """Field 14 was a plain number: nobody knows whose mood, or on what basis."""
    plain = event()
    old = event_pb2.Event.FromString(
        plain.SerializeToString() + b"\x71" + struct.pack("<d", -0.875)
    )
    assert old.ByteSize() > plain.ByteSize()
    found = taken(old)
    assert only(found)["sentiment"] == record.NO_SENTIMENT
    assert struct.pack("<d", -0.875) not in found.write.entry


@pytest.mark.parametrize(
    ("outcome", "fields", "ends"),
    [
        (2, {}, True),
        (7, {}, True),
        (4, {}, False),
        (2, {"action": ""}, False),
        (2, {"decision_id": ""}, False),
    ],
)
def test_what_was_presented_or_overridden_ends_its_reservation(
    outcome: Any, fields: dict[str, str], ends: bool
) -> None:
    known = {"decision_id": DECISION, "action": "discount"}
    found = taken(event(outcome=outcome, **{**known, **fields}))
    hash = record.reservation_hash(DECISION, "discount").to_bytes(8, "little")
    assert found.write.releases == (hash if ends else b"")
    entry = log_pb2.LogEntry.FromString(found.write.entry)
    assert entry.event.releases == found.write.releases


def test_the_caller_is_the_source_where_none_is_named() -> None:
    found = taken(event())
    assert only(found)["hash"] == record.event_hash("ivr-eu", "e-1")
    assert log_pb2.LogEntry.FromString(found.write.entry).event.event.source == "ivr-eu"


@pytest.mark.parametrize(
    ("outcome", "action", "counted"),
    [(2, "discount", True), (2, "", False), (3, "discount", False), (0, "discount", False)],
)
def test_a_counted_outcome_of_an_action_goes_to_the_ledger(
    outcome: Any, action: str, counted: bool
) -> None:
    assert taken(event(outcome=outcome, action=action)).write.counted is counted


def key(namespace: str, value: str) -> event_pb2.CustomerKey:
    identifier = event_pb2.Identifier(namespace=namespace, value=value)
    return event_pb2.CustomerKey(identifier=identifier)


def test_an_identifier_is_evened_out_and_left_to_be_resolved() -> None:
    found = taken(event(customer=key("email", " Ann@B.C ")))
    assert found.who == Named(None, ("email", "ann@b.c"))
    entry = log_pb2.LogEntry.FromString(found.write.entry)
    assert entry.customer_id == ""
    known = log_pb2.LogEntry.FromString(intake.addressed(found.write.entry, "ann"))
    assert known.customer_id == "ann"
    assert known.event == entry.event


def test_the_log_says_who_linked_an_identifier() -> None:
    entry = log_pb2.LogEntry.FromString(intake.linked(("email", "a@b.c"), "ann", IVR))
    assert (entry.customer_id, entry.identity.caller) == ("ann", "ivr-eu")
    assert entry.identity.identifier == event_pb2.Identifier(namespace="email", value="a@b.c")


LONG = "x" * 129
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"event_id": None}, "event_id", "is absent; send 1 to 128 characters"),
    ({"event_id": "  "}, "event_id", "is absent"),
    ({"event_id": LONG}, "event_id", "has 129 characters; send at most 128"),
    ({"event_id": "a\x00"}, "event_id", "holds a NUL character"),
    ({"source": "x" * 65}, "source", "has 65 characters; send at most 64"),
    ({"customer": None}, "customer", "is absent; send customer_id or identifier"),
    ({"customer": event_pb2.CustomerKey(customer_id="")}, "customer.customer_id", "is absent"),
    ({"customer": event_pb2.CustomerKey(customer_id=LONG)}, "customer.customer_id", "has 129"),
    ({"customer": key("fax", "1")}, "customer.identifier.namespace", "'fax' is not declared"),
    ({"customer": key("email", "")}, "customer.identifier.value", "0 characters"),
    ({"customer": key("phone", "x")}, "customer.identifier.value", "holds no digit"),
    ({"occurred_at": None}, "occurred_at", "is absent; send when it happened"),
    ({"occurred_at": stamp(NOW + 301_000)}, "occurred_at", "lies 301 s in the future"),
    ({"occurred_at": stamp(NOW - 31 * DAY)}, "occurred_at", "lies 31 days in the past"),
    ({"occurred_at": stamp(1_700_000)}, "occurred_at", "is before 1990"),
    ({"occurred_at": timestamp_pb2.Timestamp(seconds=1, nanos=-1)}, "occurred_at", "has -1 nanos"),
    ({"received_at": stamp(NOW)}, "received_at", "callers with scope 'import' only"),
    ({"sequence": 65_536}, "sequence", "65536 is over 65535"),
    ({"type": None}, "type", "is absent; send one of: contact, failed"),
    ({"type": "contct"}, "type", "'contct' is not declared; did you mean 'contact'?"),
    ({"channel": "fone"}, "channel", "'fone' is not declared; did you mean 'phone'?"),
    ({"intent": "biling"}, "intent", "'biling' is not declared; did you mean 'billing'?"),
    ({"action": "discnt"}, "action", "'discnt' is not declared; did you mean 'discount'?"),
    ({"direction": 4}, "direction", "4 is no value of this enum"),
    ({"outcome": 12}, "outcome", "12 is no value of this enum"),
    ({"outcome": -1}, "outcome", "-1 is no value of this enum"),
    ({"value": math.nan}, "value", "nan is not finite"),
    ({"value": math.inf}, "value", "inf is not finite"),
    ({"value": -math.inf}, "value", "-inf is not finite"),
    ({"value": 1e13}, "value", "1e+13 is out of range"),
    ({"sentiment": mood(1.01)}, "sentiment.score", "1.01 is out of range; send -1 to 1"),
    ({"sentiment": mood(math.nan)}, "sentiment.score", "nan is not finite"),
    ({"sentiment": mood(None)}, "sentiment.score", "is absent; send -1 to 1, or leave"),
    ({"sentiment": Mood()}, "sentiment.score", "is absent"),
    ({"sentiment": mood(subject=0)}, "sentiment.subject", "is absent; send whose mood it is"),
    ({"sentiment": mood(subject=Mood.SUBJECT_AGENT)}, "sentiment.subject",
     "Rapport keeps no emotions of employees"),
    ({"sentiment": mood(subject=Mood.SUBJECT_AGENT, basis=0)}, "sentiment.subject",
     "Rapport keeps no emotions of employees"),
    ({"sentiment": mood(subject=9)}, "sentiment.subject", "9 is no value of this enum"),
    ({"sentiment": mood(modality=0)}, "sentiment.modality", "is absent; send what it was read"),
    ({"sentiment": mood(modality=9)}, "sentiment.modality", "9 is no value of this enum"),
    ({"sentiment": mood(source="")}, "sentiment.source", "is absent; send 1 to 64 characters"),
    ({"sentiment": mood(source="x" * 65)}, "sentiment.source", "has 65 characters"),
    ({"sentiment": mood(basis=9)}, "sentiment.basis", "9 is no value of this enum"),
    ({"duration": duration_pb2.Duration(seconds=-1)}, "duration", "-1 is out of range"),
    ({"duration": duration_pb2.Duration(nanos=-1)}, "duration", "out of range"),
    ({"duration": duration_pb2.Duration(seconds=64_801)}, "duration", "64801 is out of range"),
    ({"duration": duration_pb2.Duration(seconds=2**63 - 1)}, "duration", "out of range"),
    *(({field: LONG}, field, "has 129 characters") for field in (
        "interaction_id", "parent_interaction_id", "agent_id", "skill", "queue", "locale",
        "decision_id")),
    ({"attributes": {f"k{n}": "" for n in range(33)}}, "attributes", "has 33 entries"),
    ({"attributes": {"k" * 65: ""}}, f"attributes.{'k' * 32}", "has 65 characters"),
    ({"attributes": {"k": "v" * 257}}, "attributes.k", "has 257 characters; send at most 256"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "path", "told"), BAD)
def test_a_bad_field_is_told_by_its_path(fields: dict[str, Any], path: str, told: str) -> None:
    wrong = take(event(**fields))
    assert isinstance(wrong, Violation)
    assert wrong.field == f"events[0].{path}"
    assert told in wrong.description


def test_history_comes_in_with_scope_import() -> None:
    old = event(occurred_at=stamp(NOW - 3_000 * DAY), received_at=stamp(NOW - 2_999 * DAY))
    assert isinstance(take(old), Violation)
    assert only(taken(old, IMPORTER))["occurred_at"] == NOW - 3_000 * DAY
    future = event(received_at=stamp(NOW + DAY))
    assert isinstance(take(future, IMPORTER), Violation)


def test_the_same_event_sent_again_is_the_same_record() -> None:
    assert taken(FULL).write.record == taken(FULL, IMPORTER).write.record
    assert taken(event()).write.record != taken(event(event_id="e-2")).write.record


any_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from([*VOCABULARY.types, *VOCABULARY.channels, *VOCABULARY.actions, "x" * 300]),
)
any_stamp = st.builds(
    timestamp_pb2.Timestamp,
    seconds=st.one_of(
        st.integers(-(2**63), 2**63 - 1), st.integers(-100, 100).map(lambda n: NOW // 1000 + n)
    ),
    nanos=st.one_of(st.just(0), st.integers(-(2**31), 2**31 - 1)),
)
any_customer = st.one_of(
    st.builds(event_pb2.CustomerKey),
    st.builds(event_pb2.CustomerKey, customer_id=st.one_of(st.just("ann"), any_text)),
    st.builds(
        event_pb2.CustomerKey,
        identifier=st.builds(
            event_pb2.Identifier,
            namespace=st.sampled_from([*VOCABULARY.namespaces, "fax", ""]),
            value=any_text,
        ),
    ),
)
enums: st.SearchStrategy[Any] = st.one_of(st.integers(0, 12), st.integers(-(2**31), 2**31 - 1))
small: st.SearchStrategy[Any] = st.one_of(st.integers(0, 4), enums)
numbers = st.one_of(st.none(), st.floats(), st.floats(-1, 1))
any_event = st.builds(
    event_pb2.Event,
    event_id=any_text, source=any_text, customer=any_customer,
    occurred_at=st.one_of(st.none(), any_stamp), received_at=st.one_of(st.none(), any_stamp),
    sequence=st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    type=any_text, channel=any_text, intent=any_text, action=any_text,
    direction=enums, outcome=enums, value=numbers,
    sentiment=st.one_of(st.none(), st.builds(
        event_pb2.Sentiment, score=numbers, subject=small, modality=small, source=any_text,
        basis=small)),
    duration=st.one_of(st.none(), st.builds(
        duration_pb2.Duration, seconds=st.integers(-(2**63), 2**63 - 1),
        nanos=st.integers(-(2**31), 2**31 - 1))),
    interaction_id=any_text, parent_interaction_id=any_text, agent_id=any_text,
    decision_id=any_text, skill=any_text, queue=any_text, locale=any_text,
    attributes=st.dictionaries(any_text, any_text, max_size=3),
)  # fmt: skip


def answers(sent: event_pb2.Event, caller: Caller) -> None:
    found = take(sent, caller)
    if isinstance(found, Violation):
        assert found.field.startswith("events[0].")
        assert 0 < len(found.description) < 2_000
    else:
        assert len(found.write.record) == record.SIZE
        assert (found.who.customer_id is None) != (found.who.identifier is None)
        logged = log_pb2.LogEntry.FromString(found.write.entry).event
        assert logged.record == found.write.record
        if logged.event.HasField("sentiment"):
            assert logged.event.sentiment.subject == Mood.SUBJECT_CUSTOMER
            assert logged.event.sentiment.basis in range(1, 5)
        else:
            assert only(found)["sentiment"] == record.NO_SENTIMENT


@given(any_event, st.sampled_from([IVR, IMPORTER]))
@settings(max_examples=300)
def test_whatever_event_comes_in_it_is_taken_or_told_what_is_wrong(
    sent: event_pb2.Event, caller: Caller
) -> None:
    answers(sent, caller)


@given(st.data())
@settings(max_examples=300)
def test_a_good_event_with_any_one_field_of_another_is_taken_or_told_what_is_wrong(
    data: st.DataObject,
) -> None:
    sent, other = event_pb2.Event(), data.draw(any_event)
    sent.CopyFrom(FULL)
    field = data.draw(st.sampled_from(sorted(event_pb2.Event.DESCRIPTOR.fields_by_name)))
    sent.ClearField(field)  # type: ignore[arg-type]
    only_that = event_pb2.Event()
    only_that.CopyFrom(other)
    for name in event_pb2.Event.DESCRIPTOR.fields_by_name:
        if name != field:
            only_that.ClearField(name)  # type: ignore[arg-type]
    sent.MergeFrom(only_that)
    answers(sent, data.draw(st.sampled_from([IVR, IMPORTER])))


@given(st.binary(max_size=80))
def test_an_event_of_random_bytes_is_taken_or_told_what_is_wrong(sent: bytes) -> None:
    parsed = event_pb2.Event()
    try:
        parsed.ParseFromString(sent)
    except Exception:  # noqa: BLE001  no event at all
        return
    answers(parsed, IVR)


def test_whom_a_request_is_about_is_checked_alone_too() -> None:
    checks = Checks()
    assert intake.customer(checks, event_pb2.CustomerKey(customer_id="ann"), VOCABULARY) == Named(
        "ann"
    )
    assert not checks.violations
    intake.customer(checks, event_pb2.CustomerKey(), VOCABULARY, "whom")
    assert [one.field for one in checks.violations] == ["whom"]


def test_a_caller_speaks_for_itself_and_for_the_sources_it_is_told_to() -> None:
    """An importer brings the events of others."""
    for source in ("", "ivr-eu", "acd"):
        assert isinstance(take(event(source=source)), Taken)
    other = take(event(source="decision-hub"))
    assert isinstance(other, Violation)
    assert other.field == "events[0].source"
    assert "`sources`" in other.description
    assert isinstance(take(event(source="decision-hub"), IMPORTER), Taken)
