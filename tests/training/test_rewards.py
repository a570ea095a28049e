from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import HOUR
from features.vocabulary import Outcome
from tests.chain import NOW, VOCABULARY, Event, chained, events, unique
from training.labels import UpliftTarget
from training.rewards import Rewards

VALUES = {VOCABULARY.actions["tablet"]: 30.0, VOCABULARY.actions["discount"]: 7.0}
REWARD: dict[str, Any] = {"converted": "value", "resolved": 5.0, "repeat_contact": -6.0}


def worth(story: list[Event], *moments: int, **changes: Any) -> list[float]:
    """Rewards at moments that are counted from NOW."""
    target = msgspec.convert({"reward": REWARD, "within": "2h"} | changes, UpliftTarget)
    at = np.array([NOW + moment for moment in moments], np.int64)
    found: list[float] = Rewards(target, VALUES)(chained(unique(story)), at).tolist()
    return found


def came(at: int, outcome: Outcome, action: str | int = 0, value: float | None = None) -> Event:
    return Event(NOW + at, "outcome", action=action, outcome=outcome, value=value)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([], 0.0),
        ([came(5, Outcome.resolved)], 5.0),
        ([came(5, Outcome.resolved), came(6, Outcome.repeat_contact)], -1.0),
        ([came(5, Outcome.converted, "tablet", 99.0)], 99.0),
        ([came(5, Outcome.converted, "tablet")], 30.0),  # without a worth: the catalogue's
        ([came(5, Outcome.converted, 0, 12.0)], 12.0),  # of no action, as where nothing was shown
        ([came(5, Outcome.converted)], 0.0),
        ([came(5, Outcome.converted, 250)], 0.0),  # of an action that nobody knows any more
        ([came(5, Outcome.accepted, "tablet", 99.0)], 0.0),  # not rewarded
        ([came(0, Outcome.resolved)], 5.0),  # dated at the decision
        ([came(2 * HOUR, Outcome.resolved)], 5.0),
        ([came(2 * HOUR + 1, Outcome.resolved)], 0.0),
        ([came(-1, Outcome.resolved)], 0.0),
    ],
)
def test_a_reward_is_the_sum_of_what_followed_within_the_window(
    story: list[Event], expected: float
) -> None:
    assert worth(story, 0) == [expected]


def test_an_outcome_counts_for_every_decision_whose_window_it_lies_in() -> None:
    assert worth([came(HOUR, Outcome.resolved)], -2 * HOUR, 0, HOUR, HOUR + 1) == [0, 5, 5, 0]


def test_presenting_can_have_a_price() -> None:
    assert worth([came(0, Outcome.presented, "tablet")], 0, reward={"presented": -0.5}) == [-0.5]


@given(events(25), st.lists(st.integers(-(10**8), 10**8), max_size=5))
def test_rewards_are_those_that_are_found_one_by_one(
    story: list[Event], moments: list[int]
) -> None:
    records = chained(unique(story))
    amounts = {int(Outcome.resolved): 5.0, int(Outcome.repeat_contact): -6.0}
    expected = []
    for moment in moments:
        total = 0.0
        for one in records:
            if NOW + moment <= one["occurred_at"] <= NOW + moment + 2 * HOUR:
                total += amounts.get(int(one["outcome"]), 0.0)
                if one["outcome"] == Outcome.converted:
                    declared = VALUES.get(int(one["action"]), 0.0)
                    total += declared if np.isnan(one["value"]) else float(one["value"])
        expected.append(total)
    assert worth(story, *moments) == pytest.approx(expected, rel=1e-6, abs=1e-6)
