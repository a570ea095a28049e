from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import record, timeline
from features.definitions import Count, Decayed, Definitions, Last, Run, Sum, Where
from features.duration import DAY
from features.plan import Context, Plan
from features.profile import EMPTY as NO_PROFILE
from features.record import Records
from features.timeline import Status
from rapport.v1 import decision_pb2
from tests.chain import NOW, VOCABULARY, Event, chained, events, unique


def slow(packed: Iterable[bytes], limit: int) -> tuple[bytes, list[Status]]:
    """The timeline as a sorted list of tuples: what the module is meant to be."""
    kept: list[tuple[int, int, int, bytes]] = []
    statuses = []
    for one in packed:
        (event,) = np.frombuffer(one, record.RECORD)
        entry = (int(event["occurred_at"]), int(event["sequence"]), int(event["hash"]), one)
        same = [other for other in kept if other[2] == entry[2]]
        if same:
            statuses.append(Status.duplicate if same[0][3] == one else Status.conflict)
        elif len(kept) == limit and entry < kept[0]:
            statuses.append(Status.too_old)
        else:
            kept = sorted([*kept, entry])[-limit:]
            statuses.append(Status.stored)
    return b"".join(one for *_, one in kept), statuses


def clashing(happened: list[Event]) -> list[Event]:
    """Let some events claim the identity of another."""
    return [event._replace(id=str(n % max(1, len(happened) // 2))) for n, event in
            enumerate(happened)]  # fmt: skip


@given(st.one_of(events(), events().map(clashing)), st.integers(1, 12), st.randoms())
def test_it_is_a_sorted_set_of_the_newest_events(
    happened: list[Event], limit: int, random: random.Random
) -> None:
    packed = [event.packed() for event in happened]
    sent = packed + random.choices(packed, k=len(packed)) if packed else []
    records, statuses = timeline.fold(sent, limit)
    assert (records.tobytes(), statuses) == slow(sent, limit)


@given(events(), st.integers(1, 12), st.randoms())
def test_any_order_and_any_number_of_repeats_give_the_same_bytes(
    happened: list[Event], limit: int, random: random.Random
) -> None:
    sent = happened + [one for one in happened if random.random() < 0.5]
    random.shuffle(sent)
    assert chained(sent, limit).tobytes() == chained(happened, limit).tobytes()


@given(events(), st.integers(1, 12))
def test_folding_on_from_a_timeline_is_folding_in_one_go(happened: list[Event], limit: int) -> None:
    packed = [event.packed() for event in happened]
    half = len(packed) // 2
    start, before = timeline.fold(packed[:half], limit)
    records, after = timeline.fold(packed[half:], limit, start)
    assert (records.tobytes(), before + after) == slow(packed, limit)


def test_two_thousand_events_shuffled_and_sent_three_times_give_the_same_bytes_and_vectors() -> (
    None
):
    plan = Plan(
        Definitions(
            [
                Count(name="all"),
                Count(name="week", window="7d"),
                Sum(name="spent", field="value"),
                Decayed(name="busy", half_life="3d"),
                Last(name="channel", field="channel", where=Where(role="contact")),
                Run(name="run", field="intent"),
            ]
        ),
        VOCABULARY,
    )
    dice = random.Random(7)
    happened = unique(
        [
            Event(
                at=NOW - dice.randrange(60 * 86_400_000),
                type=dice.choice(list(VOCABULARY.types)),
                channel=dice.choice(list(VOCABULARY.channels)),
                intent=dice.choice(list(VOCABULARY.intents)),
                value=dice.uniform(-100, 100),
                sequence=dice.randrange(3),
                interaction=dice.choice(["", "a", "b"]),
            )
            for _ in range(2_000)
        ]
    )
    in_order = chained(sorted(happened, key=lambda event: event.at))
    assert len(in_order) == timeline.LIMIT
    seen = {(in_order.tobytes(), _vector(plan, in_order))}
    for _ in range(3):
        sent = happened * 3
        dice.shuffle(sent)
        records = chained(sent)
        seen.add((records.tobytes(), _vector(plan, records)))
    assert len(seen) == 1


def _vector(plan: Plan, records: Records) -> bytes:
    return plan.customer(records, NO_PROFILE, Context(), NOW).tobytes()


def test_below_the_floor_of_a_full_timeline_an_event_is_too_old() -> None:
    folding = timeline.Fold(2)
    assert folding.add(Event(10, id="a").packed()) is Status.stored
    assert folding.add(Event(5, id="b").packed()) is Status.stored, "it is not full yet"
    assert folding.add(Event(4, id="c").packed()) is Status.too_old
    assert folding.add(Event(7, id="d").packed()) is Status.stored
    assert folding.add(Event(5, id="b").packed()) is Status.too_old, "it fell off, and stays off"
    assert folding.records["occurred_at"].tolist() == [7, 10]


def test_the_same_hash_with_other_bytes_is_a_conflict_and_changes_nothing() -> None:
    folding = timeline.Fold(3)
    folding.add(Event(10, id="a", value=1).packed())
    before = folding.records.tobytes()
    assert folding.add(Event(10, id="a", value=2).packed()) is Status.conflict
    assert folding.add(Event(99, id="a", value=1).packed()) is Status.conflict
    assert folding.add(Event(10, id="a", value=1).packed()) is Status.duplicate
    assert folding.records.tobytes() == before


def test_within_a_millisecond_the_sequence_decides_and_then_the_hash() -> None:
    later = Event(10, sequence=1, id="x")
    first, second = sorted(
        (Event(10, id=id) for id in "pq"), key=lambda event: record.event_hash("test", event.id)
    )
    assert chained([later, second, first])["hash"].tolist() == [
        record.event_hash("test", event.id) for event in (first, second, later)
    ]


def test_hashes_are_compared_as_unsigned_numbers() -> None:
    packed = [record.pack(occurred_at=1, hash=hash, type=1) for hash in (2**63 + 1, 1, 2**64 - 1)]
    records, _ = timeline.fold(packed)
    assert records["hash"].tolist() == [1, 2**63 + 1, 2**64 - 1]


@given(events(12), st.integers(-1, 1), st.data())
def test_as_of_a_moment_only_what_had_happened_is_there(
    happened: list[Event], beside: int, data: st.DataObject
) -> None:
    moment = beside + data.draw(st.sampled_from([NOW, *(event.at for event in happened)]))
    records = chained(happened)
    kept = timeline.as_of(records, moment)
    assert kept["occurred_at"].tolist() == sorted(e.at for e in happened if e.at <= moment)
    assert kept.base is not None, "a view, not a copy"


def test_a_timeline_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        chained([Event(1)])["value"] = 0


def test_statuses_have_the_codes_of_the_api() -> None:
    codes = {name: int(code) for name, code in decision_pb2.EventResult.Status.items()}
    assert [int(one) for one in Status] == [
        codes[f"STATUS_{name}"]
        for name in ("STORED", "DUPLICATE", "CONFLICT", "TOO_OLD_FOR_TIMELINE")
    ]


@given(events(), st.integers(NOW - 10 * DAY, NOW + 10 * DAY))
def test_a_timeline_that_nothing_follows_is_not_cut(happened: list[Event], moment: int) -> None:
    records = chained(happened)
    whole = all(event.at <= moment for event in happened)
    assert (timeline.as_of(records, moment) is records) == whole
