from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.profile import Profile, Told
from features.record import EMPTY
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import explain, voices
from service.business import Business
from service.catalogue import Exploration, Rule, Treatment, Validity
from service.declared import (
    Ceiling,
    ControlGroups,
    Limit,
    QuietHours,
    Suppression,
)
from service.errors import Precondition
from service.inputs import Inputs, Known
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.slates import Answer
from tests.chain import NOW, chained
from tests.integration.serving import business as bank
from tests.integration.serving import sealed
from tests.service.test_pipeline import (
    STRANGER,
    WILLING,
    decide,
    given_,
    names,
    shop,
    shown_before,
    situations,
    thing,
    written,
)

MOMENT = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC)
YESTERDAY = MOMENT.date() - datetime.timedelta(days=1)


def logged(answer: Answer, of: Business) -> log_pb2.DecisionLogged:
    return log_pb2.LogEntry.FromString(written(answer, of)).decision


def explained(answer: Answer, of: Business, action: str = "") -> list[pb.Candidate]:
    request = pb.ExplainRequest(decision_id="id", action=action)
    return list(explain.explain(logged(answer, of), request, of).candidates)


def told(answer: Answer, of: Business, action: str = "a", placement: str = "hint") -> pb.Candidate:
    (one,) = (one for one in explained(answer, of, action) if one.placement == placement)
    return one


# What a filter may hold against `a`, in the order in which it would be told


class Hindrance(NamedTuple):
    """Something that keeps an action back, and nothing else."""

    action: Mapping[str, Any] = {}
    policies: Mapping[str, Any] = {}
    asked: Mapping[str, Any] = {}
    attributes: Mapping[str, Told] = {}
    willing: bool = True
    ledger: tuple[Any, ...] = ()
    lost: str = ""  # part of the customer that could not be read


HINDRANCES: dict[str, Hindrance] = {
    "NO_DEFAULT": Hindrance(asked={"unscored": Reason("OUT_OF_TIME", "late")}),
    "NO_TREATMENT": Hindrance(action={"treatments": [Treatment("say", ["banner"])]}),
    "NO_CONSENT": Hindrance(action={"purpose": "marketing"}, willing=False),
    "CONSENT_UNREADABLE": Hindrance(action={"purpose": "marketing"}, lost="profile"),
    "NOT_ALLOWED": Hindrance(asked={"allow": ["c", "p", "q"]}),
    "BLOCKED": Hindrance(asked={"block": ["a"]}),
    "NOT_VALID_NOW": Hindrance(action={"valid": Validity(until=YESTERDAY)}),
    "ASSURANCE_TOO_LOW": Hindrance(action={"assurance": "verified"}, asked={"assurance": 2}),
    "RULE": Hindrance(
        action={"eligibility": [Rule("rule-e", "context.channel == 'chat'", "Only in a chat.")]}
    ),
    "RULE_UNKNOWN": Hindrance(
        action={"suitability": [Rule("rule-s", "customer.age > 17.0", "Only for adults.")]}
    ),
    "LEDGER_UNREADABLE": Hindrance(
        policies={"limits": [Limit("limit-l", 1, "7d", action="a")]}, lost="ledger"
    ),
    "CONTACT_LIMIT": Hindrance(
        policies={"limits": [Limit("limit-l", 1, "7d", action="a")]}, ledger=(shown_before("a"),)
    ),
    "SUPPRESSED": Hindrance(
        policies={"suppressions": [Suppression("supp-n", "rejected", 1, "30d", "9d", action="a")]},
        ledger=(shown_before("a", outcome=Outcome.rejected),),
    ),
    "CEILING": Hindrance(
        policies={"ceilings": [Ceiling("ceil-d", "day", volume=5, action="a")]},
        asked={"full_ceilings": frozenset({"ceil-d"})},
    ),
    "QUIET_HOURS": Hindrance(
        policies={
            "quiet_hours": [
                QuietHours(
                    "quiet-n",
                    (MOMENT - datetime.timedelta(hours=1)).time(),
                    (MOMENT + datetime.timedelta(hours=1)).time(),
                    ["phone"],
                    ["inbound"],
                    group="sales",
                )
            ]
        }
    ),
    "PART_DROPPED": Hindrance(asked={"block": ["p"]}),
}
"""PART_DROPPED is last: it says what other causes mean for a bundle."""

