"""What is taken at once is what the careful way takes, and what it refuses is left to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY
from rapport.v1 import event_pb2, log_pb2
from service import intake, outcomes
from service.callers import Caller
from service.checks import SKEW
from service.errors import Violation
from service.taking import Taking
from tests.chain import NOW, VOCABULARY
from tests.service.test_intake import COUNTED, DECISION, FULL, IMPORTER, IVR, event, mood

TEXTS = st.one_of(
    st.sampled_from(["", "", "x", "call-1", " ", "a\0b", "x" * 128, "x" * 129, "é" * 64]),
    st.text(max_size=8),
)
MOMENTS = st.sampled_from(
    [0, 1, NOW, NOW - 1, NOW + SKEW, NOW + SKEW + 1, NOW - 30 * DAY, NOW - 30 * DAY - 1, 10**12]
)
CUSTOMERS = st.one_of(
    TEXTS.map(lambda one: event_pb2.CustomerKey(customer_id=one)),
    st.sampled_from(
        [
            event_pb2.CustomerKey(customer_id="ann"),
            event_pb2.CustomerKey(),
            event_pb2.CustomerKey(
                identifier=event_pb2.Identifier(namespace="email", value="a@b.c")
            ),
        ]
    ),
)
STAMPS = st.builds(
    lambda ms, nanos: timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=nanos),
    MOMENTS,
    st.sampled_from([0, 1, 999_999_999, 1_000_000_000, -1, 234_000_000]),
)
DURATIONS = st.builds(
    duration_pb2.Duration,
    seconds=st.sampled_from([0, 1, 61, 64_800, 64_801, -1, 2**40]),
    nanos=st.sampled_from([0, 999_999_999, 1_000_000_000, -1]),
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def names(known: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(["", "nonsense", *sorted(known)])


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": TEXTS,
    "source": st.sampled_from(["", "", "acd", "ivr-eu", "other", "x" * 64, "x" * 65]),
    "customer": CUSTOMERS,
    "occurred_at": maybe(STAMPS),
    "sequence": st.sampled_from([0, 7, 65_535, 65_536]),
    "type": names(VOCABULARY.type_codes),
    "channel": names(VOCABULARY.channels),
    "intent": names(VOCABULARY.intent_codes),
    "action": names(VOCABULARY.actions),
    "direction": st.integers(0, 4),
    "outcome": st.integers(0, 15),
    "value": maybe(st.sampled_from([0.0, 12.5, -1e12, 1e12, 1.1e12, math.nan, math.inf])),
    "duration": maybe(DURATIONS),
    "interaction_id": TEXTS,
    "parent_interaction_id": TEXTS,
    "decision_id": st.one_of(st.sampled_from(["", DECISION]), TEXTS),
    "agent_id": TEXTS,
    "skill": TEXTS,
    "queue": TEXTS,
    "locale": TEXTS,
    "attributes": st.sampled_from(
        [{}, {"k": "v"}, {"k": "v" * 257}, {"k" * 65: "v"}, {f"k{n}": "v" for n in range(33)}]
    ),
    "received_at": maybe(STAMPS),
    "sentiment": maybe(st.sampled_from([mood(0.3), mood(None), mood(basis=0)])),
}
PLAIN: dict[str, Any] = {
    "event_id": "e-1", "customer": event_pb2.CustomerKey(customer_id="ann"),
    "occurred_at": timestamp_pb2.Timestamp(seconds=NOW // 1000, nanos=999_999_999),
    "type": "contact", "action": "discount", "outcome": 2, "value": 1.5,
}  # fmt: skip
"""With which nothing is wrong."""
CHANGES = st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)
"""A few at a time: of what is wrong in many ways no single check is seen."""


@given(fields=CHANGES, caller=st.sampled_from([IVR, IMPORTER]))
@settings(max_examples=1_000)
def test_every_event_is_taken_or_refused_as_by_the_careful_way(
    fields: dict[str, Any], caller: Caller
) -> None:
    chosen = {**PLAIN, **fields}
    sent = event_pb2.Event(**{name: one for name, one in chosen.items() if one is not None})
    expected = intake.take(sent, "events[0].", VOCABULARY, COUNTED, caller, NOW)
    taking = Taking(VOCABULARY, COUNTED, caller, NOW)
    for _ in range(2):  # the second time with what it remembers of the first
        assert taking.take(sent, 0) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source": "acd"},
        {"customer": event_pb2.CustomerKey(customer_id="é" * 128), "event_id": "é" * 128},
        {"agent_id": "bob", "interaction_id": "i", "parent_interaction_id": "j"},
        {"action": "discount", "outcome": 2, "decision_id": DECISION},
        {"skill": "s" * 128, "queue": "q" * 128, "locale": "nl-NL"},
        {"duration": duration_pb2.Duration(seconds=61, nanos=900_000_000), "value": 12.5},
    ],
)
def test_what_most_events_are_like_is_taken_at_once(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = event(**fields)
    expected = intake.take(sent, "", VOCABULARY, COUNTED, IVR, NOW)
    monkeypatch.setattr(intake, "take", None)
    assert Taking(VOCABULARY, COUNTED, IVR, NOW).take(sent, 0) == expected


@pytest.mark.parametrize("caller", [IVR, IMPORTER])
def test_nobody_records_as_the_source_of_outcomes(caller: Caller) -> None:
    taking = Taking(VOCABULARY, COUNTED, caller, NOW)
    found = taking.take(event(source=f"{outcomes.SOURCE}ivr-eu"), 3)
    assert isinstance(found, Violation)
    assert found.field == "events[3].source"
    assert "RecordOutcome" in found.description


def test_events_of_a_batch_keep_apart() -> None:
    taking = Taking(VOCABULARY, COUNTED, IVR, NOW)
    batch = [
        event(event_id=f"e-{n}", customer=event_pb2.CustomerKey(customer_id=f"c{n % 2}"),
              source=("", "acd")[n % 3 > 0], interaction_id=f"i{n % 2}")
        for n in range(6)
    ]  # fmt: skip
    expected = [intake.take(one, "", VOCABULARY, COUNTED, IVR, NOW) for one in [*batch, FULL]]
    assert [taking.take(one, 0) for one in [*batch, FULL]] == expected
    for one in expected:
        assert isinstance(one, intake.Taken)
        log_pb2.LogEntry.FromString(one.write.entry)
