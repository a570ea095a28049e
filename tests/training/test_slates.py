from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Action as OfAction
from features.definitions import Count, Definitions
from features.plan import Context, Plan
from features.record import Records
from features.vocabulary import Outcome
from service.business import Business
from service.catalogue import Action, Placement, Treatment
from service.declared import Policies
from tests.chain import NOW, VOCABULARY, Event, chained, unique
from training import slates
from training.decisions import Drawn, Slot
from training.labels import UpliftTarget
from training.replay import History
from training.slates import Slates

DEFINITIONS = Definitions(
    [
        Count("events"),
        OfAction("code", field="code"),
        msgspec.convert(
            {"op": "count", "name": "shown", "where": {"outcome": "presented"}, "per_action": True},
            Count,
        ),
    ]
)
BUSINESS = Business(
    VOCABULARY,
    DEFINITIONS,
    [
        Action(name, name, "grow", "sales", value, [Treatment("only", ["here"])])
        for name, value in (("tablet", 30.0), ("discount", 10.0))
    ],
    {"here": Placement(["phone"])},
    Policies(),
)
PLAN = Plan(DEFINITIONS, VOCABULARY)
TARGET = UpliftTarget({"converted": "value", "resolved": 5.0}, within="2h")
HOUR = 3_600_000


def drawn(at: int, *actions: str, who: str = "anna", vector: float | None = None) -> Drawn:
    slots = [Slot(action, 0.5) for action in actions]
    told = None if vector is None else np.array([vector])
    return Drawn(f"d{at}", who, NOW + at, "here", Context(1, 1), told, slots, not slots, 0.9)


def laid(decisions: list[Drawn], story: list[Event], end: int = 100 * HOUR) -> Slates:
    """Slates of a customer with these events, in a log that goes on until some hours from NOW."""
    story = [*story, Event(NOW + end, "page", id="the end")]
    histories = [History("anna", records(story), []), History("ben", records([]), [])]
    return slates.of(decisions, TARGET, PLAN, BUSINESS, histories, lambda _: None)


def records(story: list[Event]) -> Records:
    return chained(unique(story), 10_000)


def test_a_slate_is_laid_out_with_its_slots_and_what_it_was_worth() -> None:
    story = [
        Event(NOW - 9, "outcome", action="tablet", outcome=Outcome.presented),
        Event(NOW + 5, "outcome", action="tablet", outcome=Outcome.converted),
        Event(NOW + 9, "outcome", outcome=Outcome.resolved),
    ]
    made = laid([drawn(0, "tablet", "discount"), drawn(7)], story)
    assert made.customers[:, 0].tolist() == [1.0, 2.0]  # events before each moment
    assert made.rewards.tolist() == [35.0, 5.0]
    assert made.held_back.tolist() == [False, True]
    assert made.slate.tolist() == [0, 0]
    assert made.action.tolist() == [0, 1]
    assert made.chance.tolist() == [0.5, 0.5]
    assert made.pairs[:, 0].tolist() == [1.0, 0.0]  # presented before
    assert made.moments.tolist() == [NOW, NOW + 7]
    assert made.who == ["anna", "anna"]


def test_a_logged_vector_is_taken_as_it_is() -> None:
    made = laid([drawn(0, "tablet", vector=77.0), drawn(1, "tablet")], [Event(NOW - 5)])
    assert made.customers[:, 0].tolist() == [77.0, 1.0]


@pytest.mark.parametrize(("end", "count"), [(2 * HOUR, 1), (2 * HOUR - 1, 0)])
def test_a_window_that_is_still_open_gives_no_slate(end: int, count: int) -> None:
    assert len(laid([drawn(0, "tablet")], [], end).rewards) == count


def test_a_slate_with_an_action_that_left_the_catalogue_is_left_out() -> None:
    made = laid([drawn(0, "tablet", "insurance"), drawn(1, "discount")], [])
    assert made.moments.tolist() == [NOW + 1]
    assert made.action.tolist() == [1]


def test_a_customer_of_whom_nothing_is_in_the_log_is_left_out() -> None:
    assert laid([drawn(0, "tablet", who="carl")], []).rewards.tolist() == []


@given(st.lists(st.lists(st.sampled_from(["tablet", "discount"]), max_size=2, unique=True)),
       st.data())  # fmt: skip
def test_chosen_slates_keep_their_own_slots(slots: list[list[str]], data: st.DataObject) -> None:
    made = laid([drawn(at, *actions) for at, actions in enumerate(slots)], [])
    keep = np.array([data.draw(st.booleans()) for _ in slots], bool)
    kept = made.where(keep)
    names = ["tablet", "discount"]
    found = [
        [names[action] for action in kept.action[kept.slate == row]]
        for row in range(len(kept.rewards))
    ]
    assert found == [one for one, chosen in zip(slots, keep, strict=True) if chosen]
    assert kept.moments.tolist() == made.moments[keep].tolist()
