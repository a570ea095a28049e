from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from features import journey
from features.duration import DAY, HOUR, MINUTE
from features.record import EMPTY
from features.vocabulary import Outcome
from service import facts
from service.catalogue import Validity
from service.declared import (
    FACTS,
    Ceiling,
    ControlGroups,
    Lever,
    Limit,
    Policies,
    QuietHours,
    Suppression,
    Target,
    outcome_code,
)
from tests.business import action, business
from tests.chain import VOCABULARY

TARGETS = [
    (Target(), True),
    (Target(action="discount"), True),
    (Target(action="tablet"), False),
    (Target(group="sales"), True),
    (Target(issue="grow", group="sales"), True),
    (Target(issue="grow", group="care"), False),
    (Target(issue="retain"), False),
    (Target(action="discount", issue="retain"), False),
]


@pytest.mark.parametrize(("target", "covers"), TARGETS)
def test_a_target_covers_what_matches_all_that_it_says(target: Target, covers: bool) -> None:
    assert target.covers(action("discount", issue="grow", group="sales")) is covers


@pytest.mark.parametrize(("target", "covers"), TARGETS)
def test_limits_suppressions_and_ceilings_are_about_their_target(
    target: Target, covers: bool
) -> None:
    discount = action("discount", issue="grow", group="sales")
    about: dict[str, Any] = msgspec.structs.asdict(target)
    some: list[Limit | Suppression | Ceiling] = [
        Limit("l", 1, "1d", **about),
        Suppression("s", "rejected", 1, "1d", "1d", **about),
        Ceiling("c", "day", volume=1, **about),
    ]
    assert [one.target.covers(discount) for one in some] == [covers] * 3
    if target.action is None:
        quiet = QuietHours(
            "q", datetime.time(22), datetime.time(8), ["phone"],
            group=target.group, issue=target.issue,
        )  # fmt: skip
        assert quiet.target.covers(discount) is covers


def test_lengths_are_read_as_milliseconds() -> None:
    assert Limit("l", 1, "7d").within_ms == 7 * DAY
    assert Policies(reserves_for="90s").reserves_for_ms == 90_000
    assert Policies().reserves_for_ms == 30 * MINUTE


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (Limit, {"name": "l", "at_most": -1, "within": "1d"}, "at_most"),
        (Limit, {"name": "l", "at_most": 1, "within": "often"}, "'often' is no duration"),
        (Limit, {"name": "l", "at_most": 1, "within": "1d", "outcome": "generated"}, "generated"),
        (Limit, {"name": "l", "at_most": 1, "within": "1d", "per": "day"}, "day"),
        (Suppression, {"name": "s", "outcome": "rejected", "after": 0, "within": "1d", "for": "1d"},
         "after"),
        (Suppression, {"name": "s", "outcome": "rejected", "after": 1, "within": "x", "for": "1d"},
         "'x' is no duration"),
        (Suppression, {"name": "s", "outcome": "rejected", "after": 1, "within": "1d", "for": "x"},
         "'x' is no duration"),
        (Ceiling, {"name": "c", "each": "day"}, "needs a volume or a budget"),
        (Ceiling, {"name": "c", "each": "day", "volume": 1, "budget": 1}, "and not both"),
        (Ceiling, {"name": "c", "each": "week", "volume": 1}, "week"),
        (Lever, {"name": "l", "target": {}, "factor": 0}, "factor"),
        (ControlGroups, {"random": 0.6, "hold_out": 0.5}, "add up to more than 1; lower one"),
        (Policies, {"currency": "euro"}, "currency"),
        (Policies, {"goals": {}}, "goals: none is declared"),
        (Policies, {"reserves_for": "never"}, "'never' is no duration"),
        (Policies, {"responds_within": "never"}, "'never' is no duration"),
        (Policies, {"limts": []}, "unknown field `limts`"),
        (QuietHours, {"name": "q", "from": "22:00:00Z", "until": "08:00:00", "channels": ["x"]},
         "leave out the time zone"),
        (QuietHours, {"name": "q", "from": "22:00:00", "until": "08:00:00+01:00",
                      "channels": ["x"]}, "leave out the time zone"),
        (QuietHours, {"name": "q", "from": "08:00:00", "until": "08:00:00", "channels": ["x"]},
         "ends at 08:00:00, as it starts; name another hour"),
        (QuietHours, {"name": "q", "from": "22:00:00", "until": "08:00:00", "channels": []},
         "channels"),
        (QuietHours, {"name": "q", "from": "22:00:00", "until": "08:00:00", "channels": ["x"],
                      "days": ["someday"]}, "someday"),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_refused(kind: Any, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(fields, kind)
    assert told in str(refused.value)


def test_quiet_hours_are_about_reaching_out_unless_they_say_otherwise() -> None:
    written = {"name": "q", "from": "22:00:00", "until": "08:00:00", "channels": ["sms"]}
    quiet = msgspec.convert(written, QuietHours)
    assert quiet.directions == ["outbound"]
    assert quiet.days == []
    assert (quiet.start, quiet.until) == (datetime.time(22), datetime.time(8))


def test_shares_of_control_groups_may_add_up_to_all() -> None:
    assert ControlGroups("s", 0.25, 0.25, 0.25, 0.25).hold_out == 0.25


def test_an_outcome_is_counted_by_its_code() -> None:
    assert outcome_code("presented") == Outcome.presented
    assert outcome_code("rejected") == Outcome.rejected


def test_the_facts_that_weights_may_name_are_those_that_are_computed() -> None:
    lens = journey.Lens.of(VOCABULARY, business().definitions.journey)
    assert set(facts.magnitudes(journey.read(EMPTY, 0, lens).values.tolist())) == set(FACTS)


def test_the_longest_that_anything_counts_over_is_kept_in_the_ledger() -> None:
    limits = [Limit("a", 1, "7d"), Limit("b", 1, "90d"), Limit("c", 1, "1h")]
    assert business(limits=limits).ledger_window_ms == 90 * DAY
    assert business(limits=limits[2:]).ledger_window_ms == DAY
    tired = Suppression("s", "rejected", 2, within="10d", lasts="100d")
    assert business(limits=limits, suppressions=[tired]).ledger_window_ms == 110 * DAY
    assert business(reserves_for="25h").ledger_window_ms == 25 * HOUR


def test_validity_is_for_ever_unless_told() -> None:
    assert Lever("l", Target(), 2.0).valid == Validity()
