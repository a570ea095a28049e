from __future__ import annotations

import pytest

from features.duration import DAY, HOUR
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from service.declared import Limit, Suppression
from service.policies import Policies
from tests.business import business
from tests.chain import NOW, chained, unique
from tests.service.circumstances import (
    causes,
    codes,
    only,
    shown,
)


@pytest.mark.parametrize("at_most", [0, 1, 2, 3])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_showing_it_once_more_must_not_exceed_a_limit(at_most: int, times: int) -> None:
    policies = Policies(business(limits=[Limit("weekly", at_most, "7d", action="discount")]))
    ledger = chained(unique([shown(HOUR * n) for n in range(times)]))
    found = causes(policies, ledger=ledger)
    assert (not found) is (times + 1 <= at_most)
    for cause in found:
        assert (cause.stage, cause.code) == (pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT")
        often = "once" if at_most == 1 else f"{at_most} times"
        assert cause.text == f"Shown or held {often} within 7d (limit weekly)"
        assert cause.name == "weekly"


@pytest.mark.parametrize(("times", "over"), [(0, []), (1, ["CONTACT_LIMIT"])])
def test_a_single_refusal_keeps_an_action_back(times: int, over: list[str]) -> None:
    policies = Policies(
        business(limits=[Limit("no", 0, "30d", outcome="rejected", action="discount")])
    )
    happened = [shown(HOUR * n) for n in range(9)]
    refused = [shown(DAY, outcome=Outcome.rejected) for _ in range(times)]
    ledger = chained(unique(happened + refused))
    assert codes(policies, ledger=ledger) == over
    if times:
        assert only(policies, ledger=ledger).text == "Rejected once within 30d (limit no)"


def test_the_first_limit_that_is_reached_is_told_first() -> None:
    limits = [Limit("wide", 9, "7d"), Limit("narrow", 1, "7d"), Limit("other", 1, "7d")]
    found = causes(Policies(business(limits=limits)), ledger=chained([shown(1)]))
    assert [cause.name for cause in found] == ["narrow", "other"]


def test_so_many_refusals_keep_an_action_back_for_a_while() -> None:
    tired = Suppression("tired", "rejected", 2, "3d", "10d", issue="grow", per="group")
    policies = Policies(business(suppressions=[tired]))
    refused = unique(
        [shown(9 * DAY, outcome=Outcome.rejected), shown(8 * DAY, "tablet", outcome=5)]
    )
    cause = only(policies, ledger=chained(refused))
    assert (cause.stage, cause.code, cause.name) == (pb.STAGE_CONTACT_POLICY, "SUPPRESSED", "tired")
    assert cause.text == "Rejected 2 times within 3d: left alone for 10d (tired)"
    assert codes(policies, "tablet", ledger=chained(refused)) == ["SUPPRESSED"]
    assert codes(policies, "insurance", ledger=chained(refused)) == [], "another group"
    assert codes(policies, ledger=chained(refused), now=NOW + 2 * DAY - 1) == ["SUPPRESSED"]
    assert codes(policies, ledger=chained(refused), now=NOW + 2 * DAY) == []
    assert codes(policies, ledger=chained(refused[:1])) == []


def test_a_single_one_that_suppresses_needs_no_window_in_words() -> None:
    once = Suppression("no", "rejected", 1, "1d", "30d")
    policies = Policies(business(suppressions=[once]))
    cause = only(policies, ledger=chained([shown(DAY, outcome=Outcome.rejected)]))
    assert cause.text == "Rejected once: left alone for 30d (no)"


def test_a_limit_and_a_suppression_of_the_same_name_are_two_causes() -> None:
    one = business(
        limits=[Limit("enough", 1, "7d", action="discount")],
        suppressions=[Suppression("enough", "rejected", 1, "7d", "7d", action="tablet")],
    )
    ledger = chained(unique([shown(1), shown(1, "tablet", outcome=Outcome.rejected)]))
    assert codes(Policies(one), "discount", ledger=ledger) == ["CONTACT_LIMIT"]
    assert codes(Policies(one), "tablet", ledger=ledger) == ["SUPPRESSED"]
