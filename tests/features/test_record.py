from __future__ import annotations

import hashlib
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import record
from features.record import EMPTY, HEADER, MAGIC, NEVER, RECORD, LogId
from tests.chain import Event, chained, events


def test_a_record_is_forty_bytes_and_its_layout_is_for_ever() -> None:
    assert record.SIZE == 40
    fields: dict[str, Any] = dict(RECORD.fields or {})
    assert {name: found[1] for name, found in fields.items()} == {
        "occurred_at": 0, "hash": 8, "sequence": 16, "agent": 18, "interaction": 20, "value": 24,
        "type": 28, "intent": 30, "action": 32, "duration": 34, "channel": 36, "flags": 37,
        "outcome": 38, "sentiment": 39,
    }  # fmt: skip
    for name, (kind, offset, *_) in fields.items():
        assert offset % kind.itemsize == 0, f"{name} is naturally aligned"


def test_a_record_is_what_struct_packs_by_hand() -> None:
    packed = record.pack(
        occurred_at=1_700_000_000_123,
        hash=0xFEDCBA9876543210,
        sequence=7,
        agent=9,
        interaction=11,
        value=12.5,
        type=300,
        intent=2,
        action=65_535,
        duration=61.9,
        channel=255,
        direction=2,
        continuation=True,
        outcome=4,
        sentiment=-0.25,
    )
    assert packed == struct.pack(
        "<qQHHIfHHHHBBBb", 1_700_000_000_123, 0xFEDCBA9876543210, 7, 9, 11, 12.5,
        300, 2, 65_535, 61, 255, 6, 4, -25,
    )  # fmt: skip


@given(
    occurred_at=st.integers(0, 253_402_300_799_999),  # the year 9999 ends
    hash=st.integers(0, 2**64 - 1),
    sequence=st.integers(0, record.MAX_SEQUENCE),
    agent=st.integers(0, 2**16 - 1),
    interaction=st.integers(0, 2**32 - 1),
    value=st.one_of(st.none(), st.floats(-(2.0**39), 2.0**39, width=32)),
    type=st.integers(1, 65_535),
    intent=st.integers(0, 65_535),
    action=st.integers(0, 65_535),
    duration=st.one_of(st.none(), st.integers(0, record.MAX_DURATION)),
    channel=st.integers(0, 255),
    direction=st.integers(0, 3),
    continuation=st.booleans(),
    outcome=st.integers(0, 255),
    sentiment=st.one_of(st.none(), st.integers(-100, 100)),
)
def test_what_is_packed_is_read_back(
    occurred_at: int, hash: int, sequence: int, agent: int, interaction: int, value: float | None,
    type: int, intent: int, action: int, duration: int | None, channel: int, direction: int,
    continuation: bool, outcome: int, sentiment: int | None,
) -> None:  # fmt: skip
    packed = record.pack(
        occurred_at=occurred_at, hash=hash, sequence=sequence, agent=agent,
        interaction=interaction, value=value, type=type, intent=intent, action=action,
        duration=duration, channel=channel, direction=direction, continuation=continuation,
        outcome=outcome, sentiment=None if sentiment is None else sentiment / 100,
    )  # fmt: skip
    assert len(packed) == 40
    _, records = record.decode(record.encode(NEVER, np.frombuffer(packed, RECORD)))
    one = records[0]
    assert (one["occurred_at"], one["hash"], one["sequence"]) == (occurred_at, hash, sequence)
    assert (one["agent"], one["interaction"], one["type"]) == (agent, interaction, type)
    assert (one["intent"], one["action"], one["channel"]) == (intent, action, channel)
    assert one["outcome"] == outcome
    assert one["flags"] & record.DIRECTION == direction
    assert bool(one["flags"] & record.CONTINUATION) is continuation
    assert math.isnan(one["value"]) if value is None else one["value"] == value
    assert one["duration"] == (record.NO_DURATION if duration is None else duration)
    assert one["sentiment"] == (record.NO_SENTIMENT if sentiment is None else sentiment)


