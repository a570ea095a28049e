from __future__ import annotations

from typing import Any

import msgspec
import pytest

from features.duration import DAY, HOUR
from features.record import RESERVED
from features.vocabulary import Outcome
from service.declared import Limit, Suppression
from service.limits import counted_outcomes
from service.policies import Policies
from tests.business import ACTIONS, action, business
from tests.chain import NOW, VOCABULARY, chained, unique
from tests.service.circumstances import (
    codes,
    shown,
)


@pytest.mark.parametrize(
    ("age", "counts"), [(0, True), (7 * DAY - 1, True), (7 * DAY, False), (-HOUR, False)]
)
def test_a_window_slides(age: int, counts: bool) -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d")]))
    assert bool(codes(policies, ledger=chained([shown(age)]))) is counts


@pytest.mark.parametrize(
    ("per", "blocked"),
    [
        ("action", {"discount"}),
        ("group", {"discount", "tablet"}),
        ("issue", {"discount", "tablet", "insurance"}),
        ("customer", {"discount", "tablet", "insurance", "callback"}),
    ],
)
def test_a_limit_counts_per_action_group_issue_or_customer(per: Any, blocked: set[str]) -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d", per=per)]))
    ledger = chained([shown(HOUR, "discount")])
    assert {one.name for one in ACTIONS if codes(policies, one.name, ledger=ledger)} == blocked


def test_a_limit_counts_only_the_actions_that_it_covers() -> None:
    limit = Limit("l", 1, "7d", issue="grow", group="sales", per="customer")
    policies = Policies(business(limits=[limit]))
    others = chained(unique([shown(1, "insurance"), shown(2, "callback"), shown(3, 4)]))
    assert codes(policies, "discount", ledger=others) == []
    mine = chained([shown(1, "tablet")])
    assert codes(policies, "discount", ledger=mine) == ["CONTACT_LIMIT"]
    assert codes(policies, "insurance", ledger=mine) == []


def test_a_limit_on_a_channel_counts_what_happened_there_and_holds_there() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d", channel="chat")]))
    there, elsewhere = chained([shown(1, channel="chat")]), chained([shown(1, channel="phone")])
    assert codes(policies, ledger=there, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=there, channel="phone") == []
    assert codes(policies, ledger=elsewhere, channel="chat") == []


def test_a_limit_per_channel_is_one_for_each() -> None:
    policies = Policies(business(limits=[Limit("l", 2, "7d", per="channel")]))
    ledger = chained(
        unique([shown(1, "tablet", channel="chat"), shown(2, channel="chat"),
                shown(3, channel="phone")])
    )  # fmt: skip
    assert codes(policies, ledger=ledger, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, "callback", ledger=ledger, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=ledger, channel="phone") == []


def test_an_open_reservation_counts_as_presented() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "1h")]))
    held = shown(2 * HOUR, outcome=RESERVED, value=7_201.0)
    assert codes(policies, ledger=chained([held])) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=chained([held]), now=NOW + 1_000) == []


def test_ten_thousand_other_events_do_not_reopen_a_cap() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "30d", action="discount")]))
    others = [shown(n + 1, "tablet", outcome=Outcome.clicked) for n in range(10_000)]
    ledger = chained(unique([shown(29 * DAY), *others]), limit=20_000)
    assert len(ledger) == 10_001
    assert codes(policies, ledger=ledger) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=ledger[1:]) == []


def test_the_largest_code_of_an_action_is_counted_too() -> None:
    words = msgspec.structs.replace(VOCABULARY, actions={"discount": 65_535})
    one = business([action("discount")], limits=[Limit("l", 1, "7d")], vocabulary=words)
    policies = Policies(one)
    assert codes(policies, ledger=chained([shown(1, 65_535)])) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=chained([shown(1, 65_534)])) == []


def test_the_outcomes_that_anything_counts_go_to_the_ledger() -> None:
    assert counted_outcomes(business()) == {Outcome.presented}
    one = business(
        limits=[Limit("a", 0, "1d", outcome="rejected"), Limit("b", 0, "1d", outcome="accepted")],
        suppressions=[Suppression("s", "dismissed", 1, "1d", "1d")],
    )
    assert counted_outcomes(one) == {
        Outcome.presented, Outcome.rejected, Outcome.accepted, Outcome.dismissed,
    }  # fmt: skip
