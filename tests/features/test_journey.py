"""Small stories, and what each shows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import journey
from features.definitions import JourneyWindows
from features.duration import DAY, HOUR, MINUTE
from features.journey import FACTS, Journey, Lens, Relationship, Stage
from features.vocabulary import Direction, Outcome
from tests.chain import NOW, VOCABULARY, Event, chained, events, unique

LENS = Lens.of(VOCABULARY, JourneyWindows())
OUT = Direction.outbound
NAN = math.nan


def ago(ms: int, type: str, channel: str | int = 0, **fields: Any) -> Event:
    return Event(NOW - ms, type, channel, **fields)


def read(*happened: Event, now: int = NOW) -> Journey:
    return journey.read(chained(unique(list(happened))), now, LENS)


class Story(NamedTuple):
    title: str
    happened: list[Event]
    facts: dict[str, float]


def bad_days(count: int, **fields: Any) -> list[Event]:
    return [ago((count - n) * DAY, "page", sentiment=-80, **fields) for n in range(count)]


STORIES = [
    Story("nothing at all", [], {
        "failed_self_service": 0, "since_failed_self_service": NAN, "repeat_contacts": 0,
        "repeat_intent": 0, "channel_hops": 0, "unresolved_contacts": 0, "unanswered_questions": 0,
        "sentiment": NAN, "sentiment_trend": NAN, "relationship": Relationship.unknown,
        "lifetime_stage": Stage.unknown,
    }),
    # Failed self-service
    Story("two failures", [ago(2 * HOUR, "failed"), ago(HOUR, "failed")],
          {"failed_self_service": 2, "since_failed_self_service": 3600}),
    Story("a failure, then it worked", [ago(2 * HOUR, "failed"), ago(HOUR, "completed")],
          {"failed_self_service": 0, "since_failed_self_service": NAN}),
    Story("it worked, then a failure", [ago(2 * HOUR, "completed"), ago(HOUR, "failed")],
          {"failed_self_service": 1}),
    Story("a failure, then somebody solved it", [ago(2 * HOUR, "failed"), ago(HOUR, "resolved")],
          {"failed_self_service": 0}),
    Story("a failure, then an outcome says it is solved",
          [ago(2 * HOUR, "failed"), ago(HOUR, "page", outcome=Outcome.resolved)],
          {"failed_self_service": 0}),
    Story("a failure just inside its window", [ago(24 * HOUR - 1, "failed")],
          {"failed_self_service": 1}),
    Story("a failure just outside its window", [ago(24 * HOUR, "failed")],
          {"failed_self_service": 0, "since_failed_self_service": NAN}),
    # Repeat contacts
    Story("three calls about one thing over three channels",
          [ago(n * DAY, "contact", channel, intent="billing", interaction=channel)
           for n, channel in enumerate(("phone", "chat", "web"), 1)],
          {"repeat_contacts": 3, "repeat_intent": 1}),
    Story("two about one thing and one about another",
          [ago(3 * DAY, "contact", intent="moving"), ago(2 * DAY, "contact", intent="billing"),
           ago(DAY, "contact", intent="moving")],
          {"repeat_contacts": 2, "repeat_intent": 2}),
    Story("a transfer is no repeat contact",
          [ago(20 * MINUTE, "contact", "phone", intent="billing", interaction="a"),
           ago(10 * MINUTE, "contact", "chat", intent="billing", interaction="b", continues=True)],
          {"repeat_contacts": 1, "unresolved_contacts": 0}),
    Story("a transfer within the same interaction is none either",
          [ago(20 * MINUTE, "contact", "phone", intent="billing", interaction="a"),
           ago(10 * MINUTE, "contact", "phone", intent="billing", interaction="a", continues=True)],
          {"repeat_contacts": 1}),
    Story("one interaction that says hello twice",
          [ago(20 * MINUTE, "contact", intent="billing", interaction="a"),
           ago(10 * MINUTE, "contact", intent="billing", interaction="a")],
          {"repeat_contacts": 1}),
    Story("the reason is known only at the end of the call",
          [ago(20 * MINUTE, "contact", interaction="a"),
           ago(10 * MINUTE, "unresolved", intent="moving", interaction="a")],
          {"repeat_contacts": 1, "repeat_intent": 2}),
    Story("the newest known reason of a call is its reason",
          [ago(20 * MINUTE, "contact", interaction="a"),
           ago(15 * MINUTE, "page", intent="billing", interaction="a"),
           ago(10 * MINUTE, "unresolved", intent="moving", interaction="a")],
          {"repeat_intent": 2}),
    Story("calls that nobody knows the reason of",
          [ago(20 * MINUTE, "contact"), ago(10 * MINUTE, "contact")],
          {"repeat_contacts": 0, "repeat_intent": 0}),
    Story("we called them", [ago(DAY, "contact", direction=OUT, intent="billing")],
          {"repeat_contacts": 0, "unresolved_contacts": 0}),
    Story("a contact outside its window", [ago(7 * DAY, "contact", intent="billing")],
          {"repeat_contacts": 0}),
    # Channel hops
    Story("web, ivr, ivr, phone",
          [ago(4 * HOUR, "page", "web"), ago(3 * HOUR, "page", "ivr"),
           ago(2 * HOUR, "page", "ivr"), ago(HOUR, "contact", "phone")],
          {"channel_hops": 2}),
    Story("what we send and what has no channel is no hop",
          [ago(4 * HOUR, "page", "web"), ago(3 * HOUR, "page", "chat", direction=OUT),
           ago(2 * HOUR, "page"), ago(HOUR, "page", "web")],
          {"channel_hops": 0}),
    Story("a hop from before the window",
          [ago(48 * HOUR, "page", "ivr"), ago(HOUR, "page", "web")], {"channel_hops": 0}),
    # Unresolved contacts
    Story("a call that ended without a solution",
          [ago(10 * MINUTE, "contact", interaction="a"),
           ago(5 * MINUTE, "unresolved", interaction="a")],
          {"unresolved_contacts": 1}),
    Story("a call that still lasts", [ago(10 * MINUTE, "contact", interaction="a")],
          {"unresolved_contacts": 0}),
    Story("a call that nobody closed for an hour", [ago(HOUR, "contact", interaction="a")],
          {"unresolved_contacts": 1}),
    Story("a call just under an hour old", [ago(HOUR - 1, "contact", interaction="a")],
          {"unresolved_contacts": 0}),
    Story("a call that was solved",
          [ago(2 * HOUR, "contact", interaction="a"), ago(HOUR, "resolved", interaction="a")],
          {"unresolved_contacts": 0}),
    Story("the next call made it good",
          [ago(2 * DAY, "contact", intent="billing", interaction="a"),
           ago(DAY, "contact", intent="billing", interaction="b"),
           ago(DAY - HOUR, "resolved", intent="billing", interaction="b")],
          {"unresolved_contacts": 0, "repeat_contacts": 2}),
    Story("the next call made it good, and only its beginning says what it was about",
          [ago(2 * DAY, "contact", intent="billing", interaction="a"),
           ago(DAY, "contact", intent="billing", interaction="b"),
           ago(DAY - HOUR, "resolved", interaction="b")],
          {"unresolved_contacts": 0}),
    Story("something else was solved",
          [ago(2 * DAY, "contact", intent="billing", interaction="a"),
           ago(DAY, "resolved", intent="moving", interaction="b")],
          {"unresolved_contacts": 1}),
    Story("an earlier solution makes nothing good",
          [ago(2 * DAY, "resolved", intent="billing"),
           ago(DAY, "contact", intent="billing", interaction="a")],
          {"unresolved_contacts": 1}),
    Story("an unresolved call outside its window", [ago(14 * DAY, "contact", interaction="a")],
          {"unresolved_contacts": 0}),
    # Unanswered questions
    Story("a question", [ago(HOUR, "question", interaction="a")], {"unanswered_questions": 1}),
    Story("a question and its answer",
          [ago(HOUR, "question", interaction="a"), ago(MINUTE, "answer", interaction="a")],
          {"unanswered_questions": 0}),
    Story("the answer to another question",
          [ago(HOUR, "question", interaction="a"), ago(MINUTE, "answer", interaction="b")],
          {"unanswered_questions": 1}),
    Story("an answer before the question",
          [ago(HOUR, "answer", interaction="a"), ago(MINUTE, "question", interaction="a")],
          {"unanswered_questions": 1}),
    Story("a question that was solved",
          [ago(HOUR, "question", interaction="a"), ago(MINUTE, "resolved", interaction="a")],
          {"unanswered_questions": 0}),
    Story("a question outside any interaction, and an answer likewise",
          [ago(HOUR, "question"), ago(MINUTE, "answer")], {"unanswered_questions": 0}),
    # Sentiment
    Story("the newest three moods",
          [ago(n * HOUR, "page", sentiment=mood) for n, mood in enumerate((60, 30, 0, -100), 1)],
          {"sentiment": 0.3, "sentiment_trend": 0.95}),
    Story("one mood has no trend", [ago(HOUR, "page", sentiment=-40)],
          {"sentiment": -0.4, "sentiment_trend": NAN}),
    Story("of an odd number the older half is the larger",
          [ago(3 * HOUR, "page", sentiment=100), ago(2 * HOUR, "page", sentiment=0),
           ago(HOUR, "page", sentiment=-100)],
          {"sentiment": 0, "sentiment_trend": -1.5}),
    Story("a mood outside its window", [ago(90 * DAY, "page", sentiment=100)],
          {"sentiment": NAN, "relationship": Relationship.unknown}),
    # Relationship
    Story("three good days", [ago(n * DAY, "page", sentiment=30) for n in range(3)],
          {"relationship": Relationship.friend}),
    Story("three bad days", bad_days(3), {"relationship": Relationship.enemy}),
    Story("two bad days are too few signs", bad_days(2), {"relationship": Relationship.unknown}),
    Story("complaints are signs too", [ago(n * DAY, "complaint") for n in range(3)],
          {"relationship": Relationship.enemy, "sentiment": NAN}),
    Story("neither here nor there", [ago(n * DAY, "page", sentiment=29) for n in range(5)],
          {"relationship": Relationship.neutral}),
    Story("good and bad days",
          [*bad_days(2), ago(HOUR, "page", sentiment=80), ago(MINUTE, "page", sentiment=80)],
          {"relationship": Relationship.love_hate}),
    # Lifetime
    Story("never bought", [ago(DAY, "page")], {"lifetime_stage": Stage.prospect}),
    Story("bought, and here for a month", [ago(30 * DAY, "purchase")],
          {"lifetime_stage": Stage.new}),
    Story("long here, as busy as ever",
          [ago(120 * DAY, "purchase"), ago(45 * DAY, "page"), ago(5 * DAY, "page")],
          {"lifetime_stage": Stage.mature}),
    Story("busier than last month",
          [ago(120 * DAY, "purchase"), ago(45 * DAY, "page"), ago(5 * DAY, "page"),
           ago(4 * DAY, "page")],
          {"lifetime_stage": Stage.growing}),
    Story("much less busy than last month",
          [ago(120 * DAY, "purchase"), *(ago(45 * DAY + n, "page") for n in range(3)),
           ago(5 * DAY, "page")],
          {"lifetime_stage": Stage.at_risk}),
    Story("away for half a year", [ago(200 * DAY, "purchase"), ago(180 * DAY, "page")],
          {"lifetime_stage": Stage.lapsed}),
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_a_story_shows(story: Story) -> None:
    found = read(*story.happened)
    shown = {fact: found.value(fact) for fact in story.facts}
    assert shown == pytest.approx(story.facts, nan_ok=True)


def test_every_fact_has_a_story() -> None:
    assert {fact for story in STORIES[1:] for fact in story.facts} == set(FACTS)


def test_the_windows_of_the_configuration_are_used() -> None:
    happened = chained([ago(2 * HOUR, "failed", "ivr"), ago(HOUR, "page", "web")])
    narrow = Lens.of(VOCABULARY, JourneyWindows(failed_self_service="90m", channel_hops="90m"))
    assert journey.read(happened, NOW, LENS).value("failed_self_service") == 1
    assert journey.read(happened, NOW, LENS).value("channel_hops") == 1
    assert journey.read(happened, NOW, narrow).value("failed_self_service") == 0
    assert journey.read(happened, NOW, narrow).value("channel_hops") == 0


def test_it_says_which_failure_was_the_newest_and_which_contact_the_first() -> None:
    found = read(
        ago(5 * HOUR, "contact", intent="billing", interaction="a"),
        ago(4 * HOUR, "failed"),
        ago(3 * HOUR, "failed"),
        ago(2 * HOUR, "contact", intent="billing", interaction="b"),
        ago(HOUR, "contact", intent="moving", interaction="c"),
    )
    assert (found.newest_failure, found.repeat_first) == (2, 0)
    assert found.contacts_by_intent == {1: 2, 2: 1}
    assert read(ago(1, "page"))[1:] == ({}, -1, -1, [])


def test_event_types_that_came_later_play_no_role() -> None:
    assert read(ago(HOUR, "page"), Event(NOW - 1, 60_000)).value("failed_self_service") == 0


@given(events(60), st.integers(NOW - 40 * DAY, NOW + 200 * DAY))
@settings(max_examples=200)
def test_whatever_happened_counts_are_bounded_and_facts_in_range(
    happened: list[Event], now: int
) -> None:
    seen = [event for event in happened if event.at <= now]
    found = journey.read(chained(happened), now, LENS)
    contacts = sum(VOCABULARY.type_codes["contact"] == event.code("type") for event in seen)
    for fact, most in {
        "failed_self_service": sum(event.type == "failed" for event in seen),
        "repeat_contacts": contacts,
        "unresolved_contacts": contacts,
        "unanswered_questions": sum(event.type == "question" for event in seen),
        "channel_hops": max(0, len(seen) - 1),
    }.items():
        assert 0 <= found.value(fact) <= most
    assert found.value("relationship") in list(Relationship)
    assert found.value("lifetime_stage") in list(Stage)
    assert bool(found.value("lifetime_stage")) == bool(seen)
    assert math.isnan(found.value("sentiment")) or -1 <= found.value("sentiment") <= 1
    assert math.isnan(found.value("sentiment_trend")) or -2 <= found.value("sentiment_trend") <= 2
    assert sum(found.contacts_by_intent.values()) <= contacts
    assert found.value("repeat_contacts") == max(found.contacts_by_intent.values(), default=0)
    for index in (found.newest_failure, found.repeat_first):
        assert -1 <= index < len(happened)


@given(events(40))
def test_what_has_not_happened_yet_is_not_seen(happened: list[Event]) -> None:
    past = journey.read(chained([event for event in happened if event.at <= NOW]), NOW, LENS)
    found = journey.read(chained(happened), NOW, LENS)
    assert found.values.tobytes() == past.values.tobytes()
    assert found.contacts_by_intent == past.contacts_by_intent