@given(
    value=st.none() | st.floats(),
    numbers=st.tuples(
        *(st.integers(0, 2**bits - 1) for bits in (62, 64, 32, 16, 16, 16, 16, 16, 8, 8))
    ),
    mood=st.none() | st.floats(-1, 1),
    length=st.none() | st.floats(0, record.MAX_DURATION),
    continuation=st.booleans(),
)
def test_a_record_is_packed_as_numpy_writes_it(
    value: float | None,
    numbers: tuple[int, ...],
    mood: float | None,
    length: float | None,
    continuation: bool,
) -> None:
    at, hash, interaction, sequence, agent, type, intent, action, channel, outcome = numbers
    one = np.zeros(1, RECORD)
    with np.errstate(over="ignore"):
        one[0] = (
            at, hash, sequence, agent, interaction, math.nan if value is None else value, type,
            intent, action, record.NO_DURATION if length is None else int(length), channel,
            1 | (record.CONTINUATION if continuation else 0), outcome,
            record.NO_SENTIMENT if mood is None else round(mood * 100),
        )  # fmt: skip
        packed = record.pack(
            occurred_at=at, hash=hash, sequence=sequence, agent=agent, interaction=interaction,
            value=value, type=type, intent=intent, action=action, duration=length,
            channel=channel, direction=1, continuation=continuation, outcome=outcome,
            sentiment=mood,
        )  # fmt: skip
    assert packed == one.tobytes()


def test_what_fits_no_record_is_an_error_and_no_other_record() -> None:
    with pytest.raises(OverflowError):
        record.pack(occurred_at=0, hash=0, type=1, sequence=2**16)


def test_absent_is_not_zero() -> None:
    absent = record.pack(occurred_at=1, hash=1, type=1)
    zero = record.pack(occurred_at=1, hash=1, type=1, value=0.0, duration=0, sentiment=0.0)
    one, other = np.frombuffer(absent + zero, RECORD)
    assert math.isnan(one["value"])
    assert other["value"] == 0
    assert (one["duration"], other["duration"]) == (65_535, 0)
    assert (one["sentiment"], other["sentiment"]) == (-128, 0)