ORDER = list(HINDRANCES)
APART = [{"NO_CONSENT", "CONSENT_UNREADABLE"}, {"LEDGER_UNREADABLE", "CONTACT_LIMIT"},
         {"LEDGER_UNREADABLE", "SUPPRESSED"}]  # fmt: skip


def hindered(codes: Iterable[str]) -> tuple[Business, Inputs]:
    """A decision in which `a`, a bundle and by far the best, is kept back by these alone."""
    chosen = set(codes)
    action: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    asked: dict[str, Any] = {"greedy": True}
    ledger: list[Any] = []
    adult = {"age": Told(30.0, NOW)}
    profile: Profile | None = Profile(adult, WILLING.consents)
    for code in chosen:
        one = HINDRANCES[code]
        action |= one.action
        for name, value in one.policies.items():
            policies[name] = [*policies.get(name, []), *value]
        for name, value in one.asked.items():
            asked[name] = [*asked.get(name, []), *value] if name == "block" else value
        ledger += one.ledger
    if "NO_CONSENT" in chosen:
        profile = Profile(adult, [])
    if "RULE_UNKNOWN" in chosen:
        assert profile is not None
        profile = Profile({}, profile.consents)
    if "CONSENT_UNREADABLE" in chosen:
        profile = None
    known = Known(EMPTY, None if "LEDGER_UNREADABLE" in chosen else chained(ledger), profile)
    of = shop(
        [
            thing("a", 50.0, "sales", parts=["p", "q"], **action),
            thing("c", 1.0), thing("p", 2.0, "more"), thing("q", 2.0, "more"),
        ],
        {"defaults": [*(() if "NO_DEFAULT" in chosen else ("a",)), "c"], "max_actions": 4},
        **policies,
    )  # fmt: skip
    return of, given_(known=known, **asked)


def fits(codes: set[str]) -> bool:
    # Without a profile an age is not known either.
    unknown = "CONSENT_UNREADABLE" not in codes or "RULE_UNKNOWN" in codes
    return unknown and not any(pair <= codes for pair in APART)


def expected(codes: set[str]) -> list[str]:
    """Codes in the order of the stages."""
    return [code for code in ORDER if code in codes]


@settings(max_examples=120)
@given(st.sets(st.sampled_from(ORDER)).filter(fits))
def test_the_first_that_holds_decides_all_others_are_named_and_lifting_all_lets_it_pass(
    codes: set[str],
) -> None:
    of, inputs = hindered(codes)
    one = told(decide(of, inputs), of)
    reasons = [reason.code for reason in (one.reason, *one.also) if reason.code]
    assert reasons == expected(codes)
    if not codes:
        assert one.rank == 1
        assert not one.dropped_by
        assert not one.HasField("change")
        return
    assert list(one.change.factors) == reasons, "all of it has to be lifted"
    assert one.rank == 0
    assert not one.HasField("factors")
    for lifted in codes:
        left = codes - {lifted}
        if fits(left):
            of, inputs = hindered(left)
            again = told(decide(of, inputs), of)
            assert again.reason.code == (expected(left) or [""])[0]


# What may happen to `a` where no filter keeps it back


class Scene(NamedTuple):
    """A decision in which a reason decides, and one in which it is lifted."""

    of: Business
    inputs: Inputs
    lifted_of: Business
    lifted: Inputs
    refused: tuple[str, ...] = ()
    stage: pb.Stage.ValueType = pb.STAGE_ARBITRATION


