from __future__ import annotations

from typing import Any

import msgspec
import pytest

from features.definitions import Count, Definitions
from features.duration import DAY, HOUR, MINUTE
from features.vocabulary import Outcome
from service.business import Business
from service.catalogue import Action, Treatment
from service.declared import Policies
from tests.chain import NOW, VOCABULARY, Event, chained, unique
from training.labels import (
    Acceptances,
    AcceptanceTarget,
    Intents,
    IntentTarget,
    Labelled,
    Responses,
    UpliftTarget,
    responses,
)

BILLING, MOVING, LEAVING = 1, 2, 5
PRESENTED, ACCEPTED, REJECTED = Outcome.presented, Outcome.accepted, Outcome.rejected


def contact(at: int, interaction: str = "a") -> Event:
    return Event(NOW + at, "contact", interaction=interaction)


def ended(at: int, intent: str | int, interaction: str = "a", type: str = "resolved") -> Event:
    return Event(NOW + at, type, intent=intent, interaction=interaction)


def intents(events: list[Event], **changes: Any) -> list[tuple[int, int]]:
    """Moments, counted from NOW, with their labels."""
    target = msgspec.convert(
        {"at": {"role": "contact"}, "label": "intent", "of": {"role": ["resolved", "unresolved"]}}
        | changes,
        IntentTarget,
    )
    return told(events, Intents(target, VOCABULARY)(chained(unique(events))))


def told(events: list[Event], labelled: Labelled) -> list[tuple[int, int]]:
    records = chained(unique(events))
    moments = (records["occurred_at"][labelled.at] - NOW).tolist()
    return list(zip(moments, labelled.label.tolist(), strict=True))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([contact(0), ended(5, "billing")], [(0, BILLING)]),
        ([contact(0), ended(5, "billing", type="unresolved")], [(0, BILLING)]),
        ([contact(0), ended(9, "billing"), ended(5, "moving")], [(0, MOVING)]),  # the next one
        ([ended(-5, "billing"), contact(0)], []),  # only what follows
        ([contact(0)], []),
        ([], []),
        ([ended(5, "billing")], []),
        ([contact(0), ended(5, 0), ended(6, "moving")], [(0, MOVING)]),  # one that says nothing
        ([contact(0), ended(5, "billing", type="page")], []),  # no match of `of`
        ([contact(0), contact(3), ended(5, "moving")], [(0, MOVING), (3, MOVING)]),
        (
            [contact(0), ended(5, "moving"), contact(7), ended(9, "leaving")],
            [(0, MOVING), (7, LEAVING)],
        ),
    ],
)
def test_a_moment_is_labelled_by_the_next_matching_event(
    events: list[Event], expected: list[tuple[int, int]]
) -> None:
    assert intents(events) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [contact(0, "a"), contact(1, "b"), ended(5, "moving", "b"), ended(9, "billing", "a")],
            [(0, BILLING), (1, MOVING)],
        ),
        ([contact(0, "a"), ended(5, "moving", "b")], []),
        ([contact(0, "a"), ended(5, "moving", "")], []),
        ([contact(0, ""), ended(5, "moving", "")], []),  # both stand alone
    ],
)
def test_the_label_can_be_asked_of_the_same_interaction(
    events: list[Event], expected: list[tuple[int, int]]
) -> None:
    assert intents(events, same_interaction=True) == expected


@pytest.mark.parametrize(
    ("after", "expected"), [(DAY - 1, [(0, BILLING)]), (DAY, [(0, BILLING)]), (DAY + 1, [])]
)
def test_a_label_that_comes_too_late_is_none(after: int, expected: list[tuple[int, int]]) -> None:
    assert intents([contact(0), ended(after, "billing")], within="1d") == expected


def test_a_later_answer_does_not_stand_in_for_one_that_came_too_late() -> None:
    events = [contact(0), ended(2 * DAY, "billing"), contact(3 * DAY), ended(3 * DAY + 1, "moving")]
    assert intents(events, within="1d") == [(3 * DAY, MOVING)]


