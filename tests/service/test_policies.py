from __future__ import annotations

import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY, HOUR
from features.profile import EMPTY as NO_PROFILE
from features.profile import Consent, Profile
from features.record import EMPTY, Records
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from service.catalogue import ISSUES, Treatment, Validity
from service.declared import Limit
from service.policies import Drop, Policies, counted_outcomes, described
from tests.business import ACTIONS, action, business
from tests.chain import NOW, VOCABULARY, Event, chained, unique

TODAY = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC).date()
ONE_DAY = datetime.timedelta(days=1)
WILLING = Profile({}, [Consent("marketing", "", True, 0)])


def shown(age: int, name: str | int = "discount", **fields: Any) -> Event:
    return Event(NOW - age, "outcome", action=name, **{"outcome": Outcome.presented, **fields})


def drop(
    policies: Policies,
    name: str = "discount",
    ledger: Records | None = EMPTY,
    now: int = NOW,
    **given: Any,
) -> Drop | None:
    known: dict[str, Any] = {
        "channel": "phone", "assurance": 3, "required": 1, "profile": WILLING, **given,
    }  # fmt: skip
    found = policies._business.by_name[name]
    return policies.drop(found, now=now, usage=policies.usage(ledger, now), **known)


def reason(*args: Any, **given: Any) -> str:
    found = drop(*args, **given)
    return "" if found is None else found.code


# Eligibility


def test_without_a_reason_against_it_an_action_passes() -> None:
    policies = Policies(business())
    assert [drop(policies, one.name) for one in ACTIONS] == [None] * 4