def by_filter(code: str) -> Scene:
    more = {"RULE_UNKNOWN"} if code == "CONSENT_UNREADABLE" else set()
    of, inputs = hindered({code, *more})
    stages = {
        "RULE_UNKNOWN": pb.STAGE_SUITABILITY, "PART_DROPPED": pb.STAGE_SUITABILITY,
        **dict.fromkeys(
            ("LEDGER_UNREADABLE", "CONTACT_LIMIT", "SUPPRESSED", "CEILING", "QUIET_HOURS"),
            pb.STAGE_CONTACT_POLICY,
        ),
    }  # fmt: skip
    return Scene(of, inputs, *hindered(()), stage=stages.get(code, pb.STAGE_ELIGIBILITY))


def no_priority() -> Scene:
    of = shop([thing("a", 2.0), thing("c", 9.0)], {"nothing": 2.0})
    better = shop([thing("a", 2.1), thing("c", 9.0)], {"nothing": 2.0})
    return Scene(of, given_(greedy=True), better, given_(greedy=True))


def shown_elsewhere() -> Scene:
    of = shop([thing("a", 9.0), thing("c", 1.0)])
    return Scene(of, given_("banner", "hint"), of, given_("hint"))


def group_full() -> Scene:
    actions = [thing("a", 5.0, "sales"), thing("b", 9.0, "sales"), thing("c", 1.0)]
    return Scene(
        shop(actions, {"per_group": 1}), given_(), shop(actions, {"per_group": 2}), given_()
    )


def bundled() -> Scene:
    actions = [thing("a", 5.0), thing("c", 1.0), thing("x", 9.0, parts=["a", "c"])]
    of = shop(actions)
    return Scene(of, given_(), of, given_(block=["x"]))


def ranked_lower() -> Scene:
    of = shop([thing("a", 5.0), thing("c", 9.0)], {"max_actions": 1})
    return Scene(of, given_(), of, given_(max_actions=2))


def drawn_with(seed_of: Callable[[Answer, Business], bool], **exploration: float) -> Scene:
    how = Exploration(**exploration)
    of = shop([thing("a", 9.0), thing("c", 8.0)], {"max_actions": 1, "exploration": how})
    pipeline = Pipeline(of)
    seed = next(n for n in range(100) if seed_of(decide(pipeline, given_(seed=n)), of))
    stage = pb.STAGE_EXPLORATION
    return Scene(of, given_(seed=seed), of, given_(seed=seed, greedy=True), stage=stage)


def not_drawn() -> Scene:
    return drawn_with(lambda answer, of: names(answer, of) == {"hint": ["c"]}, temperature=1.0)


def held_back() -> Scene:
    return drawn_with(lambda answer, of: answer.slates[0].held_back, hold_back=0.5)


def held_out() -> Scene:
    actions = [thing("a", 9.0), thing("c", 8.0)]
    out = shop(actions, control=ControlGroups(hold_out=1.0))
    return Scene(out, given_(), shop(actions), given_(), stage=pb.STAGE_EXPLORATION)


def reservation_failed() -> Scene:
    of = shop(
        [thing("a", 9.0), thing("c", 8.0)],
        {"max_actions": 1, "defaults": ["c"]},
        limits=[Limit("limit-l", 1, "7d", action="a")],
    )
    return Scene(of, given_(), of, given_(), refused=("a",), stage=pb.STAGE_CONTACT_POLICY)


def limit_full() -> Scene:
    few = Limit("limit-l", 1, "7d", issue="grow", per="issue")
    actions = [thing("a", 5.0, issue="grow"), thing("c", 9.0, issue="grow"), thing("b", 1.0)]
    return Scene(
        shop(actions, limits=[few]),
        given_(),
        shop(actions, limits=[msgspec.structs.replace(few, at_most=2)]),
        given_(),
        stage=pb.STAGE_CONTACT_POLICY,
    )


