from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from features import record
from features.duration import HOUR
from features.profile import Consent, Profile, Told
from features.record import Records
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.catalogue import Placement
from service.causes import Cause
from service.declared import ContextWeight, Goal, Limit, QuietHours, StageRule, StageRules, When
from service.declared import Target as About
from service.inputs import Inputs, Known, Question
from service.pipeline import Pipeline
from service.weighed import Weighed
from tests.business import ACTIONS, action, business, rule
from tests.chain import NOW, Event, chained
from training import without
from training.without import Key

CONSENTING = Profile({}, [Consent("marketing", "", True, 1)])


def weighed(
    pipeline: Pipeline,
    profile: Profile = CONSENTING,
    ledger: Records = record.EMPTY,
    **fields: Any,
) -> Weighed:
    question = Question("anna", "phone", 2, ["hint"], **{"assurance": 3, **fields})
    return pipeline.weigh(Inputs(question, Known(record.EMPTY, ledger, profile), NOW, 1), None)


def passed(one: Weighed, business: Business) -> set[str]:
    (weighing,) = one.weighings
    return {business.actions[row].name for row in weighing.ranked.rows.tolist()}


def both(
    declared: Business, cause: Key, profile: Profile = CONSENTING, **fields: Any
) -> tuple[set[str], set[str]]:
    """Who passes the filters, with and without a cause; the cause has to be in effect."""
    whole = Pipeline(declared)
    before = weighed(whole, profile, **fields)
    assert cause in without.in_effect(before, declared)
    after = weighed(without.pipeline(whole, cause), profile, **fields)
    assert cause not in without.in_effect(after, declared) or cause.kind == "segment weights"
    return passed(before, declared), passed(after, declared)


EVERYBODY = {one.name for one in ACTIONS}
MEMBERS = StageRules(suitability=[StageRule(rule("customer.member", "members"), About("tablet"))])


@pytest.mark.parametrize("member", [None, False])
def test_a_rule_that_does_not_hold_or_is_not_known_is_taken_out(member: bool | None) -> None:
    told = {} if member is None else {"member": Told(member, 1)}
    profile = Profile(told, CONSENTING.consents)
    cause = Key("rule", "members", "suitability")
    before, after = both(business(rules=MEMBERS), cause, profile)
    assert (EVERYBODY - before, after) == ({"tablet"}, EVERYBODY)


def test_consent_is_taken_out() -> None:
    before, after = both(business(), Key("consent", "marketing"), Profile())
    assert (EVERYBODY - before, after) == ({"discount"}, EVERYBODY)


def test_a_limit_is_taken_out() -> None:
    limit = Limit("once", 1, "30d", action="tablet")
    shown = chained([Event(NOW - HOUR, "outcome", action="tablet", outcome=Outcome.presented)])
    cause = Key("limit", "once")
    before, after = both(business(limits=[limit]), cause, ledger=shown)
    assert (EVERYBODY - before, after) == ({"tablet"}, EVERYBODY)


def test_a_limit_that_leaves_less_than_the_slate_takes_is_taken_out() -> None:
    cause = Key("limit", "few")
    limits = [Limit("few", 1, "30d", per="customer"), Limit("plenty", 20, "30d", per="customer")]
    whole = Pipeline(business(limits=limits))
    before = weighed(whole)
    assert {one for one in without.in_effect(before, whole.business) if one.kind == "limit"} == {
        cause
    }
    after = weighed(without.pipeline(whole, cause))
    assert cause not in without.in_effect(after, whole.business)
    slates = [len(one.weighings[0].drawn.slots) for one in (before, after)]
    assert slates[0] == 1 < slates[1]
    assert len(weighed(whole).weighings[0].drawn.slots) == 1, "the whole one is as it was"