@pytest.mark.parametrize(
    ("valid", "passes"),
    [
        (Validity(), True),
        (Validity(TODAY, TODAY), True),
        (Validity(TODAY + ONE_DAY), False),
        (Validity(until=TODAY - ONE_DAY), False),
        (Validity(TODAY - ONE_DAY, TODAY + ONE_DAY), True),
    ],
)
def test_an_action_is_offered_on_its_days_only(valid: Validity, passes: bool) -> None:
    policies = Policies(business([action(valid=valid)]))
    found = drop(policies)
    assert (found is None) is passes
    if found is not None:
        assert (found.stage, found.code) == (pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW")


@pytest.mark.parametrize("declared", ["none", "ani", "verified"])
@pytest.mark.parametrize("required", [1, 2, 3])
@pytest.mark.parametrize("assurance", [1, 2, 3])
def test_the_caller_must_be_as_sure_as_action_and_placement_ask(
    declared: Any, required: int, assurance: int
) -> None:
    policies = Policies(business([action(assurance=declared)]))
    needed = max(required, {"none": 1, "ani": 2, "verified": 3}[declared])
    found = drop(policies, assurance=assurance, required=required)
    assert (found is None) is (assurance >= needed)
    if found is not None:
        assert (found.stage, found.code) == (pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW")
        assert found.text == f"Needs a caller who is {('none', 'ani', 'verified')[needed - 1]}"


@pytest.mark.parametrize(
    ("consents", "phone", "chat"),
    [
        ([], "NO_CONSENT", "NO_CONSENT"),
        ([("marketing", "", True)], "", ""),
        ([("profiling", "", True)], "NO_CONSENT", "NO_CONSENT"),
        ([("marketing", "phone", True)], "", "NO_CONSENT"),
        ([("marketing", "", True), ("marketing", "phone", False)], "NO_CONSENT", ""),
    ],
)
def test_consent_is_asked_for_the_channel_at_hand(
    consents: list[tuple[str, str, bool]], phone: str, chat: str
) -> None:
    policies = Policies(business())
    profile = Profile({}, [Consent(*one, 0) for one in consents])
    assert reason(policies, profile=profile, channel="phone") == phone
    assert reason(policies, profile=profile, channel="chat") == chat
    assert reason(policies, "callback", profile=profile) == "", "a service needs none"


def test_without_the_profile_only_what_needs_no_consent_passes() -> None:
    policies = Policies(business())
    found = drop(policies, profile=None)
    assert found is not None
    assert (found.stage, found.code) == (pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE")
    assert reason(policies, "callback", profile=None) == ""


# Contact policy


def test_without_the_ledger_only_what_has_no_limit_passes() -> None:
    policies = Policies(business(limits=[Limit("l", 3, "7d", issue="grow")]))
    found = drop(policies, ledger=None)
    assert found is not None
    assert (found.stage, found.code) == (pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE")
    assert reason(policies, "callback", ledger=None) == ""


@pytest.mark.parametrize("at_most", [0, 1, 2, 3])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_showing_it_once_more_must_not_exceed_a_limit(at_most: int, times: int) -> None:
    policies = Policies(business(limits=[Limit("weekly", at_most, "7d", action="discount")]))
    ledger = chained(unique([shown(HOUR * n) for n in range(times)]))
    found = drop(policies, ledger=ledger)
    assert (found is None) is (times + 1 <= at_most)
    if found is not None:
        assert (found.stage, found.code) == (pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT")
        often = "once" if times == 1 else f"{times} times"
        assert found.text == f"presented {often} within 7d (limit weekly)"


@pytest.mark.parametrize(("times", "code"), [(0, ""), (1, "CONTACT_LIMIT")])
def test_a_single_refusal_keeps_an_action_back(times: int, code: str) -> None:
    policies = Policies(
        business(limits=[Limit("no", 0, "30d", outcome="rejected", action="discount")])
    )
    presented = [shown(HOUR * n) for n in range(9)]
    refused = [shown(DAY, outcome=Outcome.rejected) for _ in range(times)]
    assert reason(policies, ledger=chained(unique(presented + refused))) == code


@pytest.mark.parametrize(
    ("age", "counts"), [(0, True), (7 * DAY - 1, True), (7 * DAY, False), (-HOUR, False)]
)
def test_a_window_slides(age: int, counts: bool) -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d")]))
    assert bool(reason(policies, ledger=chained([shown(age)]))) is counts


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
    assert {one.name for one in ACTIONS if drop(policies, one.name, ledger)} == blocked


def test_a_limit_counts_only_the_actions_that_it_covers() -> None:
    limit = Limit("l", 1, "7d", issue="grow", group="sales", per="customer")
    policies = Policies(business(limits=[limit]))
    others = chained(unique([shown(1, "insurance"), shown(2, "callback"), shown(3, 4)]))
    assert reason(policies, "discount", others) == ""
    mine = chained([shown(1, "tablet")])
    assert reason(policies, "discount", mine) == "CONTACT_LIMIT"
    assert reason(policies, "insurance", mine) == ""


def test_a_limit_on_a_channel_counts_what_happened_there() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d", channel="chat")]))
    assert reason(policies, ledger=chained([shown(1, channel="phone")])) == ""
    assert reason(policies, ledger=chained([shown(1, channel="chat")])) == "CONTACT_LIMIT"


def test_the_first_limit_that_is_reached_is_told() -> None:
    limits = [Limit("wide", 9, "7d"), Limit("narrow", 1, "7d"), Limit("other", 1, "7d")]
    found = drop(Policies(business(limits=limits)), ledger=chained([shown(1)]))
    assert found is not None
    assert "limit narrow" in found.text


def test_stages_come_in_their_order() -> None:
    gone = action("discount", valid=Validity(until=TODAY - ONE_DAY), assurance="verified",
                  purpose="marketing")  # fmt: skip
    ledger = chained([shown(1)])
    known: dict[str, Any] = {"ledger": ledger, "assurance": 1, "profile": NO_PROFILE}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("NOT_VALID_NOW", {"valid": Validity()}),
        ("ASSURANCE_TOO_LOW", {"assurance": "none"}),
        ("NO_CONSENT", {"purpose": None}),
        ("CONTACT_LIMIT", {}),
    ]
    for code, cure in steps:
        policies = Policies(business([gone], limits=[Limit("l", 1, "7d")]))
        assert reason(policies, **known) == code
        gone = msgspec.structs.replace(gone, **cure)


def test_ten_thousand_other_events_do_not_reopen_a_cap() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "30d", action="discount")]))
    others = [shown(n + 1, "tablet", outcome=Outcome.clicked) for n in range(10_000)]
    ledger = chained(unique([shown(29 * DAY), *others]), limit=20_000)
    assert len(ledger) == 10_001
    assert reason(policies, ledger=ledger) == "CONTACT_LIMIT"
    assert reason(policies, ledger=ledger[1:]) == ""


