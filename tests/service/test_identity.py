from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.profile import Consent, Profile, Told
from features.record import EMPTY, Records
from service import identity, reading
from service.errors import Violation
from tests.chain import NOW, VOCABULARY, Event, chained


@pytest.mark.parametrize(
    ("namespace", "value", "stored"),
    [
        ("phone", "+31 (0)20 123-4567", "310201234567"),
        ("phone", "０２０", "020"),  # noqa: RUF001  as a Japanese keyboard types them
        ("mobile", "+31 6 1234 5678", "31612345678"),
        ("mobile", "0031-612345678", "31612345678"),
        ("mobile", "06 1234 5678", "0612345678"),
        ("email", " Ann.Lee@Example.COM ", "ann.lee@example.com"),
        ("email", "STRASSE@x.de", "strasse@x.de"),
        ("email", "straße@x.de", "strasse@x.de"),
        ("cookie", " Ab  C ", "Ab C"),
    ],
)
def test_case_and_spacing_are_evened_out_as_the_namespace_says(
    namespace: str, value: str, stored: str
) -> None:
    assert identity.normalise(VOCABULARY, namespace, value) == stored


@pytest.mark.parametrize(
    ("namespace", "value", "field", "complaint"),
    [
        (
            "fax",
            "1",
            "namespace",
            "'fax' is not declared; use one of: phone, mobile, email, cookie",
        ),
        ("", "1", "namespace", "'' is not declared"),
        ("email", "", "value", "0 characters; send 1 to 256"),
        ("email", " \t", "value", "send 1 to 256"),
        ("email", "x" * 257, "value", "257 characters; send 1 to 256"),
        ("phone", "no number", "value", "'no number' holds no digit"),
    ],
)
def test_what_names_nobody_is_told(namespace: str, value: str, field: str, complaint: str) -> None:
    wrong = identity.normalise(VOCABULARY, namespace, value)
    assert isinstance(wrong, Violation)
    assert wrong.field == field
    assert complaint in wrong.description


def test_a_complaint_does_not_repeat_a_long_name_in_full() -> None:
    wrong = identity.normalise(VOCABULARY, "n" * 100_000, "1")
    assert isinstance(wrong, Violation)
    assert len(wrong.description) < 500, "it travels in the trailing metadata, which is small"


@given(st.sampled_from(["phone", "email", "cookie"]), st.text(max_size=260))
def test_evening_out_twice_changes_nothing_more(namespace: str, value: str) -> None:
    once = identity.normalise(VOCABULARY, namespace, value)
    if not isinstance(once, Violation):
        assert once
        assert identity.normalise(VOCABULARY, namespace, once) == once


@given(st.text(), st.text())
def test_a_newcomer_is_always_the_same_and_nobody_else(one: str, other: str) -> None:
    newcomer = identity.newcomer("email", one)
    assert newcomer == identity.newcomer("email", one)
    assert (newcomer == identity.newcomer("email", other)) == (one == other)
    assert newcomer != identity.newcomer("phone", one)
    assert newcomer.startswith("email-")
    assert len(newcomer) < identity.MAX_CUSTOMER_ID


def folded(told: Profile, known: Profile) -> Profile:
    for one in identity.news(told, known):
        known = known.changed(one.attributes, one.consents, one.moment)
    return known


KNOWN = Profile(
    {"age": Told(40.0, 10), "balance": Told(7.0, 30), "member": Told(None, 30)},
    [Consent("marketing", "", True, 20), Consent("profiling", "", True, 20)],
)


def test_the_newest_of_two_profiles_wins_wherever_it_was_told() -> None:
    told = Profile(
        {
            "age": Told(41.0, 20),
            "balance": Told(8.0, 20),
            "member": Told(True, 30),
            "segment": Told("home", 5),
        },
        [Consent("marketing", "", False, 30), Consent("profiling", "", False, 10)],
    )
    found = folded(told, KNOWN)
    assert found.attributes == {
        "age": Told(41.0, 20),
        "balance": Told(7.0, 30),
        "member": Told(None, 30),
        "segment": Told("home", 5),
    }
    assert {(one.purpose, one.granted, one.updated_at) for one in found.consents} == {
        ("marketing", False, 30),
        ("profiling", True, 20),
    }
    assert [one.moment for one in identity.news(told, KNOWN)] == [5, 20, 30]
    assert identity.news(told, found) == []


@pytest.mark.parametrize("granted", [True, False])
def test_of_two_consents_of_the_same_moment_the_withdrawal_counts(granted: bool) -> None:
    one = Profile({}, [Consent("marketing", "web", granted, 10)])
    other = Profile({}, [Consent("marketing", "web", not granted, 10)])
    assert not folded(one, other).granted("marketing", "web")


values = st.one_of(st.none(), st.integers(0, 2).map(float))
told = st.builds(Told, values, st.integers(0, 4))
some_consents = st.dictionaries(
    st.tuples(st.sampled_from(["marketing", "profiling"]), st.sampled_from(["", "web"])),
    st.tuples(st.booleans(), st.integers(0, 4)),
).map(lambda said: [Consent(*key, *one) for key, one in said.items()])
some_profiles = st.builds(
    Profile, st.dictionaries(st.sampled_from(["age", "balance"]), told), some_consents
)


@given(some_profiles, some_profiles)
def test_folding_a_profile_gives_the_newest_of_both_and_nothing_the_second_time(
    one: Profile, other: Profile
) -> None:
    both = folded(one, other)
    assert identity.news(one, both) == []
    for name in {*one.attributes, *other.attributes}:
        dates = [p.attributes[name].updated_at for p in (one, other) if name in p.attributes]
        assert both.attributes[name].updated_at == max(dates)
    assert both.newest == max(one.newest, other.newest)
    moments = [said.moment for said in identity.news(one, other)]
    assert moments == sorted(set(moments))


def timeline_of(*events: Event) -> Records:
    return chained(events).copy()


def test_the_timeline_of_one_person_holds_the_events_of_all_members_each_once() -> None:
    shared = Event(NOW - 5, "contact", "phone")
    one = timeline_of(Event(NOW - 9, "contact", "phone"), shared)
    other = timeline_of(Event(NOW - 7, "page", "web"), shared)
    both = reading.union([one, other])
    assert both["occurred_at"].tolist() == [NOW - 9, NOW - 7, NOW - 5]
    assert both.tobytes() == reading.union([other, one]).tobytes()
    assert reading.union([EMPTY, one, EMPTY]).tobytes() == one.tobytes()
    assert len(reading.union([EMPTY, one], 1)) == 1


def test_of_one_event_told_in_two_ways_that_of_the_root_counts() -> None:
    one, other = timeline_of(Event(NOW - 5, "contact")), timeline_of(Event(NOW - 4, "page"))
    other["hash"] = one["hash"]
    assert reading.union([one, other]).tobytes() == one.tobytes()
    assert reading.union([other, one]).tobytes() == other.tobytes()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=24),
    st.integers(1, 8),
)
def test_a_union_is_what_folding_all_events_into_one_timeline_gives(
    drawn: list[tuple[int, bool, bool]], limit: int
) -> None:
    events = [Event(NOW + at, id=str(number)) for number, (at, _, _) in enumerate(drawn)]
    seen = list(zip(events, drawn, strict=True))
    parts = [
        chained(event for event, (_, first, _) in seen if first),
        chained(event for event, (_, _, second) in seen if second),
    ]
    whole = chained((event for event, (_, *some) in seen if any(some)), limit)
    assert reading.union(parts, limit).tobytes() == whole.tobytes()