@given(events(6), st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_stored_timeline_is_read_back_with_its_log_id(
    happened: list[Event], ms: int, sequence: int
) -> None:
    records = chained(happened)
    stored = record.encode(LogId(ms, sequence), records)
    assert len(stored) == HEADER.itemsize + 40 * len(records)
    assert stored[:24] == MAGIC + struct.pack("<QQ", ms, sequence)
    last, again = record.decode(stored)
    assert last == LogId(ms, sequence)
    assert again.tobytes() == records.tobytes()
    assert not again.flags.writeable


@pytest.mark.parametrize("nothing", [None, b""])
def test_nothing_stored_is_an_empty_timeline_before_all(nothing: bytes | None) -> None:
    assert record.decode(nothing) == (NEVER, EMPTY)
    assert not EMPTY.flags.writeable


@given(
    st.one_of(
        st.binary(min_size=1),
        st.binary().map(lambda rest: MAGIC + rest),
        st.integers(0, 200).map(lambda n: MAGIC + bytes(n)),
    )
)
def test_bytes_that_are_no_timeline_are_refused_and_others_are_read(stored: bytes) -> None:
    fits = stored[:8] == MAGIC and len(stored) >= 24 and (len(stored) - 24) % 40 == 0
    if fits:
        _, records = record.decode(stored)
        assert len(records) == (len(stored) - 24) // 40
    else:
        with pytest.raises(ValueError, match="are no timeline"):
            record.decode(stored)


def test_two_sources_may_both_have_an_event_one() -> None:
    assert record.event_hash("ivr", "1") != record.event_hash("chat", "1")
    assert record.event_hash("ivr1", "1") != record.event_hash("ivr", "11"), "and no glueing"
    assert record.event_hash("a", ":b") != record.event_hash("a:", "b")


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_different_identities_have_different_hashes(a: str, b: str, c: str, d: str) -> None:
    assert (record.event_hash(a, b) == record.event_hash(c, d)) == ((a, b) == (c, d))


def test_hashes_are_blake2b_and_the_same_for_ever() -> None:
    written = hashlib.blake2b(b"3:ivr1", digest_size=8).digest()
    assert record.event_hash("ivr", "1") == int.from_bytes(written, "little")
    assert record.interaction_hash("call-1") == int.from_bytes(
        hashlib.blake2b(b"call-1", digest_size=4).digest(), "little"
    )


@given(st.text(min_size=1))
def test_only_the_empty_name_hashes_to_nobody(name: str) -> None:
    assert 0 < record.interaction_hash(name) < 2**32
    assert 0 < record.agent_hash(name) < 2**16
    assert record.interaction_hash("") == record.agent_hash("") == 0


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_log_ids_are_written_as_the_store_writes_them(ms: int, sequence: int) -> None:
    assert LogId.parse(f"{ms}-{sequence}") == (ms, sequence)
    assert str(LogId(ms, sequence)) == f"{ms}-{sequence}"


@pytest.mark.parametrize("written", ["", "1", "1-", "-1", "a-b", "1-2-3"])
def test_what_is_no_log_id_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        LogId.parse(written)


def test_log_ids_sort_in_the_order_of_the_log() -> None:
    assert NEVER < LogId(1, 0) < LogId(1, 1) < LogId(1, 10) < LogId(2, 0)


def test_a_record_of_an_impossible_moment_cannot_be_read() -> None:
    sound = record.encode(
        record.LogId(1, 0), np.frombuffer(record.pack(occurred_at=1, hash=1, type=1), record.RECORD)
    )
    for moment in (-1, 2**60):
        broken = bytearray(sound)
        broken[24:32] = moment.to_bytes(8, "little", signed=True)
        with pytest.raises(ValueError, match="years 1970 to 9999"):
            record.decode(bytes(broken))


@given(
    moment=st.integers(0, 2**42),
    hash=st.integers(0, 2**64 - 1),
    interaction=st.integers(0, 2**32 - 1),
    seconds=st.integers(0, 30 * 86_400),
    codes=st.tuples(st.integers(0, 65_535), st.integers(0, 65_535), st.integers(0, 255)),
    direction=st.integers(0, 3),
)
def test_a_reservation_is_packed_as_any_record_is(
    moment: int, hash: int, interaction: int, seconds: int, codes: tuple[int, int, int],
    direction: int,
) -> None:  # fmt: skip
    type, action, channel = codes
    assert record.pack_reservation(
        moment, hash, interaction, seconds, type, action, channel, direction
    ) == record.pack(
        occurred_at=moment, hash=hash, interaction=interaction, value=float(seconds), type=type,
        action=action, channel=channel, direction=direction, outcome=record.RESERVED,
    )  # fmt: skip


@given(ms=st.integers(0, 2**64 - 1), sequence=st.integers(0, 2**64 - 1))
def test_a_header_is_what_its_layout_says(ms: int, sequence: int) -> None:
    plainly = np.array([(MAGIC, ms, sequence)], HEADER).tobytes()
    assert record.header(LogId(ms, sequence)) == plainly


STORED = st.one_of(
    st.sampled_from([None, b"", b"rapport1", b"x" * 24, MAGIC + bytes(16), MAGIC + bytes(15)]),
    st.builds(
        lambda moments: record.encode(LogId(3, 4), chained([Event(one) for one in moments])),
        st.lists(st.integers(0, 2**42), max_size=3),
    ),
    st.just(MAGIC + bytes(16) + struct.pack("<q", -1) + bytes(32)),
    st.just(MAGIC + bytes(16) + struct.pack("<q", 253_402_300_800_000) + bytes(32)),
)


def attempted(stored: bytes | None) -> tuple[LogId, bytes] | None:
    try:
        last, records = record.decode(stored)
    except ValueError:
        return None
    assert not records.flags.writeable
    assert records.dtype == RECORD
    return last, records.tobytes()


@given(STORED, STORED)
def test_two_are_read_as_each_would_be(one: bytes | None, other: bytes | None) -> None:
    expected = [attempted(one), attempted(other)]
    if None in expected:
        with pytest.raises(ValueError, match=r"no timeline|lies outside"):
            record.decode_both(one, other)
    else:
        found = record.decode_both(one, other)
        assert [(last, records.tobytes()) for last, records in found] == expected
        assert all(type(last) is LogId for last, _ in found)
