from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.struct_pb2 import NullValue, Value
from hypothesis import given
from hypothesis import strategies as st

from features import timeline
from features.partition import partition
from features.profile import Consent, Told
from features.record import NEVER, RECORD, LogId
from rapport.v1 import log_pb2
from service.answers import timestamp
from tests.chain import NOW, Event, chained, events
from training import archive, replay
from training.archive import Entry
from training.replay import History, Profiles


def event(id: int, event: Event, customer: str = "anna") -> Entry:
    packed = event.packed()
    logged = log_pb2.LogEntry(customer_id=customer, event=log_pb2.EventLogged(record=packed))
    return Entry.parse(LogId(id, 0), logged.SerializeToString())


def profile(
    id: int,
    at: int,
    customer: str = "anna",
    consents: tuple[tuple[str, bool], ...] = (),
    **told: float | bool | str | None,
) -> Entry:
    changed = log_pb2.ProfileChanged(
        attributes={name: value(one) for name, one in told.items()},
        consents=[log_pb2.ConsentChanged(purpose=name, granted=said) for name, said in consents],
        updated_at=timestamp(at),
    )
    logged = log_pb2.LogEntry(customer_id=customer, profile=changed)
    return Entry.parse(LogId(id, 0), logged.SerializeToString())


def value(one: float | bool | str | None) -> Value:
    if one is None:
        return Value(null_value=NullValue.NULL_VALUE)
    if isinstance(one, bool):
        return Value(bool_value=one)
    return Value(string_value=one) if isinstance(one, str) else Value(number_value=one)


def erased(id: int, at: int, customer: str = "anna") -> Entry:
    gone = log_pb2.CustomerErased(erased_at=timestamp(at))
    logged = log_pb2.LogEntry(customer_id=customer, erased=gone)
    return Entry.parse(LogId(id, 0), logged.SerializeToString())


def kept(folder: Path, *entries: Entry) -> Path:
    of: dict[int, list[Entry]] = {}
    for one in entries:
        of.setdefault(partition(one.customer_id), []).append(one)
    for number, some in of.items():
        archive.write(folder, number, sorted(some))
    return folder


def only(folder: Path, erased: dict[str, int] | None = None) -> History:
    (one,) = replay.histories(folder, erased=erased)
    return one


