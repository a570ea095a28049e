from __future__ import annotations

from typing import Any

import pytest

from features.duration import DAY
from features.profile import EMPTY as NO_PROFILE
from features.profile import Consent, Profile
from rapport.v1 import decision_pb2 as pb
from service.catalogue import ASSURANCE, Validity
from service.declared import Ceiling, Limit, Suppression
from service.policies import Policies
from tests.business import ACTIONS, action, business
from tests.service.circumstances import (
    MIDNIGHT,
    ONE_DAY,
    TODAY,
    causes,
    circumstances,
    codes,
    only,
)


def test_without_a_reason_against_it_an_action_passes() -> None:
    assert Policies(business()).filtered(circumstances(Policies(business()))).causes == []


@pytest.mark.parametrize(
    ("valid", "first", "last"),
    [
        (Validity(), 0, 2**50),
        (Validity(TODAY, TODAY), MIDNIGHT, MIDNIGHT + DAY - 1),
        (Validity(TODAY + ONE_DAY), MIDNIGHT + DAY, 2**50),
        (Validity(until=TODAY - ONE_DAY), 0, MIDNIGHT - 1),
        (Validity(TODAY - ONE_DAY, TODAY + ONE_DAY), MIDNIGHT - DAY, MIDNIGHT + 2 * DAY - 1),
    ],
)
def test_an_action_is_offered_on_its_days_to_the_millisecond(
    valid: Validity, first: int, last: int
) -> None:
    others = [
        action("tablet", valid=Validity(TODAY)),
        action("callback", valid=Validity(until=TODAY)),
        action("insurance"),
    ]
    for policies in (
        Policies(business([action(valid=valid)])),
        Policies(business([others[0], action(valid=valid), *others[1:]])),
    ):
        for now, passes in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
            if now < 0 or now > 2**50:
                continue
            found = causes(policies, now=now)
            assert (not found) is passes
            for cause in found:
                assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW")
                assert cause.text == "Outside its validity"


@pytest.mark.parametrize("declared", ["none", "ani", "verified"])
@pytest.mark.parametrize("assurance", [1, 2, 3])
def test_the_caller_must_be_as_sure_as_the_action_asks(declared: Any, assurance: int) -> None:
    policies = Policies(business([action(assurance=declared), action("tablet")]))
    found = causes(policies, assurance=assurance)
    assert (not found) is (assurance >= ASSURANCE[declared])
    assert causes(policies, "tablet", assurance=assurance) == []
    for cause in found:
        assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW")
        assert cause.text == f"Needs a caller who is {declared}"
        assert cause.name == declared


@pytest.mark.parametrize(
    ("consents", "phone", "chat"),
    [
        ([], ["NO_CONSENT"], ["NO_CONSENT"]),
        ([("marketing", "", True)], [], []),
        ([("profiling", "", True)], ["NO_CONSENT"], ["NO_CONSENT"]),
        ([("marketing", "phone", True)], [], ["NO_CONSENT"]),
        ([("marketing", "", True), ("marketing", "phone", False)], ["NO_CONSENT"], []),
    ],
)
def test_consent_is_asked_for_the_channel_at_hand(
    consents: list[tuple[str, str, bool]], phone: list[str], chat: list[str]
) -> None:
    policies = Policies(business())
    profile = Profile({}, [Consent(*one, 0) for one in consents])
    assert codes(policies, profile=profile, channel="phone") == phone
    assert codes(policies, profile=profile, channel="chat") == chat
    assert codes(policies, "callback", profile=profile) == [], "a service needs none"
    if phone:
        cause = only(policies, profile=profile)
        assert cause.text == "No consent for marketing on phone"
        assert cause.name == "marketing"


def test_without_the_profile_only_what_needs_no_consent_passes() -> None:
    policies = Policies(business())
    cause = only(policies, profile=None)
    assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE")
    assert cause.text == "Consent for marketing could not be read"
    assert codes(policies, "callback", profile=None) == []
    assert codes(policies, profile=NO_PROFILE) == ["NO_CONSENT"], "an empty one was read"


def test_the_caller_may_ask_for_some_actions_and_rule_out_others() -> None:
    policies = Policies(business())
    asked: dict[str, Any] = {"allow": ["discount", "tablet"], "block": ["tablet", "insurance"]}
    assert {one.name: codes(policies, one.name, **asked) for one in ACTIONS} == {
        "discount": [],
        "callback": ["NOT_ALLOWED"],
        "tablet": ["BLOCKED"],
        "insurance": ["NOT_ALLOWED", "BLOCKED"],
    }
    assert only(policies, "callback", **asked).stage == pb.STAGE_ELIGIBILITY
    assert only(policies, "tablet", **asked).stage == pb.STAGE_ELIGIBILITY


def test_without_the_ledger_only_what_nothing_counts_passes() -> None:
    policies = Policies(business(limits=[Limit("l", 3, "7d", issue="grow")]))
    cause = only(policies, ledger=None)
    assert (cause.stage, cause.code) == (pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE")
    assert codes(policies, "callback", ledger=None) == []
    assert codes(Policies(business()), ledger=None) == [], "nothing is counted"
    tired = Suppression("s", "rejected", 1, "7d", "7d", action="callback")
    policies = Policies(business(suppressions=[tired]))
    assert codes(policies, "callback", ledger=None) == ["LEDGER_UNREADABLE"]
    assert codes(policies, ledger=None) == []


def test_a_ceiling_that_is_full_drops_what_it_is_about() -> None:
    policies = Policies(
        business(
            ceilings=[
                Ceiling("many", "day", volume=9, issue="grow"),
                Ceiling("dear", "day", budget=9.0, action="tablet"),
                Ceiling("else", "day", volume=9),
            ]
        )
    )
    full = frozenset(["many", "dear"])
    assert codes(policies, full_ceilings=full) == ["CEILING"]
    assert codes(policies, "callback", full_ceilings=full) == []
    first, second = causes(policies, "tablet", full_ceilings=full)
    assert first.text == "The volume for everybody is used up (ceiling many)"
    assert second.text == "The budget for everybody is used up (ceiling dear)"
