from __future__ import annotations

import datetime
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY
from service.catalogue import Action, Treatment, Validity, treatment
from tests.business import action


def test_validity_holds_its_first_and_last_day_in_whole() -> None:
    first, last = Validity(datetime.date(2026, 1, 1), datetime.date(2026, 1, 1)).milliseconds
    assert first == 1_767_225_600_000
    assert last == first + DAY - 1
    assert Validity().milliseconds == (0, 2**62)
    assert Validity(until=datetime.date(2026, 1, 1)).milliseconds == (0, last)


def test_validity_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="ends 2026-01-01, before it starts 2026-02-01; swap them"):
        Validity(datetime.date(2026, 2, 1), datetime.date(2026, 1, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 65),
        ("value", -1),
        ("value", float("nan")),
        ("value", float("inf")),
        ("cost", -0.1),
        ("uses", {"agents": -1}),
        ("goals", {"churn": 2e9}),
        ("prior", 1.5),
        ("evidence", -1),
        ("treatments", []),
        ("issue", "sell"),
        ("assurance", "sure"),
        ("responds_within", "soon"),
        ("prices", [{"amount": 2e9}]),
        ("prices", [{"amount": 1, "when": ""}]),
        ("eligibility", [{"name": "r", "when": "x" * 2_001, "reason": "r"}]),
        ("valid", {"from": "2026-02-01", "until": "2026-01-01"}),
        ("colour", "red"),
    ],
)
def test_what_an_action_cannot_have_is_refused(field: str, value: Any) -> None:
    fields = msgspec.to_builtins(action())
    assert msgspec.convert(fields, Action) == action()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**fields, field: value}, Action)


def test_the_treatment_of_the_language_is_chosen_where_there_is_one() -> None:
    spoken = action(
        treatments=[
            Treatment("banner", ["banner"], ["web"]),
            Treatment("english", ["hint"], ["phone"]),
            Treatment("dutch", ["hint"], ["phone"], locale="nl-NL"),
        ]
    )

    def name(*where: str) -> str | None:
        found = treatment(spoken, *where)
        return None if found is None else found.name

    assert name("hint", "phone") == "english"
    assert name("hint", "phone", "nl-NL") == "dutch"
    assert name("hint", "phone", "fr-FR") == "english"
    assert name("hint", "chat") is None
    assert name("banner", "web", "nl-NL") == "banner"
    assert name("else", "web") is None


def test_a_tone_is_kept_for_those_it_is_meant_for_and_language_goes_first() -> None:
    spoken = action(
        treatments=[
            Treatment("plain", ["hint"]),
            Treatment("warm", ["hint"], relationships=["friend"]),
            Treatment("sorry", ["hint"], relationships=["enemy", "love_hate"]),
            Treatment("dutch", ["hint"], locale="nl-NL"),
        ]
    )

    def name(relationship: str, locale: str = "") -> str | None:
        found = treatment(spoken, "hint", "phone", locale, relationship)
        return None if found is None else found.name

    assert [name(one) for one in ("unknown", "neutral", "friend", "enemy", "love_hate")] == [
        "plain", "plain", "warm", "sorry", "sorry",
    ]  # fmt: skip
    assert name("friend", "nl-NL") == "dutch"
    only = action(treatments=[Treatment("warm", ["hint"], relationships=["friend"])])
    assert treatment(only, "hint", "phone") is None


TONE: st.SearchStrategy[Any] = st.sampled_from(["friend", "enemy"])
treatments = st.lists(
    st.builds(
        Treatment,
        st.just(""),
        st.lists(st.sampled_from(["hint", "banner"]), max_size=2),
        st.lists(st.sampled_from(["phone", "web"]), max_size=2),
        locale=st.sampled_from(["", "nl", "fr"]),
        relationships=st.lists(TONE, max_size=2),
    ),
    min_size=1,
    max_size=6,
).map(lambda some: [msgspec.structs.replace(one, name=str(n)) for n, one in enumerate(some)])


@given(treatments)
def test_the_first_of_the_best_fitting_treatments_counts(some: list[Treatment]) -> None:
    for placement, channel, locale, tone in itertools.product(
        ["hint", "banner"], ["phone", "web"], ["", "nl"], ["friend", "unknown"]
    ):
        fits: list[Any] = [
            one
            for one in some
            if placement in one.placements
            and channel in (one.channels or [channel])
            and (not one.relationships or tone in one.relationships)
        ]
        spoken = [one for one in fits if locale and one.locale == locale] or fits
        toned = [one for one in spoken if one.relationships] or spoken
        found = treatment(action(treatments=some), placement, channel, locale, tone)
        assert found == (toned[0] if toned else None)