SCENES: dict[str, Callable[[], Scene]] = {
    "NO_PRIORITY": no_priority,
    "SHOWN_ELSEWHERE": shown_elsewhere,
    "GROUP_FULL": group_full,
    "BUNDLED": bundled,
    "RANKED_LOWER": ranked_lower,
    "NOT_DRAWN": not_drawn,
    "HELD_BACK": held_back,
    "HELD_OUT": held_out,
    "RESERVATION_FAILED": reservation_failed,
    "LIMIT_FULL": limit_full,
}


def scene_of(code: str) -> Scene:
    return SCENES[code]() if code in SCENES else by_filter(code)


def test_there_is_a_decision_for_every_reason_and_no_other_reason() -> None:
    assert set(SCENES) | set(HINDRANCES) == voices.CODES
    assert not set(SCENES) & set(HINDRANCES)


@pytest.mark.parametrize("code", sorted(voices.CODES))
def test_every_reason_is_decisive_somewhere_and_what_it_held_back_passes_without_it(
    code: str,
) -> None:
    scene = scene_of(code)
    answer = decide(scene.of, scene.inputs, scene.refused)
    one = told(answer, scene.of)
    assert (one.reason.code, one.dropped_by) == (code, scene.stage)
    assert one.reason.text
    once(answer, scene.of)
    again = decide(scene.lifted_of, scene.lifted)
    assert "a" in names(again, scene.lifted_of)["hint"]
    lifted = told(again, scene.lifted_of)
    assert not lifted.reason.code
    assert not lifted.HasField("change")


def once(answer: Answer, of: Business) -> None:
    """Check that each placement and action has one reason, or is in the answer."""
    found = explained(answer, of)
    asked = answer.weighed.inputs.question.placements
    counted = Counter((one.placement, one.action) for one in found)
    assert counted == Counter((p, a.name) for p in asked for a in of.actions)
    shown = {(p, name) for p, some in names(answer, of).items() for name in some}
    for one in found:
        if (one.placement, one.action) in shown:
            assert not one.reason.code
            assert one.dropped_by == pb.STAGE_UNSPECIFIED
            assert not one.also
        else:
            assert one.reason.code in voices.CODES
            assert one.reason.text
            assert one.dropped_by != pb.STAGE_UNSPECIFIED
            assert one.change.text
        assert one.voices.agent
        assert one.voices.customer
        assert one.voices.auditor


@settings(max_examples=150)
@given(situations(), st.data())
def test_whatever_is_decided_each_placement_and_action_has_one_reason(
    situation: tuple[Business, Inputs], data: st.DataObject
) -> None:
    of, inputs = situation
    wanted = {of.actions[want.row].name for want in Pipeline(of).weigh(inputs, None).wants}
    refused = data.draw(st.sets(st.sampled_from(sorted(wanted)))) if wanted else set()
    once(decide(of, inputs, refused), of)


def secrets(of: Business) -> set[str]:
    """Names that are nobody's business but ours."""
    policies = of.policies
    named: list[Any] = [*policies.limits, *policies.suppressions, *policies.ceilings,
                        *policies.quiet_hours]  # fmt: skip
    rules = [
        one.name for action in of.actions for one in (*action.eligibility, *action.suitability)
    ]
    return {*(one.name for one in named), *rules, "sales", "care group", "hint", "priority",
            "model", "ceiling", "limit", "rule"}  # fmt: skip


@pytest.mark.parametrize("code", sorted(voices.CODES))
def test_customers_hear_what_concerns_them_without_our_names_agents_and_auditors_more(
    code: str,
) -> None:
    scene = scene_of(code)
    one = told(decide(scene.of, scene.inputs, scene.refused), scene.of)
    customer = one.voices.customer.lower()
    assert len(customer) > 20
    assert customer.endswith(".")
    assert code.lower() not in customer
    for name in secrets(scene.of):
        assert not re.search(rf"\b{re.escape(name)}s?\b", customer)
    assert one.reason.text.split(" (")[0].rstrip(".") in one.voices.agent
    assert one.voices.agent.endswith(".")
    assert not one.voices.agent.endswith("..")
    assert code in one.voices.auditor
    assert pb.Stage.Name(one.dropped_by).removeprefix("STAGE_").lower() in one.voices.auditor