@given(story=events(30), seed=st.integers(0, 1_000))
def test_a_history_is_in_the_timelines_order_whatever_the_order_of_arrival(
    tmp_path_factory: pytest.TempPathFactory, story: list[Event], seed: int
) -> None:
    arrived = story + story[: len(story) // 3]  # some are sent again
    random.Random(seed).shuffle(arrived)
    arrived.append(Event(NOW, id="last"))
    folder = kept(
        tmp_path_factory.mktemp("archive"), *(event(n, one) for n, one in enumerate(arrived, 1))
    )
    expected = chained([*story, arrived[-1]])
    assert only(folder).records.tobytes() == expected.tobytes()


def test_a_history_holds_more_than_a_timeline_keeps(tmp_path: Path) -> None:
    story = [Event(NOW + n, id=f"{n}") for n in range(timeline.LIMIT + 5)]
    records = only(kept(tmp_path, *(event(n, one) for n, one in enumerate(story, 1)))).records
    assert records["occurred_at"].tolist() == [one.at for one in story]


def test_of_two_events_with_one_identity_the_first_that_came_counts(tmp_path: Path) -> None:
    first, second = Event(NOW, value=1.0, id="x"), Event(NOW - 5, value=2.0, id="x")
    assert only(kept(tmp_path, event(1, first), event(2, second))).records["value"] == [1.0]


def test_a_history_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        only(kept(tmp_path, event(1, Event(NOW)))).records["value"] = 0


def test_customers_come_one_by_one_each_with_what_is_theirs(tmp_path: Path) -> None:
    folder = kept(
        tmp_path,
        event(1, Event(NOW, value=1), "anna"),
        event(2, Event(NOW, value=2), "ben"),
        profile(3, NOW, "cleo", age=7.0),
        event(4, Event(NOW + 1, value=3, id="2"), "anna"),
    )
    found = {one.customer_id: one for one in replay.histories(folder)}
    assert {name: one.records["value"].tolist() for name, one in found.items()} == {
        "anna": [1, 3],
        "ben": [2],
        "cleo": [],
    }
    assert found["cleo"].profile(NOW).attributes == {"age": Told(7.0, NOW)}
    (alone,) = replay.histories(folder, partition("ben"))
    assert alone.customer_id == "ben"


def test_a_profile_is_seen_as_it_was_told_by_a_moment(tmp_path: Path) -> None:
    history = only(
        kept(
            tmp_path,
            profile(1, 100, age=30.0, segment="home", consents=(("marketing", True),)),
            profile(2, 200, age=31.0, member=True),
            profile(3, 300, segment=None, consents=(("marketing", False),)),
        )
    )
    assert history.profile(99).attributes == {}
    assert history.profile(100).attributes == {"age": Told(30.0, 100), "segment": Told("home", 100)}
    assert history.profile(299).attributes == {
        "age": Told(31.0, 200), "segment": Told("home", 100), "member": Told(True, 200),
    }  # fmt: skip
    assert history.profile(299).consents == [Consent("marketing", "", True, 100)]
    assert history.profile(300).attributes["segment"] == Told(None, 300)
    assert history.profile(300).consents == [Consent("marketing", "", False, 300)]


def test_history_that_is_imported_later_does_not_undo_what_was_told_since(tmp_path: Path) -> None:
    history = only(kept(tmp_path, profile(1, 200, age=31.0), profile(2, 100, age=30.0)))
    assert history.profile(150).attributes == {"age": Told(30.0, 100)}
    assert history.profile(200).attributes == {"age": Told(31.0, 200)}


def test_nothing_up_to_the_moment_of_an_erasure_is_used(tmp_path: Path) -> None:
    folder = kept(
        tmp_path,
        event(1, Event(100, id="a")),
        profile(2, 100, age=30.0, segment="home", consents=(("marketing", True),)),
        erased(3, 200),
        event(4, Event(200, id="b")),
        event(5, Event(201, id="c")),
        profile(6, 201, age=31.0),
        event(7, Event(50, id="other"), "ben"),
    )
    moments = replay.erasures(folder)
    assert moments == {"anna": 200}
    anna, ben = replay.histories(folder, erased=moments)
    assert anna.records["occurred_at"].tolist() == [201]
    assert anna.profile(10**12).attributes == {"age": Told(31.0, 201)}
    assert anna.profile(10**12).consents == []
    assert ben.records["occurred_at"].tolist() == [50]


def test_of_two_erasures_the_later_one_counts(tmp_path: Path) -> None:
    assert replay.erasures(kept(tmp_path, erased(1, 100), erased(2, 500))) == {"anna": 500}


@given(story=events(30), limit=st.integers(1, 12), cut=st.integers(0, 31))
def test_folded_to_an_id_the_log_gives_the_timeline_that_the_store_held_then(
    story: list[Event], limit: int, cut: int
) -> None:
    entries = [event(n, one) for n, one in enumerate(story, 1)]
    records, _ = replay.seen(entries, LogId(cut, 0), NEVER, limit)
    expected, _ = timeline.fold([one.packed() for one in story[:cut]], limit)
    assert records.tobytes() == expected.tobytes()


def test_timeline_and_profile_are_folded_each_to_its_own_id() -> None:
    entries = [
        event(1, Event(10, id="a")),
        profile(2, 900, age=30.0),
        event(3, Event(20, id="b")),
        profile(4, 100, segment="home"),
    ]
    records, told = replay.seen(entries, LogId(1, 0), LogId(4, 0))
    assert records["occurred_at"].tolist() == [10]
    assert told.attributes == {"age": Told(30.0, 900), "segment": Told("home", 100)}
    records, told = replay.seen(entries, LogId(3, 0), LogId(2, 9))
    assert records["occurred_at"].tolist() == [10, 20]
    assert set(told.attributes) == {"age"}
    records, told = replay.seen(iter(entries), NEVER, NEVER)
    assert not len(records)
    assert told.attributes == {}


def test_groups_are_split_where_the_customer_changes() -> None:
    rows = [event(n, Event(NOW), name) for n, name in enumerate(["a", "a", "b", "c", "c", "c"])]
    found = [(name, len(group)) for name, group in replay.grouped(iter(rows))]
    assert found == [("a", 2), ("b", 1), ("c", 3)]
    assert list(replay.grouped([])) == []


def test_values_keep_their_kind() -> None:
    told = replay.seen(
        [profile(1, 1, age=4.0, member=False, segment="home", balance=None)], NEVER, LogId(1, 0)
    )[1].attributes
    assert {name: one.value for name, one in told.items()} == {
        "age": 4.0, "member": False, "segment": "home", "balance": None,
    }  # fmt: skip
    assert told["member"].value is False


def test_what_was_told_is_the_same_however_often_it_is_asked() -> None:
    changes = []
    for number, at in enumerate((50, 10, 30)):  # dated by clocks that disagree
        changed = log_pb2.ProfileChanged(updated_at=timestamp(at))
        changed.attributes["age"].number_value = number
        changes.append((LogId(number, 0), changed))
    history = History("anna", np.zeros(0, RECORD), changes)
    told = Profiles(history)
    for moment in (0, 10, 29, 30, 49, 50, 99, 10, 0):
        assert told(moment) == history.profile(moment)
