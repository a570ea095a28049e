from __future__ import annotations

import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import profile as profiles
from features.duration import DAY
from features.profile import EMPTY, Consent, Profile, State, Told
from features.record import MAGIC, NEVER, LogId
from tests.chain import NOW, VOCABULARY

BALANCE = VOCABULARY.attributes["balance"]  # stale after two days
AGE = VOCABULARY.attributes["age"]  # never stale

values = st.one_of(
    st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9)
)
toldings = st.dictionaries(st.text(max_size=9), st.builds(Told, values, st.integers(0, 2**53)))
consents = st.lists(
    st.builds(
        Consent,
        st.sampled_from(["marketing", "profiling"]),
        st.sampled_from(["", "email", "phone"]),
        st.booleans(),
        st.integers(0, 20),
    )
)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (None, State.unknown),
        (Told(None, NOW), State.missing),
        (Told(None, NOW - 9 * DAY), State.missing),
        (Told(0.0, NOW), State.known),
        (Told(False, NOW), State.known),
        (Told("", NOW), State.known),
        (Told(5.0, NOW - 2 * DAY), State.known),
        (Told(5.0, NOW - 2 * DAY - 1), State.stale),
        (Told(5.0, NOW + 5), State.known),
    ],
)
def test_unknown_missing_and_stale_are_three_things(told: Told | None, state: State) -> None:
    known = Profile({} if told is None else {"balance": told})
    assert known.state("balance", BALANCE, NOW) is state


def test_what_declares_no_limit_is_never_stale() -> None:
    assert Profile({"age": Told(5.0, 0)}).state("age", AGE, NOW) is State.known


@pytest.mark.parametrize(
    ("said", "email", "phone"),
    [
        ([], False, False),
        ([Consent("marketing", "", True, 1)], True, True),
        ([Consent("marketing", "", False, 1)], False, False),
        ([Consent("profiling", "", True, 1)], False, False),
        ([Consent("marketing", "email", True, 1)], True, False),
        ([Consent("marketing", "", True, 2), Consent("marketing", "email", False, 1)], False, True),
        ([Consent("marketing", "email", True, 1), Consent("marketing", "", False, 2)], True, False),
    ],
)
def test_the_consent_for_a_channel_wins_over_the_one_for_all(
    said: list[Consent], email: bool, phone: bool
) -> None:
    known = Profile({}, said)
    assert known.granted("marketing", "email") is email
    assert known.granted("marketing", "phone") is phone


@given(toldings, consents, st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_stored_profile_is_read_back_with_its_log_id(
    told: dict[str, Told], said: list[Consent], ms: int, sequence: int
) -> None:
    stored = MAGIC + struct.pack("<QQ", ms, sequence) + profiles.encode(Profile(told, said))
    assert profiles.decode(stored) == (LogId(ms, sequence), Profile(told, said))


@pytest.mark.parametrize("nothing", [None, b""])
def test_nothing_stored_is_the_empty_profile(nothing: bytes | None) -> None:
    assert profiles.decode(nothing) == (NEVER, EMPTY)


@given(st.one_of(st.binary(min_size=1), st.binary().map(lambda rest: MAGIC + bytes(16) + rest)))
def test_bytes_that_are_no_profile_are_refused_and_never_crash(stored: bytes) -> None:
    try:
        _, found = profiles.decode(stored)
    except ValueError:
        return
    assert isinstance(found, Profile)


@pytest.mark.parametrize(
    "stored", [b"x", MAGIC, MAGIC + bytes(15), MAGIC + bytes(16), MAGIC + bytes(16) + b"\xc0",
               MAGIC + bytes(16) + msgspec.msgpack.encode({"attributes": 3}),
               MAGIC + bytes(16) + b"\x81\xaaattributes\x81\xa1\xff\x92\x01\x02"],
)  # fmt: skip
def test_a_broken_profile_is_a_value_error(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        profiles.decode(stored)


def test_a_change_leaves_the_rest_alone() -> None:
    before = Profile(
        {"age": Told(30.0, 1), "balance": Told(5.0, 1)},
        [Consent("marketing", "email", True, 1), Consent("marketing", "", False, 1)],
    )
    after = before.changed(
        {"balance": None, "segment": "home"}, [Consent("marketing", "email", False, 9)], 9
    )
    assert after.attributes == {
        "age": Told(30.0, 1), "balance": Told(None, 9), "segment": Told("home", 9),
    }  # fmt: skip
    assert not after.granted("marketing", "email")
    assert len(after.consents) == 2
    assert before.attributes["balance"] == Told(5.0, 1), "the old one is as it was"


def test_history_does_not_undo_the_present() -> None:
    before = Profile({"age": Told(30.0, 10)}, [Consent("marketing", "", True, 10)])
    after = before.changed({"age": 29.0}, [Consent("marketing", "", False, 5)], 5)
    assert after == before
    same_moment = before.changed({"age": 31.0}, [Consent("marketing", "", False, 10)], 10)
    assert same_moment.attributes["age"].value == 31.0
    assert not same_moment.granted("marketing", "")


@given(st.permutations([(3, 1.0), (5, 2.0), (9, 3.0)]))
def test_changes_in_any_order_leave_the_newest_value(changes: list[tuple[int, float]]) -> None:
    known = EMPTY
    for moment, value in changes:
        known = known.changed(
            {"age": value}, [Consent("marketing", "", value == 3.0, moment)], moment
        )
    assert known.attributes == {"age": Told(3.0, 9)}
    assert known.granted("marketing", "phone")


def test_as_of_a_moment_what_was_told_later_is_not_known() -> None:
    known = Profile(
        {"age": Told(30.0, 5), "balance": Told(1.0, 6)},
        [Consent("marketing", "", True, 6), Consent("profiling", "", True, 5)],
    )
    then = known.as_of(5)
    assert set(then.attributes) == {"age"}
    assert not then.granted("marketing", "")
    assert then.granted("profiling", "")


def test_values_become_numbers_and_absence_becomes_nan() -> None:
    segment = VOCABULARY.attributes["segment"]
    assert profiles.number(2.5, AGE) == 2.5
    assert profiles.number(True, VOCABULARY.attributes["member"]) == 1
    assert profiles.number("office", segment) == 2
    assert profiles.number("never heard of", segment) == 0
    assert math.isnan(profiles.number(None, AGE))


def test_a_profile_that_was_all_told_by_then_stays_the_same_one() -> None:
    known = Profile({"age": Told(30.0, 5)}, [Consent("marketing", "", True, 7)])
    assert known.as_of(7) is known
    assert known.as_of(6) == Profile({"age": Told(30.0, 5)}, [])
    assert known.as_of(4) == Profile({}, [])


@given(st.lists(st.integers(0, 2**42), max_size=4), st.lists(st.integers(0, 2**42), max_size=4))
def test_the_newest_is_that_of_all_that_was_told(
    attributes: list[int], consents: list[int]
) -> None:
    profile = Profile(
        {f"a{n}": Told(1.0, moment) for n, moment in enumerate(attributes)},
        [Consent("marketing", f"c{n}", True, moment) for n, moment in enumerate(consents)],
    )
    assert profile.newest == max([0, *attributes, *consents])