def test_what_is_shown_is_said_with_its_numbers() -> None:
    of = shop([thing("a", 9.0)])
    one = told(decide(of, given_()), of)
    assert "50%" in one.voices.agent
    assert "selection probability 1" in one.voices.auditor
    assert "priority 9" in one.voices.auditor
    assert one.voices.customer


def test_all_that_spoke_against_it_is_told_to_the_auditor() -> None:
    of, inputs = hindered({"BLOCKED", "CEILING", "QUIET_HOURS"})
    assert "also CEILING, QUIET_HOURS" in told(decide(of, inputs), of).voices.auditor


# Texts


def test_what_lost_to_better_ones_is_told_how_many() -> None:
    of = shop([thing(name, 9.0 - n) for n, name in enumerate("bca")], {"max_actions": 1})
    answer = decide(of, given_())
    assert told(answer, of, "c").reason.text == "1 other action ranks higher"
    assert told(answer, of, "a").reason.text == "2 other actions rank higher"


def test_what_lost_to_a_mandatory_one_is_told_so_though_nothing_has_a_higher_priority() -> None:
    of = shop([thing("a", 9.0), thing("m", 1.0, mandatory=True)], {"max_actions": 1})
    answer = decide(of, given_())
    assert names(answer, of) == {"hint": ["m"]}
    assert told(answer, of).reason.text == "1 other action ranks higher"


# One action, and contributions


def test_one_action_may_be_asked_for() -> None:
    of, inputs = hindered(())
    answer = decide(of, inputs)
    assert {one.action for one in explained(answer, of, "c")} == {"c"}
    assert {one.action for one in explained(answer, of)} == {"a", "c", "p", "q"}


def test_what_there_was_no_time_for_is_not_told_to_lack_a_treatment() -> None:
    of, inputs = hindered({"NO_DEFAULT", "NO_TREATMENT"})
    assert told(decide(of, inputs), of).reason.code == "NO_DEFAULT"


def decided(models: Models) -> log_pb2.DecisionLogged:
    inputs = given_("agent_hint", known=STRANGER, greedy=True)
    return logged(decide(bank(), inputs, models=models), bank())


def test_contributions_and_base_add_up_to_what_the_model_said() -> None:
    models = Models(sealed(), bank())
    decision = decided(models)
    assert decision.response.slates[0].recommendations
    for one in decision.response.slates[0].recommendations:
        seen = explain.seen(decision, one.action, models)
        found = explain.contributions(models.contributions(seen))
        total = math.fsum(part.log_odds for part in found)
        assert 1 / (1 + math.exp(-total)) == pytest.approx(
            one.factors.model_probability, abs=1e-9
        )  # fmt: skip


def test_contributions_need_the_bundle_that_decided() -> None:
    models = Models(sealed(), bank())
    decision = decided(models)
    action = decision.response.slates[0].recommendations[0].action
    with pytest.raises(Precondition, match="not in charge any more"):
        explain.seen(decision, action, None)
    with pytest.raises(Precondition, match="was not in the answer"):
        explain.seen(decision, "gold_credit_card", models)


def test_what_is_explained_is_the_decision_as_it_was_logged() -> None:
    of, inputs = hindered({"BLOCKED"})
    decision = logged(decide(of, inputs), of)
    found = explain.explain(decision, pb.ExplainRequest(), of)
    assert (found.decision_id, found.rung) == ("id", pb.RUNG_WITHOUT_MODELS)
    assert found.decided_at == decision.response.decided_at
    assert found.versions == decision.response.versions
    assert not found.contributions
    assert np.isfinite([one.factors.priority for one in found.candidates]).all()
