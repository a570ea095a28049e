from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import profile as profiles
from features.profile import Consent, Profile
from features.record import NEVER, LogId, encode
from service import reading
from service.errors import Unreadable
from service.inputs import Known, MemberKnown
from service.reasons import Reason
from service.store import Member, Snapshot
from tests.chain import NOW, Event, chained, events, unique

WILLING = Profile(consents=[Consent("marketing", "", True, NOW)])
CHAIN = chained([Event(NOW - 2), Event(NOW - 1)])
SHOWN = chained([Event(NOW - 3, "outcome", action="tablet", outcome=2)])
WHOLE = Snapshot(
    encode(LogId(NOW, 1), CHAIN),
    encode(LogId(NOW, 2), SHOWN),
    encode(LogId(NOW, 3), chained([])) + profiles.encode(WILLING),
)


def codes(known: Known) -> list[str]:
    return [one.code for one in known.unreadable]


def test_what_is_stored_is_known_with_the_ids_it_was_read_at() -> None:
    known = reading.known(WHOLE)
    assert known.records is not None
    assert known.ledger is not None
    assert known.records.tobytes() == CHAIN.tobytes()
    assert known.ledger.tobytes() == SHOWN.tobytes()
    assert known.profile == WILLING
    assert known.timeline_id == LogId(NOW, 1)
    assert known.ledger_id == LogId(NOW, 2)
    assert known.profile_id == LogId(NOW, 3)
    assert (known.unread, codes(known), list(known.members)) == (None, [], [])


def test_of_somebody_new_everything_is_known_and_empty() -> None:
    known = reading.known(Snapshot(None, None, None))
    assert known.records is not None
    assert known.ledger is not None
    assert (len(known.records), len(known.ledger), known.profile) == (0, 0, Profile())
    assert {known.timeline_id, known.ledger_id, known.profile_id} == {NEVER}
    assert codes(known) == []


@pytest.mark.parametrize("spoilt", [b"x", b"rapport1" + b"x" * 17])
def test_what_cannot_be_read_is_said_and_the_rest_counts(spoilt: bytes) -> None:
    known = reading.known(WHOLE._replace(timeline=spoilt))
    assert (known.records, codes(known)) == (None, ["TIMELINE_UNREADABLE"])
    assert (known.ledger is not None, known.profile) == (True, WILLING)
    known = reading.known(WHOLE._replace(ledger=spoilt))
    assert (known.ledger, codes(known)) == (None, ["LEDGER_UNREADABLE"])
    assert (known.records is not None, known.profile) == (True, WILLING)
    known = reading.known(WHOLE._replace(profile=spoilt))
    assert (known.profile, codes(known)) == (None, ["PROFILE_UNREADABLE"])
    assert known.unreadable[0].text
    nothing = reading.known(Snapshot(spoilt, spoilt, spoilt))
    assert (nothing.records, nothing.ledger, nothing.profile) == (None, None, None)
    assert len(codes(nothing)) == 3


def test_a_ledger_in_the_middle_of_a_merge_is_not_believed() -> None:
    known = reading.known(WHOLE._replace(unfinished=True))
    assert (known.ledger, codes(known)) == (None, ["LEDGER_UNREADABLE"])
    assert known.records is not None


def test_who_could_not_be_read_in_time_is_not_known() -> None:
    why = Reason("TIMELINE_LATE", "late")
    assert reading.unread(why) == Known(None, None, None, unread=why)


def test_the_timeline_of_who_was_merged_is_the_union_of_its_members() -> None:
    other = chained([Event(NOW - 9, id="old"), Event(NOW - 1)])
    members = [Member("bob", encode(LogId(NOW, 7), other)), Member("cid", None)]
    known = reading.known(WHOLE._replace(members=members, customer_id="ann"))
    assert known.records is not None
    assert known.records["occurred_at"].tolist() == [NOW - 9, NOW - 2, NOW - 1]
    assert not known.records.flags.writeable
    assert known.members == [MemberKnown("bob", LogId(NOW, 7)), MemberKnown("cid", NEVER)]
    spoilt = [*members, Member("dan", b"x")]
    known = reading.known(WHOLE._replace(members=spoilt))
    assert (known.records, codes(known)) == (None, ["TIMELINE_UNREADABLE"])


@given(st.lists(events(12), min_size=1, max_size=4), st.integers(1, 30))
def test_a_union_is_the_newest_of_all_events_whoever_had_them(
    happened: list[list[Event]], limit: int
) -> None:
    named = unique([event for some in happened for event in some])
    parts = []
    at = 0
    for some in happened:
        parts.append(chained(named[max(0, at - 2) : at + len(some)]))  # two are everybody's
        at += len(some)
    found = reading.union(parts, limit)
    whole = chained(named)
    assert found.tobytes() == whole[max(0, len(whole) - limit) :].tobytes()
    assert len(np.unique(found["hash"])) == len(found)


def spoilt_or(stored: bytes | None) -> st.SearchStrategy[bytes | None]:
    """The bytes, none, or what cannot be read."""
    return st.sampled_from([stored, stored, None, b"", b"x", b"rapport1" + b"\xc1" * 17])


def same(one: Known, other: Known) -> bool:
    plain = [
        one._replace(records=None, ledger=None, members=list(one.members)),
        other._replace(records=None, ledger=None, members=list(other.members)),
    ]
    pairs = [(one.records, other.records), (one.ledger, other.ledger)]
    return repr(plain[0]._replace(unreadable=list(one.unreadable))) == repr(
        plain[1]._replace(unreadable=list(other.unreadable))
    ) and all(
        (a is None) == (b is None) and (a is None or b is None or a.tobytes() == b.tobytes())
        for a, b in pairs
    )


@given(spoilt_or(WHOLE.timeline), spoilt_or(WHOLE.ledger), spoilt_or(WHOLE.profile), st.booleans())
def test_reading_all_at_once_tells_what_reading_part_by_part_does(
    timeline: bytes | None, ledger: bytes | None, profile: bytes | None, unfinished: bool
) -> None:
    snapshot = Snapshot(timeline, ledger, profile, "ann", (), unfinished)
    assert same(reading.known(snapshot), reading._part_by_part(snapshot))


def test_what_an_answer_cannot_do_without_is_an_error_that_says_what_to_do() -> None:
    assert reading.needed(profiles.decode, None) == (NEVER, profiles.EMPTY)
    with pytest.raises(Unreadable, match="restore it, or forget the customer"):
        reading.needed(profiles.decode, b"nonsense")