def test_quiet_hours_are_taken_out() -> None:
    at = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC)
    start, until = (at - datetime.timedelta(hours=1)).time(), (at + datetime.timedelta(hours=1))
    quiet = QuietHours("night", start, until.time(), ["phone"], group="sales")
    before, after = both(business(quiet_hours=[quiet]), Key("quiet hours", "night"))
    assert (EVERYBODY - before, after) == ({"discount", "tablet"}, EVERYBODY)


def test_assurance_of_an_action_and_of_a_placement_are_taken_out() -> None:
    one = [*ACTIONS[:3], action("insurance", issue="grow", assurance="verified")]
    cause = Key("assurance", "verified")
    before, after = both(business(one), cause, assurance=1)
    assert (EVERYBODY - before, after) == ({"insurance"}, EVERYBODY)
    placements = {"hint": Placement(["phone"], assurance="verified"), "banner": Placement(["web"])}
    before, after = both(business(placements=placements), cause, assurance=1)
    assert (before, after) == (set(), EVERYBODY)


def test_a_bundle_comes_back_with_its_part() -> None:
    actions = [
        action("discount", parts=["tablet", "callback"]),
        *ACTIONS[1:],
    ]
    profile = Profile({"member": Told(False, 1)}, CONSENTING.consents)
    cause = Key("rule", "members", "suitability")
    before, after = both(business(actions, rules=MEMBERS), cause, profile)
    assert (EVERYBODY - before, after) == ({"tablet", "discount"}, EVERYBODY)


def test_other_causes_stay() -> None:
    cause = Key("rule", "members", "suitability")
    profile = Profile({"member": Told(False, 1)})
    _, after = both(business(rules=MEMBERS), cause, profile)
    assert after == EVERYBODY - {"discount"}, "there is still no consent"


def weights(one: Weighed, column: str) -> Sequence[float]:
    ranked = one.weighings[0].ranked
    order = np.argsort(ranked.rows)
    return [float(number) for number in getattr(ranked, column)[order]]


def test_a_context_weight_is_taken_out() -> None:
    weight = ContextWeight("calls", When(channel="phone"), About("tablet"), 3.0, "They call")
    whole = Pipeline(business(context_weights=[weight]))
    cause = Key("context weight", "calls")
    before = weighed(whole)
    assert cause in without.in_effect(before, whole.business)
    assert weights(before, "context_weight") == [1, 1, 3, 1]
    assert weights(weighed(without.pipeline(whole, cause)), "context_weight") == [1, 1, 1, 1]
    assert weights(weighed(whole), "context_weight") == [1, 1, 3, 1], "the whole one is as it was"


def test_a_goals_weights_by_segment_are_taken_out() -> None:
    goals = {"value": Goal(1.0, weights={"office": 2.0})}
    whole = Pipeline(business(goals=goals, segment_by="segment"))
    profile = Profile({"segment": Told("office", 1)}, CONSENTING.consents)
    cause = Key("segment weights", "value")
    before = weighed(whole, profile)
    after = weighed(without.pipeline(whole, cause), profile)
    assert cause in without.in_effect(before, whole.business)
    assert np.allclose(weights(before, "value"), np.multiply(weights(after, "value"), 2))


def test_what_belongs_to_the_catalogue_is_no_cause() -> None:
    for code in ("NO_TREATMENT", "NOT_VALID_NOW", "PART_DROPPED", "NO_DEFAULT"):
        assert without.key(Cause(pb.STAGE_ELIGIBILITY, code, "text", 1)) is None
    assert without.key(Cause(pb.STAGE_ELIGIBILITY, "BLOCKED", "text", 1)) == Key(
        "caller", "blocked"
    )


def test_a_neutral_number_is_the_median_and_a_neutral_category_the_most_common() -> None:
    nan = float("nan")
    assert without.neutral(np.array([1.0, 2.0, 10.0, nan]), False) == 2.0
    assert without.neutral(np.array([1.0, 3.0, 3.0, 2.0]), True) == 3.0
    assert np.isnan(without.neutral(np.array([1.0, nan, nan]), False)), "most have none"