def test_of_events_in_one_millisecond_the_timelines_order_decides() -> None:
    before = Event(NOW, "resolved", intent="billing", sequence=0)
    at = Event(NOW, "contact", sequence=1)
    after = Event(NOW, "resolved", intent="moving", sequence=2)
    assert intents([after, at, before]) == [(0, MOVING)]


def test_the_type_of_the_very_next_event_can_be_the_label() -> None:
    events = [contact(0), Event(NOW + 1, "page"), Event(NOW + 2, "purchase")]
    assert intents(events, at={}, label="type", of={}) == [(0, 10), (1, 9)]


def shown(at: int, action: str | int = "discount") -> Event:
    return Event(NOW + at, "outcome", action=action, outcome=PRESENTED)


def said(at: int, outcome: Outcome, action: str | int = "discount") -> Event:
    return Event(NOW + at, "outcome", action=action, outcome=outcome)


FAR = Responses(9 * HOUR)


def acceptances(
    events: list[Event],
    end: int | None = None,
    declared: Responses = FAR,
    **changes: Any,
) -> list[tuple[int, int]]:
    target = msgspec.convert(
        {
            "at": {"outcome": "presented"},
            "wanted": ["accepted", "converted"],
            "unwanted": ["rejected", "dismissed"],
            "within": "2h",
            "silence": "drop",
        }
        | changes,
        AcceptanceTarget,
    )
    return told(events, Acceptances(target, VOCABULARY, declared, end)(chained(unique(events))))


@pytest.mark.parametrize("silence", ["drop", "negative"])
@pytest.mark.parametrize(
    ("outcome", "label"),
    [("accepted", 1), ("converted", 1), ("rejected", 0), ("dismissed", 0)],
)
def test_an_outcome_settles_a_presentation(outcome: str, label: int, silence: str) -> None:
    assert acceptances([shown(0), said(5, Outcome[outcome])], silence=silence) == [(0, label)]


@pytest.mark.parametrize(
    ("events", "settled"),
    [
        ([shown(0), said(5, REJECTED), said(9, ACCEPTED)], [(0, 0)]),  # the first one wins
        ([shown(0), said(5, ACCEPTED), said(9, REJECTED)], [(0, 1)]),
        ([shown(0), said(5, Outcome.clicked), said(9, ACCEPTED)], [(0, 1)]),  # a click is neither
        ([shown(0), said(5, REJECTED, "tablet"), said(9, ACCEPTED)], [(0, 1)]),  # another action's
        ([shown(0), shown(1, "tablet"), said(9, ACCEPTED), said(10, REJECTED, "tablet")],
         [(0, 1), (1, 0)]),
        ([shown(0), said(2 * HOUR, ACCEPTED)], [(0, 1)]),
        ([shown(0), shown(5), said(9, ACCEPTED)], [(0, 1), (5, 1)]),  # the first after each
    ],
)  # fmt: skip
def test_the_first_outcome_of_that_action_counts(
    events: list[Event], settled: list[tuple[int, int]]
) -> None:
    assert acceptances(events, silence="drop") == settled
    assert acceptances(events, silence="negative") == settled


@pytest.mark.parametrize(
    "events",
    [
        [shown(0)],
        [shown(0), said(2 * HOUR + 1, ACCEPTED)],  # too late
        [said(-5, ACCEPTED), shown(0)],  # before
        [shown(0), said(5, ACCEPTED, "tablet")],  # another action
        [shown(0), said(5, Outcome.no_response)],  # not among the declared ones
        [shown(0), said(5, ACCEPTED, 0)],  # of no action
    ],
)
def test_silence_is_a_no_or_nothing_as_declared(events: list[Event]) -> None:
    assert acceptances(events, silence="negative") == [(0, 0)]
    assert acceptances(events, silence="drop") == []


def test_presented_and_accepted_in_one_millisecond_follow_one_another() -> None:
    """RecordOutcome dates both at the decision and counts the sequence by outcome."""
    events = [said(0, ACCEPTED)._replace(sequence=4), shown(0)._replace(sequence=2)]
    assert acceptances(events) == [(0, 1)]


