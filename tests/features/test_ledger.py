from __future__ import annotations

import numpy as np

from features import ledger, record
from features.ledger import Entry
from features.record import EMPTY, RESERVED


def packed(at: int, id: int, outcome: int, value: float | None = None) -> bytes:
    return record.pack(occurred_at=at, hash=id, type=1, action=1, outcome=outcome, value=value)


def counted(one: np.void) -> bool:
    return int(one["outcome"]) == 2


def hashes(entries: list[Entry], horizon: int | None = None) -> list[int]:
    found: list[int] = ledger.fold(entries, counted, horizon)["hash"].tolist()
    return found


SHOWN, HELD = packed(100, 1, 2), packed(90, 2, RESERVED, 1.0)
FREED = (2).to_bytes(8, "little")


def test_nothing_is_folded_into_nothing() -> None:
    assert len(ledger.fold([], counted)) == 0
    assert hashes([Entry(1, "decision", b""), Entry(2, "merged", b"")]) == []


def test_counted_events_and_reservations_are_kept_in_order_and_once() -> None:
    other = Entry(1, "event", packed(50, 3, 1))
    shown, held = Entry(2, "event", SHOWN), Entry(3, "reserved", HELD)
    assert hashes([other, shown, held, shown]) == [2, 1]


def test_a_reservation_leaves_with_the_event_that_ends_it_counted_or_not() -> None:
    held = Entry(3, "reserved", HELD)
    assert hashes([held, Entry(4, "event", SHOWN, FREED)]) == [1]
    assert hashes([held, Entry(4, "event", packed(100, 1, 7), FREED)]) == []
    assert hashes([Entry(1, "event", SHOWN), Entry(4, "event", packed(1, 9, 7), b"\1" * 8)]) == [1]


def test_a_reservation_leaves_with_the_first_change_after_its_time_is_up() -> None:
    held = Entry(3, "reserved", HELD)
    assert hashes([held, Entry(1_089, "event", SHOWN)]) == [2, 1]
    assert hashes([held, Entry(1_090, "event", SHOWN)]) == [1]
    assert hashes([held, Entry(5_000, "event", packed(1, 9, 1))]) == [2], "which changes nothing"
    assert hashes([Entry(1_090, "reserved", HELD)]) == []


def test_what_is_past_the_horizon_leaves() -> None:
    young = Entry(200, "event", packed(190, 3, 2))
    assert hashes([Entry(100, "event", SHOWN), young], horizon=100) == [1, 3]
    assert hashes([Entry(100, "event", SHOWN), young], horizon=99) == [3]


def test_what_is_adopted_is_a_union_and_ends_reservations() -> None:
    held, shown = Entry(3, "reserved", HELD), Entry(4, "event", SHOWN)
    theirs = packed(95, 5, 2) + SHOWN
    assert hashes([held, shown, Entry(5, "adopted", theirs)]) == [2, 5, 1]
    assert hashes([held, Entry(5, "adopted", SHOWN + ledger.ended(SHOWN, FREED))]) == [1]
    assert hashes([shown, Entry(5, "adopted", ledger.ended(SHOWN, SHOWN[8:16]))]) == [1]


def test_presented_is_what_was_shown_and_what_is_held_for_it() -> None:
    dismissed, lost = packed(96, 4, 5), packed(97, 5, RESERVED)
    records = np.frombuffer(HELD + dismissed + lost + SHOWN, record.RECORD)
    assert ledger.presented(records, 1_089).tolist() == [True, False, False, True]
    assert ledger.presented(records, 1_090).tolist() == [False, False, False, True]
    assert ledger.presented(records, 0).tolist() == [True, False, False, True], "later ones too"
    assert len(ledger.presented(EMPTY, 0)) == 0


def test_the_order_is_that_of_a_timeline() -> None:
    same = record.pack(occurred_at=100, hash=0, type=1, sequence=1)
    assert sorted([same, SHOWN, HELD], key=ledger.order) == [HELD, SHOWN, same]