outcomes = st.lists(
    st.builds(
        shown,
        st.integers(-DAY, 40 * DAY),
        st.sampled_from([*VOCABULARY.actions, 0, 4, 65_535]),
        outcome=st.sampled_from([2, 3, 5, 200]),
        channel=st.sampled_from(["phone", "web", 0]),
    ),
    max_size=60,
).map(unique)


@given(
    outcomes,
    st.sampled_from(["action", "group", "issue", "customer"]),
    st.sampled_from([None, "grow", "service"]),
    st.sampled_from([None, "web"]),
    st.sampled_from(["presented", "clicked", "rejected"]),
    st.sampled_from(["1h", "7d", "30d"]),
    st.integers(0, 5),
)
def test_limits_count_what_a_slow_count_counts(
    happened: list[Event], per: Any, issue: Any, channel: str | None, outcome: Any, within: str,
    at_most: int,
) -> None:  # fmt: skip
    limit = Limit("l", at_most, within, outcome=outcome, issue=issue, channel=channel, per=per)
    policies = Policies(business(limits=[limit]))
    known = {one.name: one for one in ACTIONS}
    for candidate in ACTIONS:
        if issue not in (None, candidate.issue):
            assert drop(policies, candidate.name, chained(happened)) is None
            continue
        count = 0
        for event in happened:
            about = known.get(str(event.action))
            count += (
                about is not None
                and issue in (None, about.issue)
                and 0 <= NOW - event.at < limit.within_ms
                and event.outcome == Outcome[outcome]
                and channel in (None, event.channel)
                and (
                    per == "customer"
                    or (per == "action" and about.name == candidate.name)
                    or (per == "group" and about.group == candidate.group)
                    or (per == "issue" and about.issue == candidate.issue)
                )
            )
        over = count + 1 > at_most if outcome == "presented" else count > at_most
        assert (drop(policies, candidate.name, chained(happened)) is not None) is over


def test_the_largest_code_of_an_action_is_counted_too() -> None:
    base = business([action("discount")], limits=[Limit("l", 1, "7d")])
    words = msgspec.structs.replace(VOCABULARY, actions={"discount": 65_535})
    policies = Policies(msgspec.structs.replace(base, vocabulary=words))
    assert reason(policies, ledger=chained([shown(1, 65_535)])) == "CONTACT_LIMIT"
    assert reason(policies, ledger=chained([shown(1, 65_534)])) == ""


# What is offered


def test_only_actions_with_a_treatment_for_placement_and_channel_are_offered() -> None:
    told = Treatment("tell", ["hint"], ["phone"])
    actions = [action("discount", treatments=[told]), action("callback")]
    policies = Policies(business(actions))

    def names(*where: str) -> list[str]:
        return [offer.action.name for offer in policies.offers(*where)]

    assert names("hint", "phone", "") == ["discount", "callback"]
    assert names("hint", "chat", "") == ["callback"]
    assert names("banner", "phone", "") == ["callback"]
    assert names("elsewhere", "phone", "") == []
    assert policies.offers("hint", "phone", "")[0].treatment is told


def test_any_number_of_languages_is_answered() -> None:
    policies = Policies(business())
    for number in range(10_050):
        assert len(policies.offers("hint", "phone", f"x-{number}")) == 4
    assert len(policies._offers) == 10_000, "and what callers send does not fill the memory"


def test_the_outcomes_that_a_limit_counts_go_to_the_ledger() -> None:
    assert counted_outcomes(business()) == {Outcome.presented}
    limits = [Limit("a", 0, "1d", outcome="rejected"), Limit("b", 0, "1d", outcome="accepted")]
    assert counted_outcomes(business(limits=limits)) == {
        Outcome.presented, Outcome.rejected, Outcome.accepted,
    }  # fmt: skip


def test_an_action_is_described_in_numbers() -> None:
    first, *_ = described(business([action("tablet", issue="grow", group="sales", cost=2.0)]))
    assert first == {"code": 3, "issue": ISSUES.index("grow"), "group": 2, "value": 10, "cost": 2}
    assert np.isfinite(list(first.values())).all()