def test_a_presentation_of_no_action_is_no_moment() -> None:
    assert acceptances([shown(0, 0), said(5, ACCEPTED, 0)], silence="negative") == []


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (IntentTarget, {"at": {}, "label": "intent", "within": "soon"}),
        (IntentTarget, {"at": {}, "label": "channel"}),
        (
            AcceptanceTarget,
            {"at": {}, "wanted": ["liked"], "unwanted": [], "within": "1d", "silence": "drop"},
        ),
        (
            AcceptanceTarget,
            {"at": {}, "wanted": [], "unwanted": [], "within": "1", "silence": "drop"},
        ),
        (UpliftTarget, {"reward": {}}),
        (UpliftTarget, {"reward": {"liked": 1.0}}),
        (UpliftTarget, {"reward": {"converted": "worth"}}),
        (UpliftTarget, {"reward": {"converted": 1.0}, "within": "1"}),
        (UpliftTarget, {"reward": {"converted": 1.0}, "bags": 1}),
    ],
)
def test_a_target_that_cannot_be_is_refused(kind: type, written: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(written, kind)


def test_a_name_that_is_not_declared_is_named_with_its_place() -> None:
    target = msgspec.convert({"at": {"intent": "biling"}, "label": "intent"}, IntentTarget)
    with pytest.raises(ValueError, match=r"training.yaml: intent.at.*did you mean 'billing'"):
        Intents(target, VOCABULARY)


def test_where_silence_is_no_a_window_still_open_at_the_end_gives_no_label() -> None:
    events = [shown(0, "discount"), said(5 * MINUTE, Outcome.accepted)]
    early, late = NOW + HOUR, NOW + 2 * HOUR
    assert acceptances(events, end=early, silence="negative") == []
    assert acceptances(events, end=late, silence="negative") == [(0, 1)]
    assert acceptances(events, end=early, silence="drop") == [(0, 1)]


def test_each_action_waits_as_long_as_it_declares() -> None:
    declared = Responses(2 * HOUR, {VOCABULARY.actions["tablet"]: 3 * HOUR})
    late = 2 * HOUR + 1
    events = [shown(0), shown(0, "tablet"), said(late, ACCEPTED), said(late, ACCEPTED, "tablet")]
    own: dict[str, Any] = {"within": None, "silence": "negative"}
    assert sorted(acceptances(events, declared=declared, **own)) == [(0, 0), (0, 1)]
    assert acceptances(events, declared=declared, **(own | {"within": "3h"})) == [(0, 1), (0, 1)]
    # The window of the tablet is still open when that of the discount has ended.
    assert acceptances(events, NOW + 2 * HOUR, declared, **own) == [(0, 0)]
    assert len(acceptances(events, NOW + 3 * HOUR, declared, **own)) == 2


@pytest.mark.parametrize(
    ("declared", "silence", "expected"),
    [
        ("no_response", None, [(0, 0)]),
        ("rejected", None, [(0, 0)]),
        ("accepted", None, [(0, 1)]),
        ("accepted", "negative", [(0, 0)]),
        ("no_response", "drop", []),
    ],
)
def test_silence_counts_as_the_policies_say_unless_training_says_otherwise(
    declared: Any, silence: str | None, expected: list[tuple[int, int]]
) -> None:
    found = acceptances([shown(0)], declared=Responses(HOUR, {}, declared), silence=silence)
    assert found == expected


def test_what_a_configuration_declares_of_responses_is_read() -> None:
    business = Business(
        VOCABULARY,
        Definitions([Count("events")]),
        [
            Action(
                name, name, "grow", "sales", 1.0, [Treatment("t", ["here"])], responds_within=own
            )
            for name, own in (("tablet", "3h"), ("discount", None))
        ],
        {},
        Policies(responds_within="5h", silence="dismissed"),
    )
    assert responses(business) == Responses(
        5 * HOUR, {VOCABULARY.actions["tablet"]: 3 * HOUR}, "dismissed"
    )
