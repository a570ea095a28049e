from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import journey
from features.definitions import JourneyWindows
from features.duration import DAY, HOUR, MINUTE
from service import facts
from service.declared import FACTS
from service.facts import Fact
from tests.chain import NOW, VOCABULARY, Event, chained, events, unique
from tests.service import former_facts

LENS = journey.Lens.of(VOCABULARY, JourneyWindows())


def told(*happened: Event, intents: Any = ()) -> dict[str, Fact]:
    records = chained(unique(list(happened)))
    found = facts.tell(journey.read(records, NOW, LENS), NOW, VOCABULARY, intents)
    assert len({fact.kind for fact in found}) == len(found)
    return {fact.kind: fact for fact in found}


def ago(ms: int, type: str, channel: str | int = 0, **fields: Any) -> Event:
    return Event(NOW - ms, type, channel, **fields)


def test_a_stranger_is_nothing_to_talk_about() -> None:
    assert told() == {}


def test_failed_self_service_is_told_with_where_and_when() -> None:
    fact = told(
        ago(5 * HOUR, "failed", "chat"),
        ago(4 * HOUR, "completed", "chat"),
        ago(3 * HOUR, "failed", "web"),
        ago(2 * HOUR, "page", "app"),
        ago(3 * MINUTE, "failed", "ivr"),
    )["failed_self_service"]
    assert fact.text == "2 tries at self-service on web and ivr failed, the last 3 minutes ago"
    assert (fact.magnitude, fact.newest) == (2, NOW - 3 * MINUTE)
    assert fact.channels == ("web", "ivr"), "oldest first, and not where it worked later"


def test_one_try_is_told_as_one() -> None:
    text = told(ago(MINUTE, "failed", 99))["failed_self_service"].text
    assert text == "A try at self-service on an unknown channel failed, the last 1 minute ago"


def test_a_repeat_contact_is_told_with_its_reason() -> None:
    happened = [ago(n * DAY, "contact", intent="billing", interaction=f"{n}") for n in (1, 2, 3)]
    fact = told(*happened)["repeat_contact"]
    assert fact.text == "They contacted us 3 times about 'A question about the bill'"
    assert (fact.magnitude, fact.intent) == (3, "billing")
    assert "repeat_contact" not in told(happened[0])


def test_the_likely_reason_of_this_contact_counts_it_in() -> None:
    happened = [ago(DAY, "contact", intent="moving"), ago(2 * DAY, "contact", intent="billing")]
    fact = told(*happened, intents=[("moving", 0.5), ("billing", 0.2)])["repeat_contact"]
    assert fact.text == "This looks like contact 2 about 'Moves house'"
    assert (fact.magnitude, fact.intent) == (2, "moving")
    assert "repeat_contact" not in told(*happened, intents=[("moving", 0.29)])
    assert "repeat_contact" not in told(*happened, intents=[("leaving", 0.9)])


def test_an_intent_that_the_vocabulary_lacks_is_not_told() -> None:
    happened = [ago(n * HOUR, "contact", intent=4) for n in (1, 2)]
    assert "repeat_contact" not in told(*happened)
    assert "repeat_contact" not in told(*happened, intents=[("", 0.9)])


@pytest.mark.parametrize(
    ("times", "text"),
    [(1, "One earlier contact ended without a solution"),
     (2, "2 earlier contacts ended without a solution")],
)  # fmt: skip
def test_unresolved_contacts_are_counted(times: int, text: str) -> None:
    happened = [ago(n * DAY, "contact", interaction=f"{n}") for n in range(1, times + 1)]
    assert told(*happened)["unresolved_contacts"].text == text


def test_an_unanswered_question_is_told() -> None:
    fact = told(ago(HOUR, "question", interaction="a"))["unanswered_question"]
    assert (fact.text, fact.magnitude) == ("A question of theirs was never answered", 1)


def test_changes_of_channel_are_counted() -> None:
    happened = [ago(3 * HOUR, "page", "web"), ago(2 * HOUR, "page", "ivr"), ago(1, "page", "web")]
    assert told(*happened)["channel_hops"].text == "They changed channel 2 times in the last days"


@pytest.mark.parametrize(
    ("moods", "text"),
    [((-50, 50), "Their mood is improving"), ((50, -50), "Their mood is getting worse"),
     ((0, 10), None)],
)  # fmt: skip
def test_a_mood_that_changes_is_told(moods: tuple[int, int], text: str | None) -> None:
    found = told(*(ago(HOUR - n, "page", sentiment=mood) for n, mood in enumerate(moods)))
    assert (found["sentiment_trend"].text if text else found.get("sentiment_trend")) == text


@pytest.mark.parametrize(
    ("moods", "text"),
    [((80, 80, 80), "They like us"), ((-80, -80, -80), "They are unhappy with us"),
     ((80, -80, 80, -80), "They swing between delight and anger"), ((0, 0, 0), None)],
)  # fmt: skip
def test_a_relationship_is_told_where_it_is_more_than_neutral(
    moods: tuple[int, ...], text: str | None
) -> None:
    found = told(*(ago(HOUR - n, "page", sentiment=mood) for n, mood in enumerate(moods)))
    assert (found["relationship"].text if text else found.get("relationship")) == text


@pytest.mark.parametrize(
    ("happened", "text"),
    [([(1, "page")], "They have not bought anything yet"),
     ([(1, "purchase")], "They are new here"),
     ([(120, "purchase"), (45, "page"), (1, "page")], None),
     ([(300, "purchase")], "They have been away for a long time")],
)  # fmt: skip
def test_a_stage_of_life_is_told(happened: list[tuple[int, str]], text: str | None) -> None:
    found = told(*(ago(days * DAY, type) for days, type in happened))
    assert (found["lifetime_stage"].text if text else found.get("lifetime_stage")) == text


@given(events(30))
def test_whatever_happened_it_can_be_told(happened: list[Event]) -> None:
    found = journey.read(chained(happened), NOW, LENS)
    for fact in facts.tell(found, NOW, VOCABULARY, [("billing", 0.9)]):
        assert fact.kind in FACTS
        assert fact.text[0].isupper() or fact.text[0].isdigit()
        assert "{" not in fact.text
        assert fact.newest is None or fact.newest <= NOW


def test_magnitudes_are_what_context_weights_may_name() -> None:
    found = journey.read(chained([ago(HOUR, "failed", "ivr")]), NOW, LENS)
    magnitudes = facts.magnitudes(found.values.tolist())
    assert tuple(magnitudes) == FACTS
    assert magnitudes["failed_self_service"] == 1
    assert facts.magnitudes(None) == {}


RANKED = st.lists(
    st.tuples(st.sampled_from([*VOCABULARY.intents, "page"]), st.sampled_from([0.1, 0.3, 0.9])),
    max_size=3,
)


@given(events(60), RANKED)
def test_the_facts_are_those_that_were_told_before(
    happened: list[Event], intents: list[tuple[str, float]]
) -> None:
    records = chained(happened)
    found = journey.read(records, NOW, LENS)
    former = former_facts.tell(records, found, NOW, VOCABULARY, intents)
    assert facts.tell(found, NOW, VOCABULARY, intents) == former


@given(events())
def test_magnitudes_are_the_journey_by_the_names_of_facts(happened: list[Event]) -> None:
    found = journey.read(chained(happened), NOW, LENS)
    for name, magnitude in facts.magnitudes(found.values.tolist()).items():
        fact = {"repeat_contact": "repeat_contacts", "unanswered_question": "unanswered_questions"}
        wanted = found.value(fact.get(name, name))
        assert magnitude == wanted or (math.isnan(magnitude) and math.isnan(wanted))
